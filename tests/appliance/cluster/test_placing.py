"""What the leader plans is what each box starts: the same sizes, ranks in order, its own cards and addresses."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.cluster.authority import BoxFiles
from appliance.cluster.book import ClusterRecord, Member
from appliance.cluster.errors import BoxesDiffer, BoxesMissing
from appliance.cluster.facts import hardware_of, snapshot_of
from appliance.cluster.placing import leader_endpoint, leader_setup, member_setup
from appliance.cluster.wire import Beat, BoxHardware, Told, Wanted
from appliance.engine.external.server_factory import ServerSpec
from appliance.settings import Settings
from drivers.types import HardwareSnapshot
from models.importer import import_path
from models.model_store import ModelStore
from models.types import InstalledModel
from tests.fakes.fake_vllm import FakeVllm
from tests.models.golden_machines import build

HF = Path(__file__).parents[2] / "fixtures" / "tiny_r1" / "hf"
L20 = "4 L20 44.5 / host 256"
CPU = "/ host 32"
VLLM = {"vllm": "0.32.0"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> InstalledModel:
    return import_path(ModelStore(tmp_path_factory.mktemp("store")), HF).model


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path, engine_python=FakeVllm(tmp_path / "vllm").python, seats=4)


LED = ClusterRecord(
    id="0a1b2c3d", role="leader", name="box-1", own_address="127.0.0.1", address="127.0.0.1", port=8470, leader="box-1",
    members=tuple(
        Member(name=name, fingerprints=(), joined_at=datetime(2027, 1, 1, tzinfo=UTC)) for name in ("box-2", "box-3")
    ),
)  # fmt: skip
TWO = replace(LED, members=LED.members[:1])


def told(line: str, engines: dict[str, str] = VLLM) -> BoxHardware:
    """As it arrives: through the wire."""
    made = hardware_of(build(line), engines)
    beat = Beat(boot="b", number=1, address="127.0.0.1", hardware=made)
    found = msgspec.json.decode(msgspec.json.encode(beat), type=Beat).hardware
    assert found is not None
    return found


def member_of(record: ClusterRecord, name: str) -> ClusterRecord:
    return replace(record, role="member", name=name, own_address="127.0.0.2", members=())


def node(setup: Any) -> Any:
    assert isinstance(setup.engine, ServerSpec)
    return setup.engine.order.node


@pytest.mark.parametrize("line", [L20, CPU])
def test_all_boxes_start_one_model(model: InstalledModel, settings: Settings, line: str) -> None:
    own = build(line)
    leader, plan, parts = leader_setup(model, own, settings, TWO, {"box-2": told(line)})
    assert set(parts) == {"box-2"}
    wanted = Told(answers=1, wanted=Wanted(model=model.id, sha256=model.sha256, part=parts["box-2"]))
    arrived = msgspec.json.decode(msgspec.json.encode(wanted), type=Told).wanted
    assert arrived is not None
    assert arrived.part is not None
    other = member_setup(model, own, settings, member_of(TWO, "box-2"), arrived.part)
    assert [node(one).rank for one in (leader, other)] == [0, 1]
    assert {node(one).master_address for one in (leader, other)} == {"127.0.0.1"}
    assert (node(other).address, node(other).interface) == ("127.0.0.2", None)
    for name in ("seats", "context_tokens", "tensor_parallel", "data_parallel", "engine", "devices", "ubatch_tokens"):
        assert getattr(leader.plan, name) == getattr(other.plan, name), name
    assert leader.plan.seats == 4
    assert [line.device for line in leader.plan.memory] == [line.device for line in other.plan.memory]
    assert len(leader.plan.devices) == plan.layout.per_box
    assert leader.served == other.served
    assert "over 2 boxes" in leader.why_engine


def test_three_boxes_have_three_ranks(model: InstalledModel, settings: Settings) -> None:
    hardware = {"box-2": told(CPU), "box-3": told(CPU)}
    _, plan, parts = leader_setup(model, build(CPU), settings, LED, hardware)
    assert [(name, part.rank, part.nodes) for name, part in parts.items()] == [("box-2", 1, 3), ("box-3", 2, 3)]
    assert plan.layout.tensor * plan.layout.pipeline == 3


def test_what_keeps_boxes_apart_is_said(model: InstalledModel, settings: Settings) -> None:
    own = build(CPU)
    with pytest.raises(BoxesMissing, match="box-3"):
        leader_setup(model, own, settings, LED, {"box-2": told(CPU)})
    with pytest.raises(BoxesMissing, match="No other box"):
        leader_setup(model, own, settings, replace(LED, members=()), {})
    with pytest.raises(BoxesDiffer, match=r"box-1 0\.32\.0, box-2 0\.31\.0"):
        leader_setup(model, own, settings, TWO, {"box-2": told(CPU, {"vllm": "0.31.0"})})


def test_a_box_that_has_lost_cards_since_says_so(model: InstalledModel, settings: Settings) -> None:
    _, _, parts = leader_setup(model, build(L20), settings, TWO, {"box-2": told(L20)})
    with pytest.raises(BoxesMissing, match=r"wants \d cards"):
        member_setup(model, build(CPU), settings, member_of(TWO, "box-2"), parts["box-2"])


def test_the_leader_is_asked_by_its_name_with_this_boxes_certificate(tmp_path: Path) -> None:
    endpoint = leader_endpoint(member_of(TWO, "box-2"), BoxFiles.of(tmp_path), "r1")
    assert (endpoint.url, endpoint.server_name) == ("https://127.0.0.1:8470/engine", "leader.0a1b2c3d.r1box")
    assert endpoint.own_key == tmp_path / "box.pem"


@pytest.mark.parametrize("line", [L20, CPU, "8 910B3 64 / host 1024"])
def test_hardware_means_the_same_on_both_sides(line: str) -> None:
    made: HardwareSnapshot = build(line)
    again = snapshot_of(told(line))
    assert [(one.vendor, one.chip, one.memory_free_bytes) for one in again.devices] == [
        (one.vendor, one.chip, one.memory_free_bytes) for one in made.devices
    ]
    assert again.host.memory_available_bytes == made.host.memory_available_bytes
