"""vLLM itself behind the real daemon: streams, thoughts, tools, forms, eight users, readers who leave, kill -9, a flag.

The answers are the tiny R1's goldens, to the letter: the same that llama.cpp gives.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from typing import Any

import psutil

from tests.e2e.box import FIXTURES, Box, gather, goldens, loops, stream
from tests.vllm.conftest import VllmBench, admin

LANDING = "I have thought long enough. I will answer now."


async def test_golden_answers_by_eight_users_at_a_time(served: Box, bench: VllmBench) -> None:
    known = goldens("capital", "sum", "fact", "json")
    async with served.client() as client:
        for place in range(0, len(known), 8):
            part = known[place : place + 8]
            answers = await gather(*(stream(client, bench.model, golden.messages) for golden in part))
            for golden, answer in zip(part, answers, strict=True):
                assert (answer.reasoning.strip(), answer.content.strip()) == (
                    golden.reasoning.strip(),
                    golden.content.strip(),
                ), golden.id
                assert answer.usage.completion_tokens in (golden.completion_tokens, golden.completion_tokens - 1)


def test_a_slow_start_was_told_as_progress(served: Box, bench: VllmBench) -> None:
    assert bench.fractions == sorted(bench.fractions)
    assert len(set(bench.fractions)) >= 3


def test_operators_see_the_engine(served: Box, bench: VllmBench) -> None:
    (entry,) = admin(served, "/api/admin/models")["models"]
    assert (entry["engine"], entry["engine_build"]) == ("vllm", "0.32.0")


async def test_thoughts_end_at_their_budget_and_where_they_go_in_circles(served: Box, bench: VllmBench) -> None:
    undecidable = loops()[0]
    async with served.client() as client:
        circles = await stream(client, bench.model, undecidable)
        budget = await stream(
            client, bench.model, undecidable, extra_body={"thinking": {"type": "enabled", "budget_tokens": 60}}
        )
    assert circles.usage.model_extra["thinking_end"] == "loop"
    assert budget.usage.model_extra["thinking_end"] == "budget"
    for answer in (circles, budget):
        assert answer.reasoning.endswith(LANDING)
        assert answer.content == "This cannot be decided."


async def test_a_form_binds_the_answer_alone(served: Box, bench: VllmBench) -> None:
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
        "additionalProperties": False,
    }
    form: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    (golden, *_) = goldens("fact")
    async with served.client() as client:
        answer = await stream(client, bench.model, golden.messages, response_format=form)
    assert list(json.loads(answer.content)) == ["ok"]
    assert answer.reasoning.strip() == golden.reasoning.strip()


async def test_tools_are_called(served: Box, bench: VllmBench) -> None:
    entries = json.loads((FIXTURES / "prompts.json").read_text())["prompts"]
    entry = next(one for one in entries if one["kind"] == "tool_call")
    async with served.client() as client:
        answer = await client.chat.completions.create(
            model=bench.model, messages=entry["messages"], tools=entry["tools"], temperature=0
        )
    (choice,) = answer.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls
    json.loads(choice.message.tool_calls[0].function.arguments)  # type: ignore[union-attr]


async def test_a_reader_who_leaves_ends_it_at_vllm(served: Box, bench: VllmBench) -> None:
    async with served.client() as client:
        answer: Any = await client.chat.completions.create(
            model=bench.model, messages=loops()[1], stream=True, temperature=0, max_tokens=1500,  # type: ignore[arg-type]
        )  # fmt: skip
        async for _ in answer:
            break
        await answer.close()
    async with asyncio.timeout(60):
        while admin(served, "/api/admin/models")["models"][0]["running"]:
            await asyncio.sleep(0.05)


async def test_a_killed_vllm_under_load_gives_each_one_ending_and_comes_back(served: Box, bench: VllmBench) -> None:
    async with served.client() as client:
        tasks = [asyncio.create_task(stream(client, bench.model, loops()[1], max_tokens=1500)) for _ in range(40)]
        while admin(served, "/api/admin/models")["models"][0]["running"] < 8:
            await asyncio.sleep(0.02)
        (server,) = [
            one
            for one in psutil.Process(served.process.pid).children()
            if "vllm.entrypoints" in " ".join(one.cmdline())
        ]
        family = [server, *server.children(recursive=True)]
        os.kill(server.pid, signal.SIGKILL)
        endings = await gather(*tasks)
        assert len(endings) == 40
        assert all(isinstance(ending, Exception) for ending in endings[:8])
        _, alive = psutil.wait_procs(family, timeout=30)
        assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]
        await asyncio.to_thread(bench.wait_ready, served, again=True)
        (golden, *_) = goldens("capital")
        answer = await stream(client, bench.model, golden.messages)
        assert answer.content.strip() == golden.content.strip()


def test_a_wrong_flag_is_an_issue_with_vllms_own_reason(bench: VllmBench) -> None:
    box = bench.start(R1BOX_ENGINE_ARGUMENTS="--max-model-length 5")
    try:

        def issue() -> Any:
            issues = admin(box, "/api/admin/issues")["issues"]
            return next((one for one in issues if one["code"] == "model_not_loaded"), None)

        for _ in range(3000):
            found = issue()
            if found is not None:
                break
            asyncio.run(asyncio.sleep(0.1))
        assert found is not None
        assert "vLLM says: unrecognized arguments: --max-model-length" in found["message"]
    finally:
        box.stop()
