"""Which models stay in memory beside a new one. Pure, over the planner: memory decides, never a count.

1. The new model is planned beside all that are loaded. If it fits, nobody leaves.
2. Otherwise models leave in thought, one more at a time, until it fits: those that answer nobody before those that do,
   the one unused for longest first. Pinned ones never leave.
3. Of these, whoever need not have left stays: it may lie on another card.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from drivers.types import Device, HardwareSnapshot
from models.errors import TooLarge
from models.types import HOST, FitPlan, MemoryEstimate

Setup = TypeVar("Setup")

RETURNED_SHARE = 0.8
"""Share of what a model was planned to hold that a driver must count as free again before the next load."""


@dataclass(frozen=True, slots=True)
class Resident:
    """A loaded model. ``anonymous_bytes`` is its worker's own memory on the host, which the kernel no longer counts as
    available; pages of a mapped file it does. ``used_s`` is when it was last asked, by a clock that never jumps."""

    model_id: str
    plan: FitPlan
    anonymous_bytes: int | None = None
    pinned: bool = False
    busy: bool = False
    used_s: float = 0.0


def beside(snapshot: HardwareSnapshot, residents: Iterable[Resident]) -> HardwareSnapshot:
    """The machine as a new model finds it: without host memory that loaded ones use and the kernel calls available."""
    mapped = sum(max(0, _held(one.plan, HOST) - (one.anonymous_bytes or 0)) for one in residents)
    return _with_host(snapshot, -mapped)


def without(snapshot: HardwareSnapshot, residents: Sequence[Resident]) -> HardwareSnapshot:
    """The machine after ``residents`` have left."""
    devices = tuple(_with_returned(device, residents) for device in snapshot.devices)
    anonymous = sum(one.anonymous_bytes or 0 for one in residents)
    return _with_host(replace(snapshot, devices=devices), anonymous)


def make_room(
    plan: Callable[[HardwareSnapshot], Setup],
    snapshot: HardwareSnapshot,
    residents: Sequence[Resident],
    *,
    swap: bool,
) -> tuple[Setup, tuple[str, ...]]:
    """What ``plan`` gives for the new model, and the ids of those that have to leave for it.

    ``plan`` raises TooLarge for a machine on which it does not fit. Raises that of the first try when it does not fit
    whoever leaves.
    """
    movable = sorted((r for r in residents if not r.pinned), key=lambda r: (r.busy, r.used_s)) if swap else []
    first: TooLarge | None = None
    for count in range(len(movable) + 1):
        leaving = movable[:count]
        try:
            found = plan(_after(snapshot, residents, leaving))
        except TooLarge as error:
            first = first or error
            continue
        for one in list(leaving):
            fewer = [other for other in leaving if other is not one]
            try:
                found = plan(_after(snapshot, residents, fewer))
            except TooLarge:
                continue
            leaving = fewer
        return found, tuple(one.model_id for one in leaving)
    assert first is not None
    raise first


def has_returned(before: HardwareSnapshot, now: HardwareSnapshot, plan: FitPlan) -> bool:
    """Whether the devices of an ended model count its memory as free again. Unified memory and what no probe tells is
    not waited for: the process has ended, and its host memory with it."""
    free_before = {device.key: device for device in before.devices}
    for device in now.devices:
        known = free_before.get(device.key)
        if device.key not in plan.devices or device.unified_memory or known is None:
            continue
        if device.memory_free_bytes is None or known.memory_free_bytes is None:
            continue
        if device.memory_free_bytes - known.memory_free_bytes < _held(plan, device.key) * RETURNED_SHARE:
            return False
    return True


def _after(snapshot: HardwareSnapshot, residents: Sequence[Resident], leaving: Sequence[Resident]) -> HardwareSnapshot:
    return beside(without(snapshot, leaving), [one for one in residents if one not in leaving])


def _held(plan: FitPlan, where: str) -> int:
    return sum(_taken(line) for line in plan.memory if line.device == where)


def _taken(line: MemoryEstimate) -> int:
    return line.total_bytes - line.reserve_bytes


def _with_returned(device: Device, residents: Sequence[Resident]) -> Device:
    returned = sum(_held(one.plan, device.key) for one in residents)
    if not returned or device.memory_free_bytes is None:
        return device
    free = device.memory_free_bytes + returned
    return replace(
        device, memory_free_bytes=free if device.memory_total_bytes is None else min(free, device.memory_total_bytes)
    )


def _with_host(snapshot: HardwareSnapshot, change_bytes: int) -> HardwareSnapshot:
    available = snapshot.host.memory_available_bytes
    if available is None or not change_bytes:
        return snapshot
    return replace(snapshot, host=replace(snapshot.host, memory_available_bytes=max(0, available + change_bytes)))
