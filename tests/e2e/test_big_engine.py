"""A model in safetensors behind the real daemon, served by a process that speaks vLLM's protocol.

``make test-vllm`` runs the same with vLLM itself (tests/vllm).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.box import FIXTURES, Box, Home, gather, start_box, stream
from tests.fakes.engine_server import ANSWER, ENDLESS, LONG_THOUGHT, THOUGHT, Faults
from tests.fakes.fake_vllm import FakeVllm

QUESTION = [{"role": "user", "content": "Where is Paris?"}]


class Bench:
    """A home whose model is the tiny R1's folder, and the engine that serves it."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder)
        self.vllm = FakeVllm(folder / "vllm")
        self.home.environment["R1BOX_ENGINE_PYTHON"] = str(self.vllm.python)
        self.model = self.home.import_model(FIXTURES / "hf")
        self.key = self.home.create_key("tests")

    def start(self, *, wait: bool = True, **more: str) -> Box:
        self.home.environment |= more
        try:
            return start_box(
                self.home, "--model", self.model, "--seats", "8", "--context", "4096", key=self.key, wait=wait
            )
        finally:
            for name in more:
                del self.home.environment[name]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("big"))


@pytest.fixture(scope="module")
def served(bench: Bench) -> Iterator[Box]:
    running = bench.start()
    yield running
    assert running.stop() == 0


def admin(box: Box, path: str) -> Any:
    answer = httpx.get(f"{box.url}{path}", headers={"Authorization": f"Bearer {box.key}"}, timeout=30)
    answer.raise_for_status()
    return answer.json()


async def test_a_streamed_chat_has_its_thought_apart(served: Box, bench: Bench) -> None:
    async with served.client() as client:
        answer = await stream(client, bench.model, QUESTION)
    assert (answer.reasoning, answer.content, answer.finish_reason) == (THOUGHT * 3, ANSWER, "stop")
    assert answer.usage.completion_tokens_details.reasoning_tokens > 0


async def test_the_engine_got_the_plan_and_the_stores_template(served: Box, bench: Bench) -> None:
    argv = bench.vllm.argv
    assert argv[:2] == ["-m", "vllm.entrypoints.openai.api_server"]
    said = dict(pairwise(argv))
    assert (said["--max-num-seqs"], said["--max-model-len"]) == ("8", "4096")
    assert "<｜Assistant｜>" in Path(said["--chat-template"]).read_text()
    assert bench.key not in " ".join(argv)


async def test_a_thought_lands_at_its_budget(served: Box, bench: Bench) -> None:
    messages = [{"role": "user", "content": f"Please {LONG_THOUGHT}."}]
    async with served.client() as client:
        answer = await stream(
            client, bench.model, messages, extra_body={"thinking": {"type": "enabled", "budget_tokens": 60}}
        )
    assert answer.content == ANSWER
    assert answer.usage.model_extra["thinking_end"] == "budget"
    assert answer.usage.completion_tokens_details.reasoning_tokens <= 60 + 40


async def test_a_form_binds_the_answer_alone(served: Box, bench: Bench) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    async with served.client() as client:
        answer = await stream(client, bench.model, QUESTION, response_format=form)
    assert json.loads(answer.content) == {"ok": True}
    assert answer.reasoning.startswith(THOUGHT.strip())


async def test_eight_users_at_once(served: Box, bench: Bench) -> None:
    async with served.client() as client:
        answers = await gather(*(stream(client, bench.model, QUESTION) for _ in range(8)))
    assert [answer.content for answer in answers] == [ANSWER] * 8


async def test_a_prompt_that_does_not_fit_is_refused_with_exact_numbers(served: Box, bench: Bench) -> None:
    answer = served.post({"model": bench.model, "messages": [{"role": "user", "content": "word " * 5000}]})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"


def test_operators_see_engine_and_its_figures(served: Box, bench: Bench) -> None:
    (entry,) = admin(served, "/api/admin/models")["models"]
    assert (entry["state"], entry["engine"], entry["seats"]) == ("ready", "vllm", 8)
    assert "installed" in entry["why_engine"]
    told = httpx.get(f"{served.url}/metrics", headers={"Authorization": f"Bearer {served.key}"}).text
    families = text_string_to_metric_families(told)
    samples = {sample.name: sample for family in families for sample in family.samples}
    assert samples["r1box_engine_preemptions_total"].value == 3
    assert samples["r1box_engine_preemptions_total"].labels["model"] == bench.model


@pytest.fixture
def own(bench: Bench) -> Iterator[Any]:
    """Starts a box of a test's own; its engine does what goes wrong."""
    running: list[Box] = []

    def start(faults: Faults = Faults(), *, wait: bool = True, **more: str) -> Box:  # noqa: B008 - a value
        bench.vllm.goes_wrong(faults)
        running.append(bench.start(wait=wait, **more))
        return running[-1]

    yield start
    for one in running:
        one.stop()
    bench.vllm.goes_wrong(Faults())


async def test_a_killed_server_gives_each_one_ending_and_comes_back(own: Any, bench: Bench) -> None:
    box: Box = own()
    messages = [{"role": "user", "content": ENDLESS}]
    async with box.client() as client:
        tasks = [asyncio.create_task(stream(client, bench.model, messages, max_tokens=3500)) for _ in range(8)]
        while not all(tasks_running(box, 8)):
            await asyncio.sleep(0.02)
        os.kill(server_of(box), signal.SIGKILL)
        endings = await gather(*tasks)
        assert all(isinstance(ending, Exception) for ending in endings)
        box.wait_ready()
        assert (await stream(client, bench.model, QUESTION)).content == ANSWER


def tasks_running(box: Box, count: int) -> Iterator[bool]:
    (entry,) = admin(box, "/api/admin/models")["models"]
    yield entry["running"] == count


def server_of(box: Box) -> int:
    children = psutil.Process(box.process.pid).children()
    servers = [one for one in children if "vllm.entrypoints" in " ".join(one.cmdline())]
    assert len(servers) == 1
    return servers[0].pid


def test_a_wrong_flag_is_an_issue_with_the_logs_own_reason(own: Any, bench: Bench) -> None:
    box: Box = own(wait=False, R1BOX_ENGINE_ARGUMENTS="--max-model-length 5 --dtype 'auto'")

    def issue() -> Any:
        issues = admin(box, "/api/admin/issues")["issues"]
        return next((one for one in issues if one["code"] == "model_not_loaded"), None)

    found = box.wait_until(issue)
    assert "vLLM says: unrecognized arguments: --max-model-length" in found["message"]
    assert {one["name"] if isinstance(one, dict) else one for one in found["fixups"]} >= {"reload_model"}
    ready = box.readyz()
    assert "unrecognized arguments" in json.dumps(ready)


def test_a_slow_start_is_told_as_progress(own: Any, bench: Bench) -> None:
    log = ("Loading safetensors checkpoint shards:  50% Completed | 2/4 [00:02<00:02]",)
    box: Box = own(Faults(start_log=log, never_ready=True), wait=False)

    def fraction() -> Any:
        (entry,) = admin(box, "/api/admin/models")["models"]
        return entry["load_fraction"]

    box.wait_until(lambda: (fraction() or 0) >= 0.9)
    assert (box.readyz()["state"], box.readyz()["model"]) == ("starting", bench.model)
