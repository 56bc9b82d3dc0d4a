"""Models whose memory cannot be shared or cut, on the real llama.cpp: recurrent state and sliding window.

Each request is answered as if it were alone, and of all that the engine shares elsewhere only a chat's own next turn
finds what it left.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.engine.llamacpp import messages as wire
from appliance.engine.llamacpp.runner import Runner
from appliance.engine.llamacpp.scheduler import Scheduler, SchedulerLimits
from appliance.engine.llamacpp.sequence import Sequence
from appliance.engine.llamacpp.step import DecodeStatus, SlotCopy
from appliance.engine.llamacpp.tier_blocks import TierLimits
from appliance.engine.llamacpp.worker import Worker
from tests.appliance.engine.llamacpp.plainly import GREEDY, Answer, alone
from tests.fakes.odd_models import TOKENS, write_recurrent, write_sliding

SEATS, CONTEXT = 3, 256
MAX_TOKENS = 16
LEVEL = 0.01
WRITERS = {"recurrent": write_recurrent, "sliding": write_sliding}


@pytest.fixture(scope="module", params=sorted(WRITERS))
def runner(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    path = WRITERS[request.param](tmp_path_factory.mktemp("odd") / f"{request.param}.gguf")
    made = Runner(config(path), lambda _fraction: None)
    made.warm_up()
    yield made
    made.close()


def config(path: Path) -> wire.WorkerConfig:
    return wire.WorkerConfig(
        model_path=str(path),
        seats=SEATS,
        seat_context=CONTEXT,
        threads=1,
        draft_model_path=str(path),
        tier_memory_bytes=10**7,
    )


def prompt(number: int, length: int = 70) -> list[int]:
    """The first 50 tokens are everybody's."""
    return [1 + (7 * i if i < 50 else (3 + number) * i) % (TOKENS - 1) for i in range(length)]


class Served:
    """Requests on one scheduler as the worker makes it, one batch after the other."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        limits = SchedulerLimits(SEATS, runner.slots, CONTEXT, 64, 24, outputs=runner.outputs, draft=8)
        self.scheduler = Scheduler(limits, shares=runner.shares, tiers=TierLimits(10**7, 0, 32, 100.0))
        self.sequences: dict[str, Sequence] = {}

    def ask(self, prompts: dict[str, list[int]]) -> dict[str, Answer]:
        said: dict[str, Answer] = {name: Answer() for name in prompts}
        for name, tokens in prompts.items():
            self.sequences[name] = Sequence(name, tokens, MAX_TOKENS, sampling=GREEDY)
            assert self.scheduler.add(self.sequences[name]) is None
        while self.scheduler.has_work:
            plan = self.scheduler.schedule()
            assert not any(isinstance(change, SlotCopy) or change.keep for change in plan.memory)
            assert (plan.draft_count, plan.saves, plan.restores) == (0, [], [])
            result = self.runner.run(plan)
            assert result.status is DecodeStatus.DONE
            for event in self.scheduler.update(result):
                if event.token is not None:
                    said[event.request_id].tokens.append(event.token)
            self.scheduler.check_integrity()
        self.runner.run(self.scheduler.schedule())
        return said


def same(plain: dict[str, Answer], other: dict[str, Answer]) -> None:
    """The answers are alike, or part where two tokens were level."""
    for name, one in plain.items():
        if one.tokens != other[name].tokens:
            place = next(
                i for i, pair in enumerate(zip(one.tokens, other[name].tokens, strict=False)) if len({*pair}) > 1
            )
            chances = dict(one.chances[place].top)
            assert one.chances[place].logprob - chances[other[name].tokens[place]] < LEVEL


def test_it_is_known_that_nothing_can_be_shared(runner: Runner) -> None:
    assert (runner.shares, runner.slots, runner._draft, runner.ready().draft_problem) == (False, SEATS, None, "")
    worker = Worker(runner._config, runner, Silent())
    assert not worker.scheduler.tiers.enabled
    assert not worker.scheduler.slots.shares


class Silent:
    def send(self, message: wire.FromWorker) -> None:
        raise AssertionError(f"nothing was asked: {message}")


def test_requests_with_one_beginning_are_answered_as_if_they_were_alone(runner: Runner) -> None:
    asked = {f"r{number}": prompt(number) for number in range(2 * SEATS)}
    plain = {name: alone(runner, tokens, MAX_TOKENS) for name, tokens in asked.items()}
    assert len({tuple(answer.tokens) for answer in plain.values()}) > SEATS
    served = Served(runner)
    same(plain, served.ask(asked))
    assert (served.scheduler.prefix_waits, served.scheduler.slots.shared_tokens) == (0, 0)
    assert all(sequence.cached == 0 for sequence in served.sequences.values())


def test_a_chats_next_turn_takes_its_own_slot_over_and_nobody_elses(runner: Runner) -> None:
    first = {"a": prompt(1), "b": prompt(2)}
    said = {name: alone(runner, tokens, MAX_TOKENS) for name, tokens in first.items()}
    turns = {name: [*tokens, *said[name].tokens, 5, 6, 7] for name, tokens in first.items()}
    turns["c"] = [*prompt(3), 9]
    plain = {name: alone(runner, tokens, MAX_TOKENS) for name, tokens in turns.items()}
    served = Served(runner)
    assert {name: one.tokens for name, one in served.ask(first).items()} == {n: one.tokens for n, one in said.items()}
    same(plain, served.ask(turns))
    # All but the answer's last token, which was never computed.
    held = 70 + MAX_TOKENS - 1
    assert [served.sequences[name].cached for name in ("a", "b", "c")] == [held, held, 0]
