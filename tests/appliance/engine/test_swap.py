"""Who leaves for a new model: by memory, never by count, never a pinned one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.swap import Resident, beside, has_returned, make_room, without
from drivers.types import Device, HardwareSnapshot, Host
from models.errors import TooLarge
from models.types import HOST, EngineName, FitPlan, KvType, MemoryEstimate

GIB = 1024**3


def plan(**held_gib: float) -> FitPlan:
    """A plan that holds so much on devices ``d0``, ``d1`` (``nvidia:0``, ``nvidia:1``) and ``host``."""
    lines = tuple(
        MemoryEstimate(HOST if name == HOST else f"nvidia:{name[1:]}", int(size * GIB), 0, 0, GIB, 99 * GIB)
        for name, size in held_gib.items()
    )
    return FitPlan(
        variant="m", quantization="Q8_0", engine=EngineName.LLAMA_CPP,
        devices=tuple(line.device for line in lines if line.device != HOST), seats=1, context_tokens=4096,
        kv_type=KvType.F16, flash_attention=True, ubatch_tokens=512, gpu_layers=0, tensor_split=(), memory=lines,
        file_bytes=0,
    )  # fmt: skip


def machine(*free_gib: float, host_gib: float = 64) -> HardwareSnapshot:
    devices = tuple(
        Device("nvidia", n, "L4", memory_total_bytes=24 * GIB, memory_free_bytes=int(free * GIB))
        for n, free in enumerate(free_gib)
    )
    return HardwareSnapshot(Host(memory_total_bytes=64 * GIB, memory_available_bytes=int(host_gib * GIB)), devices)


@dataclass
class Planner:
    """Fits ``needs_gib`` on the first device that has it, or on the host where there is no device."""

    needs_gib: float
    asked: int = 0

    def __call__(self, snapshot: HardwareSnapshot) -> str:
        self.asked += 1
        rooms = {d.key: d.memory_free_bytes or 0 for d in snapshot.devices}
        rooms = rooms or {HOST: snapshot.host.memory_available_bytes or 0}
        for name, free in rooms.items():
            if free >= self.needs_gib * GIB:
                return name
        raise TooLarge("new", int(self.needs_gib * GIB), max(rooms.values()), "nvidia:0", 1, 4096)


def resident(name: str, held: FitPlan, **fields: object) -> Resident:
    return replace(Resident(name, held), **fields)  # type: ignore[arg-type]


def test_where_there_is_room_nobody_leaves() -> None:
    found = make_room(Planner(10), machine(2, 12), [resident("old", plan(d0=20))], swap=True)
    assert found == ("nvidia:1", ())


def test_the_one_unused_for_longest_leaves_and_only_if_that_helps() -> None:
    loaded = [
        resident("recent", plan(d0=10), used_s=30),
        resident("oldest-but-elsewhere", plan(d1=3), used_s=10),
        resident("old", plan(d0=10), used_s=20),
    ]
    assert make_room(Planner(10), machine(2, 4), loaded, swap=True) == ("nvidia:0", ("old",))


def test_who_answers_users_leaves_last() -> None:
    loaded = [resident("busy", plan(d0=10), busy=True, used_s=1), resident("idle", plan(d0=10), used_s=9)]
    assert make_room(Planner(10), machine(2), loaded, swap=True)[1] == ("idle",)
    assert set(make_room(Planner(21), machine(2), loaded, swap=True)[1]) == {"busy", "idle"}


@pytest.mark.parametrize("swap", [True, False])
def test_a_pinned_model_never_leaves(swap: bool) -> None:
    with pytest.raises(TooLarge, match="needs 10"):
        make_room(Planner(10), machine(2), [resident("default", plan(d0=20), pinned=True)], swap=swap)


def test_without_swap_nobody_leaves() -> None:
    planner = Planner(10)
    with pytest.raises(TooLarge):
        make_room(planner, machine(2), [resident("old", plan(d0=20))], swap=False)
    assert planner.asked == 1


def test_pages_of_a_mapped_file_are_not_room_for_another_model() -> None:
    """The kernel calls them available; a model that computes from them needs them."""
    mapped = resident("a", plan(host=20), anonymous_bytes=2 * GIB)
    found = beside(machine(host_gib=40), [mapped]).host.memory_available_bytes
    assert found == 22 * GIB
    repacked = resident("b", plan(host=20), anonymous_bytes=21 * GIB)
    assert beside(machine(host_gib=40), [repacked]).host.memory_available_bytes == 40 * GIB
    # Its own memory comes back with its end, and the mapped part is no longer held.
    gone = without(machine(host_gib=40), [mapped])
    assert gone.host.memory_available_bytes == 42 * GIB


def test_memory_is_seen_returned() -> None:
    held = plan(d0=10, host=1)
    before = machine(2, 5)
    assert not has_returned(before, machine(2, 5), held)
    assert not has_returned(before, machine(9, 5), held)
    assert has_returned(before, machine(11.9, 5), held)
    assert has_returned(before, machine(2, 5), plan(host=10))
    unified = replace(before, devices=tuple(replace(d, unified_memory=True) for d in before.devices))
    assert has_returned(unified, unified, held)
    untold = replace(before, devices=tuple(replace(d, memory_free_bytes=None) for d in before.devices))
    assert has_returned(untold, untold, held)


@given(
    free=st.lists(st.integers(0, 24), min_size=1, max_size=3),
    needs=st.integers(1, 24),
    loaded=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 20), st.booleans(), st.booleans()), max_size=6),
)
def test_whoever_leaves_was_needed(free: list[int], needs: int, loaded: list[tuple[int, int, bool, bool]]) -> None:
    residents = [
        resident(f"m{n}", plan(**{f"d{device}": size}), pinned=pinned, busy=busy, used_s=float(n))
        for n, (device, size, pinned, busy) in enumerate(loaded)
    ]
    snapshot = machine(*free)
    try:
        _, leaving = make_room(Planner(needs), snapshot, residents, swap=True)
    except TooLarge:
        movable = [r for r in residents if not r.pinned]
        with pytest.raises(TooLarge):
            Planner(needs)(without(snapshot, movable))
        return
    gone = [r for r in residents if r.model_id in leaving]
    assert not any(r.pinned for r in gone)
    Planner(needs)(without(snapshot, gone))
    for one in gone:
        with pytest.raises(TooLarge):
            Planner(needs)(without(snapshot, [r for r in gone if r is not one]))
