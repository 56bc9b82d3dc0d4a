"""The leader between its boxes and its own engine: whom it tells what, and when a run ends. Without a network."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.cluster.book import ClusterBook
from appliance.cluster.coordinator import LOST_S
from appliance.cluster.errors import BoxesMissing
from appliance.cluster.leadership import Leadership
from appliance.cluster.membership import Membership
from appliance.cluster.wire import Beat, BoxHardware, ModelState, RankState, Told
from appliance.serving.admission import Admission
from appliance.settings import Settings
from models.importer import import_path
from models.model_store import ModelStore
from models.types import InstalledModel
from tests.appliance.cluster.test_placing import CPU, HF, LED, TWO, told
from tests.fakes.fake_vllm import FakeVllm
from tests.models.golden_machines import build

RECORD = replace(TWO, model="hf-bf16")


class Box:
    """The other box as the leader hears it."""

    def __init__(self, leader: Leadership, name: str = "box-2") -> None:
        self.leader, self.name, self.number = leader, name, 0

    def says(self, state: RankState = RankState.IDLE, run: str | None = None, **more: object) -> Told:
        self.number += 1
        beat = Beat(boot="1", number=self.number, address="127.0.0.2", state=state, run=run, **more)  # type: ignore[arg-type]
        return self.leader.hear(self.name, beat)


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> InstalledModel:
    return import_path(ModelStore(tmp_path_factory.mktemp("store")), HF).model


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def leader(tmp_path: Path, clock: Clock) -> Leadership:
    return Leadership(
        ClusterBook(tmp_path / "cluster"),
        RECORD,
        lambda action, box, address: None,
        admission=lambda model: Admission(seats=1, max_waiting=1),
        is_ready=lambda model: False,
        now_s=clock,
    )


def planned(leader: Leadership, model: InstalledModel, tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path, engine_python=FakeVllm(tmp_path / "vllm").python)
    leader.plan(model, build(CPU), settings)


async def test_a_box_is_asked_for_its_cards_once_and_told_its_part(
    leader: Leadership, model: InstalledModel, tmp_path: Path
) -> None:
    box = Box(leader)
    assert leader.absent() == ("box-2",)
    assert box.says().tell_hardware
    assert leader.absent() == ("box-2",), "nothing is known of its cards"
    first = box.says(hardware=told(CPU))
    assert not first.tell_hardware
    assert first.wanted is not None
    assert first.wanted.part is None
    assert leader.absent() == ()
    planned(leader, model, tmp_path)
    wanted = box.says().wanted
    assert wanted is not None
    assert wanted.part is not None
    assert (wanted.part.rank, wanted.sha256) == (1, model.sha256)


async def test_a_run_from_its_beginning_to_its_end(leader: Leadership, model: InstalledModel, tmp_path: Path) -> None:
    box = Box(leader)
    box.says(hardware=told(CPU))
    planned(leader, model, tmp_path)
    await leader.form("r1", 41_000)
    assert box.says().start is None, "rank 0 is first"
    leader.rank_zero_runs("r1")
    start = box.says().start
    assert start is not None
    assert (start.run, start.master_port) == ("r1", 41_000)
    over = asyncio.create_task(leader.run_over("r1"))
    box.says(RankState.UP, "r1")
    assert leader.run_word()[0] == "forming"
    assert [(one.rank, one.part) for one in leader.boxes()] == [(0, "up"), (1, "up")]
    box.says(RankState.FAILED, "r1", cause="vLLM says: no memory")
    assert await asyncio.wait_for(over, 5) == "box-2: vLLM says: no memory"
    assert leader.over("r1") == "box-2: vLLM says: no memory"
    assert box.says(RankState.FAILED, "r1").start is None


async def test_without_the_model_a_box_keeps_all_from_beginning(
    leader: Leadership, model: InstalledModel, tmp_path: Path
) -> None:
    box = Box(leader)
    box.says(hardware=told(CPU))
    planned(leader, model, tmp_path)
    await leader.form("r1", 41_000)
    leader.rank_zero_runs("r1")
    assert box.says(model=ModelState.MISSING).start is None
    assert "has not the model" in (leader.over("r1") or "")
    assert leader.absent() == ("box-2",)
    box.says(model=ModelState.THERE)
    assert leader.absent() == ()


async def test_a_plan_for_other_boxes_is_none(leader: Leadership, model: InstalledModel, tmp_path: Path) -> None:
    box = Box(leader)
    box.says(hardware=told(CPU))
    planned(leader, model, tmp_path)
    leader.follow(replace(LED, model="hf-bf16"))
    with pytest.raises(BoxesMissing, match="planned anew"):
        await leader.form("r1", 41_000)
    wanted = box.says().wanted
    assert wanted is not None
    assert wanted.part is None
    leader.follow(replace(RECORD, members=()))
    assert [one.name for one in leader.boxes()] == ["box-1"]


async def test_boxes_that_do_not_come_are_named(
    leader: Leadership, model: InstalledModel, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    Box(leader).says(hardware=told(CPU))
    planned(leader, model, tmp_path)
    clock.now_s += LOST_S + 1
    assert [one.state for one in leader.boxes()] == ["here", "away"]
    monkeypatch.setattr("appliance.cluster.leadership.GATHER_S", -1.0)
    with pytest.raises(BoxesMissing, match="waits for box-2"):
        await leader.form("r1", 41_000)
    assert leader.run_word() == ("gathering", "it waits for box-2")


async def test_a_box_that_cannot_do_its_part_says_so(tmp_path: Path, clock: Clock) -> None:
    async def hardware() -> BoxHardware:
        return told(CPU)

    member = Membership(ClusterBook(tmp_path), replace(TWO, role="member", name="box-2"), hardware, "1", clock)
    member.refuse("no cards")
    assert member.rank.state is RankState.IDLE, "nobody asked for it"
    member._begin = ("r1", 41_000)
    member.refuse("no cards")
    report = member.rank.report()
    assert (report.state, report.run, report.cause) == (RankState.FAILED, "r1", "no cards")
    await member.aclose()
