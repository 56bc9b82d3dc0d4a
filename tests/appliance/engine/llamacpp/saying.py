"""Drives a real runner through the scheduler, without a worker process: many requests in one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from appliance.engine.llamacpp import sequence as engine
from appliance.engine.llamacpp.runner import Runner
from appliance.engine.llamacpp.sampler import Draw
from appliance.engine.llamacpp.scheduler import Scheduler, SchedulerLimits
from appliance.engine.llamacpp.step import TokenChance


@dataclass
class Said:
    """What one request gave."""

    tokens: list[int] = field(default_factory=list)
    data: bytes = b""
    finish: engine.Finish | None = None
    problem: str | None = None
    chances: list[TokenChance] = field(default_factory=list)

    @property
    def text(self) -> str:
        return self.data.decode()


def say(
    runner: Runner,
    wanted: Mapping[str, tuple[Sequence[int], Draw]],
    *,
    max_tokens: int,
    seats: int,
    seat_context: int,
    step: int = 512,
) -> dict[str, Said]:
    """All requests at once on empty slots: name -> (prompt, draw)."""
    limits = SchedulerLimits(
        seats=seats, slots=runner.slots, seat_context=seat_context, step=step, chunk_beside_decode=64
    )
    scheduler = Scheduler(limits, shares=runner.shares)
    said = {name: Said() for name in wanted}
    for name, (prompt, draw) in wanted.items():
        assert scheduler.add(engine.Sequence(name, list(prompt), max_tokens, sampling=draw)) is None
    while scheduler.has_work:
        result = runner.run(scheduler.schedule())
        for name, chances in result.chances.items():
            said[name].chances += chances
        for name, problem in result.problems.items():
            said[name].problem = problem
        for event in scheduler.update(result):
            one = said[event.request_id]
            if event.token is not None:
                one.tokens.append(event.token)
                one.data += runner.piece(event.token)
            if event.finish is not None:
                assert one.finish is None
                one.finish = event.finish
    runner.run(scheduler.schedule())
    return said
