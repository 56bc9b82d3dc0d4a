"""Two real daemons as one cluster, on the loopback with ports of their own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.appliance.cluster.parts import LOOPBACK, free_port
from tests.e2e.box import FIXTURES, Box, Home, gather, start_box, stream
from tests.fakes.engine_server import ANSWER, ENDLESS, THOUGHT
from tests.fakes.fake_vllm import FakeVllm


class Pair:
    """A box that leads and one that joins; neither has a model."""

    def __init__(self, folder: Path) -> None:
        self.homes = [Home(folder / "one"), Home(folder / "two")]
        self.boxes: list[Box] = []
        for home in self.homes:
            self.boxes.append(start_box(home, key=home.create_key("tests"), wait=False))
        self.port = free_port()
        self.homes[0].run("cluster", "init", "--address", LOOPBACK, "--port", str(self.port), "--name", "box-1")

    def join(self) -> None:
        token = self.homes[0].run("cluster", "invite", "--quiet").stdout.strip()
        # The daemon begins to listen within a second or so.
        self.boxes[0].wait_until(lambda: self.status(0)["role"] == "leader")
        self.homes[1].run("cluster", "join", "--name", "box-2", token)

    def status(self, number: int) -> Any:
        box = self.boxes[number]
        answer = httpx.get(f"{box.url}/api/admin/cluster", headers={"Authorization": f"Bearer {box.key}"}, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def states(self, number: int) -> dict[str, str]:
        return {box["name"]: box["state"] for box in self.status(number)["boxes"]}

    def stop(self) -> None:
        for box in self.boxes:
            box.stop()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    found = Pair(tmp_path_factory.mktemp("cluster"))
    try:
        yield found
    finally:
        found.stop()


BOTH = {"box-1": "here", "box-2": "here"}


def test_two_boxes_find_each_other_and_say_so(pair: Pair) -> None:
    assert pair.status(1) == {**pair.status(1), "role": "none", "boxes": []}
    pair.join()
    for number in (0, 1):
        pair.boxes[number].wait_until(lambda number=number: pair.states(number) == BOTH)
    led = pair.status(0)
    assert (led["role"], led["invitations"], led["problem"]) == ("leader", 0, None)
    (member,) = [box for box in led["boxes"] if box["role"] == "member"]
    pair.boxes[0].wait_until(lambda: pair.status(0)["boxes"][1]["devices"] is not None)
    assert (member["address"], member["part"]) == (LOOPBACK, "idle")
    shown = pair.homes[0].run("cluster", "status").stdout
    assert "box-2" in shown
    assert json.loads(pair.homes[1].run("cluster", "status", "--json").stdout)["role"] == "member"
    rows = pair.homes[0].run("audit", "list").stdout
    assert "cluster.joined" in rows


def test_a_box_that_falls_silent_is_away_and_comes_back(pair: Pair) -> None:
    pair.boxes[1].stop()
    pair.boxes[0].wait_until(lambda: pair.states(0)["box-2"] == "away")
    pair.boxes[1] = start_box(pair.homes[1], key=pair.boxes[1].key, wait=False)
    pair.boxes[0].wait_until(lambda: pair.states(0) == BOTH)


def test_a_leader_that_falls_silent_is_told_of(pair: Pair) -> None:
    pair.boxes[0].stop()
    pair.boxes[1].wait_until(lambda: "does not answer" in (pair.status(1)["problem"] or ""))
    pair.boxes[1].wait_until(lambda: pair.states(1)["box-1"] == "unknown")
    pair.boxes[0] = start_box(pair.homes[0], key=pair.boxes[0].key, wait=False)
    pair.boxes[1].wait_until(lambda: pair.states(1) == BOTH)
    assert pair.status(1)["problem"] is None


def test_a_box_that_is_taken_out_knows_it_and_may_come_back_with_a_new_token(pair: Pair) -> None:
    pair.homes[0].run("cluster", "remove", "box-2")
    pair.boxes[1].wait_until(lambda: "does not know this box" in (pair.status(1)["problem"] or ""))
    pair.boxes[0].wait_until(lambda: list(pair.states(0)) == ["box-1"])
    told = pair.homes[1].run("cluster", "leave")
    assert "cluster remove box-2" in told.stderr
    pair.boxes[1].wait_until(lambda: pair.status(1)["role"] == "none")
    pair.join()
    pair.boxes[1].wait_until(lambda: pair.states(1) == BOTH)
    pair.homes[1].run("cluster", "leave")
    pair.boxes[0].wait_until(lambda: list(pair.states(0)) == ["box-1"])
    pair.homes[0].run("cluster", "leave")
    pair.boxes[0].wait_until(lambda: pair.status(0)["role"] == "none")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("init", "--address", "0.0.0.0"), "exactly one address"),
        (("init", "--address", "203.0.113.7"), "cannot be used"),
        (("init", "--address", "box"), "no IP address"),
        (("init", "--address", LOOPBACK, "--name", "Box 1"), "is no name for a box"),
        (("invite",), "belongs to no cluster"),
        (("join", "nonsense"), "no token"),
        (("leave",), "belongs to no cluster"),
        (("remove", "box-2"), "belongs to no cluster"),
    ],
)
def test_what_cannot_be_is_refused_in_plain_words(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    failed = Home(tmp_path).run("cluster", *arguments, check=False)
    assert failed.returncode != 0
    assert said in failed.stderr
    assert "Traceback" not in failed.stderr


class Together(Pair):
    """Two boxes that serve the tiny R1 as one; the engine of each is a process that speaks vLLM's protocol."""

    def __init__(self, folder: Path) -> None:
        self.engines = [FakeVllm(folder / "vllm-1"), FakeVllm(folder / "vllm-2")]
        self.homes = [Home(folder / "one"), Home(folder / "two")]
        self.boxes = []
        for home, engine in zip(self.homes, self.engines, strict=True):
            home.environment["R1BOX_ENGINE_PYTHON"] = str(engine.python)
            self.model = home.import_model(FIXTURES / "hf")
        self.port = free_port()
        self.homes[0].run("cluster", "init", "--address", LOOPBACK, "--port", str(self.port), "--name", "box-1")
        self.homes[0].run("cluster", "use", self.model)
        for home in self.homes:
            self.boxes.append(self.start(home))
        token = self.homes[0].run("cluster", "invite", "--quiet").stdout.strip()
        self.boxes[0].wait_until(lambda: self.status(0)["role"] == "leader")
        self.homes[1].run("cluster", "join", "--name", "box-2", token)

    def start(self, home: Home) -> Box:
        return start_box(home, "--seats", "4", "--context", "4096", key=home.create_key("tests"), wait=False)

    def ready(self, number: int) -> bool:
        return bool(self.boxes[number].readyz()["ready"])

    def wait_ready(self) -> None:
        for number, box in enumerate(self.boxes):
            box.wait_until(lambda number=number: self.ready(number))

    def server_of(self, number: int) -> psutil.Process:
        children = psutil.Process(self.boxes[number].process.pid).children()
        (server,) = [one for one in children if "vllm.entrypoints" in " ".join(one.cmdline())]
        return server

    def running(self, number: int) -> int:
        box = self.boxes[number]
        told = httpx.get(
            f"{box.url}/api/admin/models", headers={"Authorization": f"Bearer {box.key}"}, timeout=30
        ).json()
        return int(next(one for one in told["models"] if one["id"] == self.model)["running"] or 0)

    async def ask(self, number: int, count: int, message: str = "Where is Paris?", **options: Any) -> list[Any]:
        async with self.boxes[number].client() as client:
            messages = [{"role": "user", "content": message}]
            return await gather(*(stream(client, self.model, messages, **options) for _ in range(count)))


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Together]:
    found = Together(tmp_path_factory.mktemp("together"))
    try:
        found.wait_ready()
        yield found
    finally:
        found.stop()


async def test_a_chat_works_through_either_box(together: Together) -> None:
    for number in (0, 1):
        (answer,) = await together.ask(number, 1)
        assert (answer.reasoning, answer.content, answer.finish_reason) == (THOUGHT * 3, ANSWER, "stop")


def test_each_box_runs_its_rank(together: Together) -> None:
    first, second = ([*engine.argv] for engine in together.engines)
    said = [dict(pairwise(argv)) for argv in (first, second)]
    assert [one["--node-rank"] for one in said] == ["0", "1"]
    assert [one["--tensor-parallel-size"] for one in said] == ["2", "2"]
    assert "--headless" in second
    assert "--headless" not in first
    led = together.status(0)
    assert (led["run"], led["model"]) == ("running", together.model)
    assert [(box["rank"], box["part"]) for box in led["boxes"]] == [(0, "up"), (1, "up")]
    # It hears of it with its next beat.
    together.boxes[1].wait_until(lambda: together.status(1)["run"] == "running")
    told = httpx.get(
        f"{together.boxes[0].url}/metrics", headers={"Authorization": f"Bearer {together.boxes[0].key}"}, timeout=30
    ).text
    assert 'r1box_cluster_box_up{box="box-2",role="member"} 1.0' in told


async def test_what_goes_through_the_other_box_waits_in_one_queue(together: Together) -> None:
    tasks = [asyncio.create_task(together.ask(number, 6, ENDLESS, max_tokens=300)) for number in (0, 1)]
    while together.running(0) < 4:
        await asyncio.sleep(0.05)
    assert together.running(0) == 4, "as many as there are seats, whoever asked"
    answers = [answer for task in tasks for answer in await task]
    assert [answer.finish_reason for answer in answers] == ["length"] * 12


async def test_many_requests_through_both_have_one_ending_each(together: Together) -> None:
    answers = [one for part in await gather(together.ask(0, 34), together.ask(1, 34)) for one in part]
    assert [answer.content for answer in answers] == [ANSWER] * 68


async def test_a_lost_rank_ends_all_and_all_comes_back(together: Together) -> None:
    ranks = [together.server_of(number) for number in (0, 1)]
    tasks = [asyncio.create_task(together.ask(number, 4, ENDLESS, max_tokens=3500)) for number in (0, 1)]
    while together.running(0) < 4:
        await asyncio.sleep(0.05)
    ranks[1].kill()
    endings = [ending for task in tasks for ending in await task]
    assert len(endings) == 8
    assert any(isinstance(ending, Exception) for ending in endings)
    _, alive = psutil.wait_procs(ranks, timeout=30)
    assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]
    await asyncio.to_thread(together.wait_ready)
    for number in (0, 1):
        (answer,) = await together.ask(number, 1)
        assert answer.content == ANSWER


async def test_a_box_that_stops_ends_all_and_all_comes_back_with_it(together: Together) -> None:
    rank = together.server_of(0)
    key = together.boxes[1].key
    await asyncio.to_thread(together.boxes[1].stop)
    together.boxes[0].wait_until(lambda: not together.ready(0))
    psutil.wait_procs([rank], timeout=30)
    assert together.status(0)["boxes"][1]["state"] == "away"
    issues = httpx.get(
        f"{together.boxes[0].url}/api/admin/issues", headers={"Authorization": f"Bearer {together.boxes[0].key}"},
        timeout=30,
    )  # fmt: skip
    assert issues.status_code == 200
    together.boxes[1] = start_box(together.homes[1], "--seats", "4", "--context", "4096", key=key, wait=False)
    await asyncio.to_thread(together.wait_ready)
    (answer,) = await together.ask(1, 1)
    assert answer.content == ANSWER


def test_a_box_that_is_taken_out_is_refused_and_ends_its_rank(together: Together) -> None:
    rank = together.server_of(1)
    together.homes[0].run("cluster", "remove", "box-2")
    together.boxes[1].wait_until(lambda: not together.ready(1))
    psutil.wait_procs([rank], timeout=30)
    assert not rank.is_running() or rank.status() == psutil.STATUS_ZOMBIE
    together.boxes[0].wait_until(lambda: not together.ready(0))
    answer = together.boxes[1].post({"model": together.model, "messages": [{"role": "user", "content": "Hello"}]})
    assert answer.status_code in (404, 503)
