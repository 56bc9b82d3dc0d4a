"""Gathers the evidence of each load, has it judged, keeps the verdict, and refuses what fell back to the processor."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog

from appliance.engine.base import Engine, EngineInfo, EngineStats
from appliance.errors import EngineLost, OffloadRefused
from appliance.health.offload.judge import (
    Evidence,
    Judgement,
    MemoryReading,
    OffloadState,
    Speed,
    judge,
    live_speed,
    slowest_credible,
)
from appliance.health.offload.probe import measure_speed
from appliance.schemas.offload import Offload, OffloadReason
from appliance.schemas.telemetry import Telemetry
from models.types import FitPlan

_log = structlog.get_logger(__name__)

SLOW_ATTEMPTS = 3
"""A speed below the band is measured again before it counts: another program may have had the machine for a moment."""
FRESH_TIMEOUT_S = 20.0
"""How long a card's memory may take to be told after a load; npu-smi is asked every few seconds."""
_POLL_S = 0.1


@dataclass
class _Case:
    """One model that is loaded or being loaded."""

    plan: FitPlan
    has_cards: bool
    unified: frozenset[str]
    before: Mapping[str, int] = field(default_factory=dict)
    speed: Speed | None = None
    stats: EngineStats | None = None
    verdict: Offload | None = None
    number: int = 0


class OffloadProver:
    """One for the box. Its methods belong to one event loop; checks of one model do not overlap."""

    def __init__(
        self,
        telemetry: Callable[[], Telemetry],
        *,
        allow_cpu_fallback: bool,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """``telemetry`` gives what is known now and never waits."""
        self._telemetry = telemetry
        self._allow_cpu_fallback = allow_cpu_fallback
        self._now = now
        self._sleep = sleep
        self._cases: dict[str, _Case] = {}
        self._refused: dict[str, str] = {}
        self._checking = asyncio.Lock()

    # -- reading ----------------------------------------------------------------------------------------------------

    def verdict(self, model_id: str) -> Offload | None:
        """The last verdict on a loaded model; ``None`` before the first."""
        case = self._cases.get(model_id)
        return None if case is None else case.verdict

    def verdicts(self) -> tuple[Offload, ...]:
        """Those of all loaded models."""
        return tuple(case.verdict for case in self._cases.values() if case.verdict is not None)

    def refused(self) -> Mapping[str, str]:
        """Models whose last load was ended because it fell back to the processor, with the reason."""
        return dict(self._refused)

    # -- checks -----------------------------------------------------------------------------------------------------

    def expect(self, model_id: str, plan: FitPlan, *, has_cards: bool, unified: frozenset[str] = frozenset()) -> None:
        """A load of ``plan`` is about to begin: note what is in use on its devices. ``unified`` are devices whose
        memory is the host's, where that says nothing."""
        self._refused.pop(model_id, None)
        self._cases[model_id] = _Case(plan, has_cards, unified, before=self._used(plan, unified))

    def forget(self, model_id: str) -> None:
        """The model is unloaded."""
        self._cases.pop(model_id, None)

    async def accept(self, model_id: str, engine: Engine, info: EngineInfo) -> None:
        """Judge a load that has just ended, before it takes requests. Raises OffloadRefused for one that fell back to
        the processor where that is not allowed."""
        async with self._checking:
            case = self._cases[model_id]
            case.stats = None
            memory = await self._memory(case, after=self._now())
            case.speed = await self._speed(case, engine, info, lambda: False)
            # The second load of an engine that died is compared with what is in use in all.
            case.before = {}
            judgement = self._conclude(model_id, case, Evidence(info.placement, memory, case.speed))
            if judgement.fell_back and not self._allow_cpu_fallback:
                self._refused[model_id] = judgement.reasons[0].message
                raise OffloadRefused(reason=judgement.reasons[0].message)

    async def check(self, model_id: str, engine: Engine, info: EngineInfo, busy: Callable[[], bool]) -> None:
        """Judge a model that is served. While it is ``busy`` its own traffic is what is measured."""
        async with self._checking:
            case = self._cases.get(model_id)
            if case is None:
                return
            fast: bool | None = None
            if busy():
                fast = self._live(case, engine.stats())
            else:
                speed = await self._speed(case, engine, info, busy)
                case.speed = speed or case.speed
            case.stats = engine.stats()
            memory = await self._memory(case, after=self._now())
            if self._cases.get(model_id) is case:
                speed = case.speed if fast is None else None
                self._conclude(model_id, case, Evidence(info.placement, memory, speed, fast))

    def _conclude(self, model_id: str, case: _Case, evidence: Evidence) -> Judgement:
        judgement = judge(case.plan, evidence, has_cards=case.has_cards)
        before = case.verdict
        band = case.plan.decode_tokens_per_s
        case.verdict = Offload(
            model=model_id,
            state=judgement.state.value,
            reasons=tuple(OffloadReason(code=r.code, message=r.message) for r in judgement.reasons),
            proof=judgement.proof,
            devices=case.plan.devices,
            checked_at=self._now(),
            decode_tokens_per_s=None if case.speed is None else _rounded(case.speed.decode_tokens_per_s),
            prefill_tokens_per_s=None if case.speed is None else _rounded(case.speed.prefill_tokens_per_s),
            expected_tokens_per_s=None if band is None else (band.low, band.high),
        )
        if before is None or before.state != judgement.state.value:
            bad = judgement.state is OffloadState.DEGRADED or judgement.fell_back
            write = _log.warning if bad else _log.info
            write(
                "offload", model=model_id, verdict=judgement.state.value, proof=judgement.proof,
                reasons=[reason.message for reason in judgement.reasons],
            )  # fmt: skip
        return judgement

    # -- evidence ---------------------------------------------------------------------------------------------------

    async def _speed(self, case: _Case, engine: Engine, info: EngineInfo, busy: Callable[[], bool]) -> Speed | None:
        limit = slowest_credible(case.plan.decode_tokens_per_s)
        best: Speed | None = None
        for _ in range(SLOW_ATTEMPTS):
            case.number += 1
            try:
                speed = await measure_speed(engine, info, case.number, busy=busy)
            except EngineLost:
                return best
            if speed is None:
                return best
            if best is None or speed.decode_tokens_per_s > best.decode_tokens_per_s:
                best = speed
            if limit is None or best.decode_tokens_per_s >= limit:
                return best
        return best

    def _live(self, case: _Case, stats: EngineStats) -> bool | None:
        last = case.stats
        if last is None or stats.steps < last.steps:
            return None
        tokens = (stats.generated_tokens - last.generated_tokens) + (stats.prompt_tokens - last.prompt_tokens)
        return live_speed(
            case.plan.decode_tokens_per_s, stats.steps - last.steps, tokens, stats.decode_s - last.decode_s
        )

    async def _memory(self, case: _Case, *, after: datetime) -> Mapping[str, MemoryReading] | None:
        """What is in use on the plan's devices, told after that moment; without those that are not told in time."""
        wanted = [key for key in case.plan.devices if key not in case.unified]
        if not wanted or not self._telemetry().enabled:
            return None
        left_s = FRESH_TIMEOUT_S
        while True:
            fresh = {d.key: d for d in self._telemetry().devices if d.key in wanted and d.told_at >= after}
            if len(fresh) == len(wanted) or left_s <= 0:
                break
            await self._sleep(_POLL_S)
            left_s -= _POLL_S
        return {
            key: MemoryReading(device.memory_used_bytes, case.before.get(key))
            for key, device in fresh.items()
            if device.memory_used_bytes is not None
        }

    def _used(self, plan: FitPlan, unified: frozenset[str]) -> dict[str, int]:
        return {
            device.key: device.memory_used_bytes
            for device in self._telemetry().devices
            if device.key in plan.devices and device.key not in unified and device.memory_used_bytes is not None
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
