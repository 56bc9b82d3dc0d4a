"""Gathering the evidence: memory that is told late, users that must not be disturbed, loads that are refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from appliance.engine.base import EngineStats
from appliance.errors import OffloadRefused
from appliance.health.offload.probe import DECODE_TOKENS, PROMPT_TOKENS, measure_speed
from appliance.health.offload.prover import OffloadProver
from appliance.health.offload.service import OffloadService, ServedEngine
from appliance.schemas.telemetry import DeviceTelemetry, Telemetry
from tests.appliance.health.offload.plans import MIB, placed, plan
from tests.fakes.engine import FAKE_INFO, FakeEngine

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ON_CARD = plan({"nvidia:0": 18_508}, speed=None)
INFO = replace(FAKE_INFO, placement=placed(CUDA0=18_508, host=418))


class Machine:
    """A clock that moves with every pause, and a card that says after ``told_after`` of them how full it is."""

    def __init__(self, *used_mib: int, told_after: int = 1, enabled: bool = True) -> None:
        self.now = NOON
        self.used_mib = list(used_mib)
        self.pauses = 0
        self.told_after = told_after
        self.enabled = enabled

    def time(self) -> datetime:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.pauses += 1
        self.now += timedelta(seconds=seconds)

    def telemetry(self) -> Telemetry:
        fresh = self.pauses >= self.told_after
        used = self.used_mib[-1] if fresh else self.used_mib[0]
        told_at = self.now if fresh else NOON - timedelta(seconds=1)
        card = DeviceTelemetry(
            key="nvidia:0", vendor="nvidia", monitor="nvidia", state="present", told_at=told_at,
            memory_used_bytes=used * MIB,
        )  # fmt: skip
        return Telemetry(enabled=self.enabled, time=self.now, started_at=NOON, devices=(card,) if self.enabled else ())

    def prover(self, *, allow: bool = False) -> OffloadProver:
        return OffloadProver(self.telemetry, allow_cpu_fallback=allow, now=self.time, sleep=self.sleep)


def writes(count: int = 30) -> FakeEngine:
    return FakeEngine(["word "] * count, info=INFO)


async def test_memory_is_read_after_the_load_not_before() -> None:
    machine = Machine(500, 19_800, told_after=3)
    prover = machine.prover()
    prover.expect("m", ON_CARD, has_cards=True)
    await prover.accept("m", writes(), INFO)
    verdict = prover.verdict("m")
    assert verdict is not None
    assert (verdict.state, verdict.reasons, machine.pauses) == ("VERIFIED", (), 3)
    assert "19,300 MiB taken by the load on nvidia:0" in verdict.proof
    assert verdict.checked_at == machine.now


async def test_a_card_that_never_tells_its_memory_proves_nothing() -> None:
    machine = Machine(500, told_after=10**6)
    prover = machine.prover()
    prover.expect("m", ON_CARD, has_cards=True)
    await prover.accept("m", writes(), INFO)
    verdict = prover.verdict("m")
    assert verdict is not None
    assert (verdict.state, [r.code for r in verdict.reasons]) == ("UNKNOWN", ["not_measured"])


async def test_without_telemetry_nobody_waits() -> None:
    machine = Machine(0, enabled=False)
    prover = machine.prover()
    prover.expect("m", ON_CARD, has_cards=True)
    await prover.accept("m", writes(), INFO)
    assert machine.pauses == 0


async def test_a_fallback_is_refused_unless_allowed() -> None:
    on_host = replace(INFO, placement=placed(host=18_900))
    prover = Machine(500).prover()
    prover.expect("m", ON_CARD, has_cards=True)
    with pytest.raises(OffloadRefused, match=r"not served: .*on the processor") as refused:
        await prover.accept("m", writes(), on_host)
    assert "allow_cpu_fallback" in str(refused.value.hint)
    assert list(prover.refused()) == ["m"]
    allowed = Machine(500).prover(allow=True)
    allowed.expect("m", ON_CARD, has_cards=True)
    await allowed.accept("m", writes(), on_host)
    verdict = allowed.verdict("m")
    assert verdict is not None
    assert verdict.state == "CPU"


async def test_a_later_check_sees_memory_that_went() -> None:
    machine = Machine(500, 19_800)
    prover = machine.prover()
    prover.expect("m", ON_CARD, has_cards=True)
    engine = writes()
    await prover.accept("m", engine, INFO)
    machine.used_mib = [700]
    service = OffloadService(prover, lambda: [ServedEngine("m", engine, INFO, lambda: False)])
    await service.check_all()
    verdict = service.verdict("m")
    assert verdict is not None
    assert (verdict.state, [r.code for r in verdict.reasons]) == ("DEGRADED", ["memory_not_taken"])
    prover.forget("m")
    await service.check_all()
    assert service.verdicts() == ()


async def test_while_users_are_served_nothing_is_generated() -> None:
    prover = Machine(500, 19_800).prover()
    prover.expect("m", ON_CARD, has_cards=True)
    engine = writes()
    await prover.accept("m", engine, INFO)
    asked = len(engine.requests)
    await prover.check("m", engine, INFO, lambda: True)
    assert len(engine.requests) == asked
    verdict = prover.verdict("m")
    assert verdict is not None
    assert verdict.state == "VERIFIED"


class Busy(FakeEngine):
    """An engine whose counters a test sets."""

    counted = EngineStats()

    def stats(self) -> EngineStats:
        return self.counted


async def test_traffic_that_crawls_is_seen_in_its_own_counters() -> None:
    from models.types import SpeedBand

    banded = replace(ON_CARD, decode_tokens_per_s=SpeedBand(20.0, 30.0))
    prover = Machine(500, 19_800).prover()
    prover.expect("m", banded, has_cards=True)
    engine = Busy(["word "] * 30, info=INFO)
    await prover.accept("m", engine, INFO)
    states = []
    for steps, tokens, decode_s in ((100, 400, 4.0), (300, 1200, 12.0), (310, 1230, 22.0), (900, 3600, 52.0)):
        engine.counted = EngineStats(steps=steps, generated_tokens=tokens, decode_s=decode_s)
        await prover.check("m", engine, INFO, lambda: True)
        verdict = prover.verdict("m")
        assert verdict is not None
        states.append(verdict.state)
    assert states == ["VERIFIED", "VERIFIED", "DEGRADED", "VERIFIED"]


async def test_the_probe_gives_way_as_soon_as_a_user_comes() -> None:
    engine = writes()
    calls = iter([False, False, False, True])
    assert await measure_speed(engine, INFO, 1, busy=lambda: next(calls, True)) is None
    assert engine.active == frozenset()
    assert len(engine.requests) == 1


async def test_the_probe_measures_and_never_asks_the_same_twice() -> None:
    engine = writes(DECODE_TOKENS)
    ticks = iter(range(1000))
    speed = await measure_speed(engine, INFO, 7, now_s=lambda: float(next(ticks)))
    assert speed is not None
    assert speed.decode_tokens_per_s == pytest.approx(1.0)
    assert len(engine.requests[0].prompt_tokens) <= PROMPT_TOKENS
    await measure_speed(engine, INFO, 8)
    assert engine.prompts[0] != engine.prompts[1]


async def test_a_model_that_ends_at_once_is_asked_again_and_then_left_alone() -> None:
    engine = FakeEngine(["a", "b"], info=INFO)
    assert await measure_speed(engine, INFO, 1) is None
    assert len(engine.requests) == 3


async def test_an_engine_that_dies_under_the_probe() -> None:
    engine = writes()
    await engine.die()
    prover = Machine(500, 19_800).prover()
    prover.expect("m", ON_CARD, has_cards=True)
    await prover.accept("m", engine, INFO)
    verdict = prover.verdict("m")
    assert verdict is not None
    assert (verdict.state, verdict.decode_tokens_per_s) == ("VERIFIED", None)
