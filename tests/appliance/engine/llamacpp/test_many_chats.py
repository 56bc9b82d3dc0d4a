"""More chats than slots, four at a time, turn after turn: what a later turn computes, moves and waits for, in counts.

The load is that of ``tests/bench/engine`` (``chats_of_turns``), on the scheduler alone: steps take the time that they
take on two cores with SmolLM2-135M, and blocks that of copying.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

from appliance.engine.llamacpp.scheduler import Scheduler, SchedulerLimits
from appliance.engine.llamacpp.sequence import Sequence
from appliance.engine.llamacpp.step import DecodeStatus, Measured, StepPlan, StepResult
from appliance.engine.llamacpp.tier_blocks import TierLimits
from appliance.engine.llamacpp.tiering import SMALLEST_END_TOKENS

CHATS, TURNS, TOGETHER = 24, 3, 4
SYSTEM, QUESTION, ANSWER, THOUGHT = 30, 265, 32, 200
BYTES_PER_TOKEN = 23_040


def step_s(rows: int, prompt_tokens: int) -> float:
    """4 ms, 4.6 ms for a row, 3.6 ms for a prompt token."""
    return 0.004 + 0.0046 * rows + 0.0036 * prompt_tokens


@dataclass
class Load:
    """The chats' histories, what was asked and when, on a clock that only steps move."""

    thinks: bool = False
    now_s: float = 0.0
    moved_bytes: int = 0
    asked: list[Sequence] = field(default_factory=list)
    waits_s: list[float] = field(default_factory=list)
    steps_to_first: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        limits = SchedulerLimits(seats=8, slots=16, seat_context=2048, step=512, chunk_beside_decode=128, outputs=17)
        self.scheduler = Scheduler(limits, tiers=TierLimits(10**10, 0, 256, BYTES_PER_TOKEN))
        self.scheduler.begin_with([Measured(0, 64, step_s(0, 64)), Measured(1, 0, step_s(1, 0))])
        self._new = count(1000)
        self._open: dict[str, tuple[int, float]] = {}
        self.histories = [self.new(SYSTEM)] * CHATS

    def new(self, tokens: int) -> list[int]:
        return [next(self._new) for _ in range(tokens)]

    def run_turn(self) -> None:
        """Every chat asks once; the next one when one of four has its answer."""
        waiting = list(range(CHATS))
        while waiting or self._open:
            while waiting and len(self._open) < TOGETHER:
                self.ask(waiting.pop(0))
            self.step()

    def ask(self, chat: int) -> None:
        self.histories[chat] = [*self.histories[chat], *self.new(QUESTION)]
        tokens = ANSWER + (THOUGHT if self.thinks else 0)
        sequence = Sequence(f"r{len(self.asked)}", self.histories[chat], tokens, keeps_answer=not self.thinks)
        self.asked.append(sequence)
        self._open[sequence.request_id] = chat, self.now_s
        assert self.scheduler.add(sequence) is None

    def step(self) -> None:
        plan = self.scheduler.schedule()
        result = self.compute(plan)
        self.now_s += (result.duration_s or 0.0) + result.save_s + result.restore_s
        for event in self.scheduler.update(result):
            chat, asked_s = self._open[event.request_id]
            sequence = next(one for one in reversed(self.asked) if one.request_id == event.request_id)
            if event.token is not None and sequence.generated == 1:
                self.waits_s.append(self.now_s - asked_s)
            if event.finish is not None:
                del self._open[event.request_id]
                answer = self.new(ANSWER) if self.thinks else sequence.tokens[len(sequence.prompt) :]
                self.histories[chat] = [*sequence.prompt, *answer]
        for request_id in self._open:
            if not any(one.request_id == request_id and one.generated for one in self.asked):
                self.steps_to_first[request_id] = self.steps_to_first.get(request_id, 0) + 1
        self.scheduler.tiers.take_work()

    def compute(self, plan: StepPlan) -> StepResult:
        saved = [(save.end - save.start) * BYTES_PER_TOKEN for save in plan.saves]
        restored = sum(one.cells for one in plan.restores) * BYTES_PER_TOKEN
        self.moved_bytes += sum(saved) + restored
        sampled = [[(next(self._new), False)] for entry in plan.work if entry.sample]
        duration_s = step_s(plan.decode_rows, plan.token_count - plan.decode_rows) if plan.work else None
        done = [True] * len(plan.restores)
        return StepResult(
            DecodeStatus.DONE,
            sampled,
            duration_s=duration_s,
            saved=saved,
            restored=done,
            save_s=sum(saved) * 1e-10,
            restore_s=restored * 1.1e-10,
        )


def test_later_turns_compute_what_is_new_and_wait_for_nothing_else() -> None:
    load = Load()
    for _ in range(TURNS):
        load.run_turn()
    later = load.asked[CHATS:]
    assert len(later) == CHATS * (TURNS - 1)
    # The answer's last token was never computed; an end of a few tokens is not worth a block.
    assert max(len(one.prompt) - one.cached for one in later) <= QUESTION + SMALLEST_END_TOKENS
    tiers = load.scheduler.tiers
    # There are 16 slots for 24 chats: most come back from outside of the cache, and nothing was thrown out of it.
    assert tiers.hits > len(later) // 2
    assert (load.scheduler.slots.evictions, tiers.failures, load.scheduler.preemptions) == (0, 0, 0)
    # Each chat is saved once as it grows, and taken over once for each turn at most.
    grown = sum(len(history) - SYSTEM for history in load.histories)
    taken = sum(one.cached for one in later)
    assert load.moved_bytes < 1.2 * (grown + taken) * BYTES_PER_TOKEN
    # A server that computes all four prompts in one batch has everybody wait for all of them.
    together_s = TOGETHER * QUESTION * 0.0036
    waits = sorted(load.waits_s[CHATS:])
    assert waits[len(waits) // 2] < 0.5 * together_s
    assert waits[-1] < 1.25 * together_s
    # A prompt is 265 tokens in chunks of 64: five steps alone, and what is taken over takes one more.
    steps = sorted(load.steps_to_first[one.request_id] for one in later)
    assert steps[len(steps) // 2] <= 7


def test_of_a_thought_nothing_is_kept_and_the_next_turn_finds_its_prompt() -> None:
    load = Load(thinks=True)
    for _ in range(TURNS):
        load.run_turn()
    later = load.asked[CHATS:]
    assert all(one.cached >= len(one.prompt) - QUESTION - ANSWER - SMALLEST_END_TOKENS for one in later)
    # What was ever saved are prompts: a thought would have made it twice as much.
    prompts = sum(len(history) for history in load.histories)
    saved = load.scheduler.tiers.index.counts.saved_bytes
    assert saved < 1.1 * prompts * BYTES_PER_TOKEN
