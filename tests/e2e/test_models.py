"""Several models in one daemon: the tiny R1 in two quantizations, each in a worker of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.e2e.box import FIXTURES, Box, Home, goldens, start_box, stream

TINY_Q4 = FIXTURES / "gguf" / "Tiny-R1-Q4_K_M.gguf"


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Box, str, str]]:
    """A box with two models: (box, the default that it starts with, the other)."""
    home = Home(tmp_path_factory.mktemp("two"))
    first, second = home.import_model(), home.import_model(TINY_Q4)
    box = start_box(home, "--seats", "4", "--context", "1024", key=home.create_key("tests"))
    yield box, first, second
    assert box.stop() == 0


def workers(box: Box) -> list[psutil.Process]:
    """The workers, oldest first."""
    children = psutil.Process(box.process.pid).children(recursive=True)
    found = [one for one in children if "appliance.engine.llamacpp.worker" in " ".join(one.cmdline())]
    return sorted(found, key=lambda one: one.create_time())


def admin(box: Box, path: str = "", **body: object) -> httpx.Response:
    headers = {"Authorization": f"Bearer {box.key}"}
    if not path:
        return httpx.get(f"{box.url}/api/admin/models", headers=headers, timeout=60)
    return httpx.post(f"{box.url}/api/admin/models/{path}", headers=headers, json=body, timeout=60)


def states(box: Box) -> dict[str, str]:
    return {entry["id"]: entry["state"] for entry in admin(box).json()["models"]}


def models(box: Box) -> dict[str, str]:
    headers = {"Authorization": f"Bearer {box.key}"}
    data = httpx.get(f"{box.url}/v1/models", headers=headers).json()["data"]
    return {card["id"]: card["state"] for card in data}


async def test_a_request_loads_its_model_and_says_how_far_it_is(two: tuple[Box, str, str]) -> None:
    box, first, second = two
    admin(box, f"{second}/unload")
    assert models(box) == {first: "ready", second: "installed"}
    assert len(workers(box)) == 1
    golden = goldens("capital")[0]
    body = {"model": second, "messages": golden.messages, "temperature": 0, "stream": True}
    reply = box.post(body)
    assert reply.status_code == 200
    lines = reply.text.splitlines()
    assert lines[0].startswith(f": loading model={second} percent=")
    deltas = [json.loads(line[6:])["choices"] for line in lines if line.startswith("data: {")]
    text = "".join(choice["delta"].get("content") or "" for choices in deltas for choice in choices)
    assert "Paris" in text
    assert lines[-2] == "data: [DONE]"
    assert models(box) == {first: "ready", second: "ready"}
    assert len(workers(box)) == 2
    assert list(models(box)) == [first, second]  # the default comes first


async def test_both_answer_at_once(two: tuple[Box, str, str]) -> None:
    box, first, second = two
    golden = goldens("capital")[0]
    async with box.client() as client:
        answers = await asyncio.gather(*(stream(client, model, golden.messages) for model in (first, second) * 3))
    assert [answer.content for answer in answers if "Paris" in answer.content] == [a.content for a in answers]
    assert answers[0].content == golden.content


async def test_a_killed_worker_takes_no_answer_of_the_other_model(two: tuple[Box, str, str]) -> None:
    box, first, second = two
    admin(box, f"{second}/load")
    killed = workers(box)[-1]
    loops = [{"role": "user", "content": "Count for ever."}]
    async with box.client() as client:
        on_second = asyncio.gather(
            *(stream(client, second, loops, max_tokens=900) for _ in range(2)), return_exceptions=True
        )
        on_first = asyncio.create_task(stream(client, first, goldens("capital")[0].messages))
        killed.kill()
        answer = await on_first
        await on_second
    assert answer.content == goldens("capital")[0].content
    assert workers(box)[0].is_running()
    box.wait_until(lambda: states(box)[second] == "ready" and len(workers(box)) == 2)
    restarted = {entry["id"]: entry["restarts"] for entry in admin(box).json()["models"]}
    assert (restarted[first], restarted[second]) == (0, 1)
    metrics = httpx.get(f"{box.url}/metrics", headers={"Authorization": f"Bearer {box.key}"}).text
    assert f'r1box_engine_restarts{{model="{second}"}} 1.0' in metrics
    assert f'r1box_engine_state{{model="{first}",state="ready"}} 1.0' in metrics


async def test_unload_lets_answers_end(two: tuple[Box, str, str]) -> None:
    box, first, second = two
    admin(box, f"{second}/load")
    golden = goldens("capital")[0]
    async with box.client() as client:
        running = [asyncio.create_task(stream(client, second, golden.messages)) for _ in range(6)]
        await asyncio.to_thread(box.wait_until, lambda: _running(box, second) > 0 or all(t.done() for t in running))
        unloaded = await asyncio.to_thread(admin, box, f"{second}/unload")
        answers = await asyncio.gather(*running)
    assert (unloaded.status_code, unloaded.json()["state"]) == (200, "installed")
    assert all("Paris" in answer.content for answer in answers)
    assert len(workers(box)) == 1
    assert box.readyz()["model"] == first


def _running(box: Box, model: str) -> int:
    return next(int(entry["running"]) for entry in admin(box).json()["models"] if entry["id"] == model)


def test_another_default_is_kept_for_the_next_start(two: tuple[Box, str, str], tmp_path: Path) -> None:
    box, first, second = two
    done = admin(box, f"{second}/activate")
    assert (done.status_code, done.json()["default"], done.json()["state"]) == (200, True, "ready")
    assert box.readyz()["model"] == second
    assert admin(box, f"{first}/activate").json()["default"] is True


def test_what_is_not_installed_is_not_loaded(two: tuple[Box, str, str]) -> None:
    box, *_ = two
    assert admin(box, "r1-900b/load").status_code == 404
    reply = box.post({"model": "r1-900b", "messages": [{"role": "user", "content": "Hi"}]})
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "model_not_found")
    reply = box.post({"model": "r1-900b", "messages": [{"role": "user", "content": "Hi"}], "stream": True})
    assert reply.status_code == 404


def test_an_operator_sees_and_mends_a_crash_loop(tmp_path: Path) -> None:
    """From the command line alone: what is loaded, what is wrong, a fix-up, and that it is gone."""
    home = Home(tmp_path)
    model = home.import_model()
    key = home.create_key("operator")
    box = start_box(home, "--seats", "2", "--context", "512", key=key)
    try:
        home.environment["R1BOX_API_KEY"] = key

        def run(*arguments: str, check: bool = True) -> str:
            return home.run(*arguments, "--url", box.url, check=check).stdout

        assert "Nothing needs attention." in run("issues")
        assert f"{model} (default)" in run("models", "ps")
        for _ in range(3):
            box.wait_until(lambda: states(box)[model] == "ready")
            box.worker().kill()
            box.wait_until(lambda: states(box)[model] != "ready")
        box.wait_until(lambda: states(box)[model] == "ready")
        found = json.loads(run("issues", "--json", check=False))["issues"]
        assert [(issue["id"], issue["severity"]) for issue in found] == [(f"engine_crash_loop@{model}", "error")]
        assert home.run("issues", "--url", box.url, check=False).returncode == 3
        assert f"{model} is whole." in run("issues", "--fix", f"engine_crash_loop@{model}/verify_model", check=False)
        assert "installed" in run("models", "unload", model)
        assert "ready, 2 x 512 on the processor, the default" in run("models", "load", model)
        wrong = home.run("models", "load", "none", "--url", box.url, check=False)
        assert (wrong.returncode, "none" in wrong.stderr) == (1, True)
    finally:
        assert box.stop() == 0
    gone = home.run("issues", "--url", box.url, check=False)
    assert gone.returncode == 1
    assert "does not answer" in gone.stderr
