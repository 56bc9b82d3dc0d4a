"""What is guessed: only what makes more tokens per second, learned from what guesses came to and what steps took."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from appliance.engine.llamacpp.scheduler import Scheduler, SchedulerLimits
from appliance.engine.llamacpp.sequence import Finish, Sequence
from appliance.engine.llamacpp.speculation import (
    MODEL_LONGEST,
    MODEL_RETRY_STEPS,
    MODEL_RETRY_TOKENS,
    PLAIN_EVERY,
    Candidate,
    choose,
    choose_depth,
)
from appliance.engine.llamacpp.step import DecodeStatus, Measured, SequenceEvent, SlotTrim, StepPlan, StepResult
from appliance.engine.llamacpp.step_costs import FORGET_STEPS, StepCosts

LIMITS = SchedulerLimits(seats=4, slots=12, seat_context=4096, step=512, chunk_beside_decode=128, outputs=12, draft=24)
CARD = [Measured(1, 0, 0.020), *(Measured(1, 0, 0.020 + 0.0002 * n, n) for n in (1, 3, 7))]
"""Rows cost next to nothing: the step waits for memory."""

PROCESSOR = [Measured(1, 0, 0.010), *(Measured(1, 0, 0.010 * (1 + n), n) for n in (1, 3, 7))]
"""Every row costs as much as the first."""

PATTERN = [11, 12, 13, 14, 15, 16, 17, 18]


def costs(measured: list[Measured]) -> StepCosts:
    made = StepCosts()
    made.learn(1, 1, measured[0].duration_s)
    made.set_curve([(1 + one.draft_tokens, one.duration_s) for one in measured])
    return made


def candidate(chance: float, count: int = 11) -> Candidate:
    return Candidate(list(range(count)), [chance] * count)


def test_where_rows_are_free_a_good_guess_is_computed_as_far_as_there_is_room() -> None:
    assert choose([candidate(0.95)], costs(CARD), limit=11) == [11]
    assert choose([candidate(0.95)], costs(CARD), limit=4) == [4]


def test_where_rows_cost_as_much_as_tokens_nothing_is_guessed() -> None:
    assert choose([candidate(0.99)], costs(PROCESSOR), limit=11) == [0]


def test_a_poor_guess_is_shorter_and_a_bad_one_is_none() -> None:
    lengths = [
        choose([candidate(chance)], costs([Measured(1, 0, 0.02), Measured(1, 0, 0.022, 1)]), limit=11)[0]
        for chance in (0.95, 0.6, 0.3, 0.05)
    ]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] > lengths[2] > 0
    assert lengths[-1] == 0


def test_of_several_the_likeliest_tokens_are_taken_first() -> None:
    assert choose([candidate(0.9), None, candidate(0.5)], costs(CARD), limit=3) == [3, 0, 0]


def test_nobody_who_cannot_be_guessed_is_slowed_down_for_one_who_can() -> None:
    # One row more makes this step 7 % longer, three more 20 %: they would triple the tokens of one of two.
    slower = costs([Measured(1, 0, 0.010), Measured(1, 0, 0.0107, 1), Measured(1, 0, 0.0121, 3)])
    assert choose([candidate(1.0), None], slower, limit=9) == [1, 0]
    assert choose([candidate(1.0), candidate(1.0)], slower, limit=9)[0] > 1


def test_nothing_is_guessed_before_a_step_was_measured_or_without_room() -> None:
    assert choose([candidate(1.0)], StepCosts(), limit=11) == [0]
    assert choose([candidate(1.0)], costs(CARD), limit=0) == [0]


def test_a_draft_model_guesses_as_deep_as_its_passes_are_worth() -> None:
    passes = StepCosts()
    passes.learn(1, 1, 0.002)
    deep = choose_depth([0.9], [20], costs(CARD), passes, limit=11)
    poor = choose_depth([0.5], [20], costs(CARD), passes, limit=11)
    assert MODEL_LONGEST >= deep > poor > 0
    assert choose_depth([0.1], [20], costs(CARD), passes, limit=11) == 0
    assert choose_depth([0.9], [20], costs(PROCESSOR), passes, limit=11) == 0
    assert choose_depth([0.9], [20], costs(CARD), passes, limit=2) == 2
    assert choose_depth([0.9], [1], costs(CARD), passes, limit=11) == 1
    assert choose_depth([0.9], [20], costs(CARD), StepCosts(), limit=11) == 0
    slow = StepCosts()
    slow.learn(1, 1, 0.02)
    assert choose_depth([1.0], [20], costs(CARD), slow, limit=11) == 0


def test_costs_are_multiples_of_the_plain_step_and_follow_the_curve_until_measured() -> None:
    known = costs(CARD)
    assert known.cost_s(1, 4) == pytest.approx(0.0206)
    known.learn(4, 4, 0.1)
    # Between the measured points and beyond in straight lines; four sequences have their own plain step.
    assert known.cost_s(4, 8) == pytest.approx(0.1 * 0.0214 / 0.0206)
    for _ in range(30):
        known.learn(4, 8, 0.2)
    assert known.cost_s(4, 8) == pytest.approx(0.2, rel=0.01)
    assert known.cost_s(1, 8) == pytest.approx(0.0214)
    # Twice as deep in the conversation everything takes longer.
    for _ in range(40):
        known.learn(4, 4, 0.2)
    assert known.cost_s(4, 8) == pytest.approx(0.4, rel=0.01)


def test_what_was_slow_once_is_tried_again_after_a_while() -> None:
    known = costs(CARD)
    for _ in range(20):
        known.learn(1, 8, 1.0)
    assert choose([candidate(0.95, 7)], known, limit=11)[0] < 7
    for _ in range(FORGET_STEPS + 1):
        known.learn(1, 1, 0.020)
    assert choose([candidate(0.95, 7)], known, limit=11) == [7]


class Copier:
    """Serves sequences that repeat ``PATTERN``, or say something new at every token."""

    def __init__(self, measured: list[Measured], limits: SchedulerLimits = LIMITS, *, shares: bool = True) -> None:
        self.scheduler = Scheduler(limits, shares=shares)
        self.scheduler.begin_with(measured)
        self.base_s = measured[0].duration_s
        self.row_s = measured[1].duration_s - measured[0].duration_s
        self.plans: list[StepPlan] = []
        self.seconds = 0.0
        self.novel = 10_000
        self.said: Callable[[int], int] = lambda position: PATTERN[position % len(PATTERN)]
        self.end_after: int | None = None
        self.model_right = 0
        self.events: list[SequenceEvent] = []

    def add(self, name: str, *, repeats: bool = True, max_tokens: int = 400) -> Sequence:
        prompt = PATTERN * 4 if repeats else list(range(100, 132))
        sequence = Sequence(name, prompt, max_tokens, sampling=repeats)
        assert self.scheduler.add(sequence) is None
        return sequence

    def _said(self, repeats: bool, position: int) -> tuple[int, bool]:
        if self.end_after is not None and position > self.end_after:
            return 2, True
        return (self.said(position) if repeats else self.new()), False

    def new(self) -> int:
        """A token that nobody said before."""
        self.novel += 1
        return self.novel

    def step(self) -> StepPlan:
        plan = self.scheduler.schedule()
        runs = []
        drafts: dict[str, list[int]] = {}
        for entry in plan.work:
            if not entry.sample:
                continue
            run: list[tuple[int, bool]] = []
            position = entry.position + len(entry.tokens)
            draft = list(entry.draft)
            if entry.propose:
                # Right as far as it is to be right, whatever is said.
                assert list(entry.history)[-len(entry.tokens) :] == entry.tokens
                draft = [self.novel + 1 + n if n < self.model_right else 5 for n in range(entry.propose)]
                drafts[entry.request_id] = draft
            for guess in [*draft, None]:
                run.append(self._said(bool(entry.sampling), position))
                position += 1
                if run[-1][1] or run[-1][0] != guess:
                    break
            runs.append(run)
        extra = plan.token_count - plan.decode_rows
        seconds = self.base_s + self.row_s * (extra + max(0, plan.decode_rows - 1))
        self.seconds += seconds
        passes = max(map(len, drafts.values()), default=0)
        draft_s = 0.002 * passes
        result = StepResult(
            DecodeStatus.DONE, runs, duration_s=seconds + draft_s, drafts=drafts, draft_s=draft_s, draft_passes=passes
        )
        self.events += self.scheduler.update(result)
        self.scheduler.check_integrity()
        self.plans.append(plan)
        return plan


def test_a_stream_that_repeats_takes_many_tokens_in_a_step() -> None:
    copier = Copier(CARD)
    sequence = copier.add("a", max_tokens=200)
    while copier.scheduler.has_work:
        copier.step()
    assert sequence.generated == 200
    assert len(copier.plans) < 60
    speculation = copier.scheduler.speculation
    assert speculation.accepted > 150
    # The prompt gives one token, each further step one more than were guessed right.
    assert speculation.accepted + len(copier.plans) == 200
    assert speculation.drafted == sum(plan.draft_count for plan in copier.plans)


def test_a_stream_that_says_new_things_is_not_guessed_at() -> None:
    copier = Copier(CARD)
    copier.add("a", repeats=False, max_tokens=200)
    while copier.scheduler.has_work:
        copier.step()
    assert copier.scheduler.speculation.drafted == 0


def test_guesses_that_go_wrong_stop_and_begin_again_when_they_would_be_right() -> None:
    copier = Copier(CARD)
    copier.row_s = 0.004
    repeats = [False]
    sequence = copier.add("a", max_tokens=4000)
    # A well-known run of tokens, and then always another one.
    copier.said = lambda position: position % 8 + 11 if repeats[0] or position % 8 < 5 else copier.new()
    for _ in range(300):
        copier.step()
    early, late = copier.plans[:150], copier.plans[150:]
    wasted = sum(plan.draft_count for plan in late) - (sequence.generated - 300)
    assert sum(plan.draft_count for plan in late) <= sum(plan.draft_count for plan in early)
    # What is guessed by now are the tokens that do come back.
    assert wasted < 60
    repeats[0] = True
    for _ in range(100):
        copier.step()
    assert sum(plan.draft_count for plan in copier.plans[-50:]) > 300


def test_an_ending_in_the_middle_of_a_run_is_the_end() -> None:
    copier = Copier(CARD)
    sequence = copier.add("a")
    for _ in range(3):
        copier.step()
    assert copier.plans[-1].draft_count > 5
    copier.end_after = len(sequence.tokens) + 2
    while copier.scheduler.has_work:
        copier.step()
    assert [event.finish for event in copier.events if event.finish] == [Finish.STOP]
    assert copier.events[-1].finish is Finish.STOP
    assert len(sequence.tokens) == copier.end_after + 1
    # What was computed behind the end goes before the next step, and what was right stays for the next turn.
    plan = copier.scheduler.schedule()
    slot = copier.scheduler.slots.slots[0]
    assert plan.memory == [SlotTrim(0, len(slot.tokens))]
    assert slot.tokens == sequence.tokens


@pytest.mark.parametrize(("max_tokens", "seat"), [(33, 4096), (4000, 65)])
def test_a_limit_in_the_middle_of_a_run_is_kept_to_the_token(max_tokens: int, seat: int) -> None:
    limits = SchedulerLimits(4, 12, seat, 512, 128, outputs=12, draft=24)
    copier = Copier(CARD, limits)
    sequence = copier.add("a", max_tokens=max_tokens)
    while copier.scheduler.has_work:
        copier.step()
    assert sequence.generated == min(max_tokens, seat - 32)
    assert copier.events[-1].finish is Finish.LENGTH
    assert copier.scheduler.speculation.accepted > 10


def test_no_guess_takes_cells_that_a_kept_chat_holds() -> None:
    limits = SchedulerLimits(1, 4, 200, 512, 128, outputs=12, draft=24)
    copier = Copier(CARD, limits)
    copier.scheduler.add(Sequence("idle", list(range(1000, 1150)), 1, sampling=False))
    while copier.scheduler.has_work:
        copier.step()
    copier.add("a", max_tokens=30)
    while copier.scheduler.has_work and copier.scheduler.slots.free_cells > 1:
        copier.step()
        assert copier.scheduler.slots.evictions == 0


def test_a_memory_that_cannot_drop_a_tail_gets_no_guesses() -> None:
    copier = Copier(CARD, shares=False)
    copier.add("a", max_tokens=50)
    while copier.scheduler.has_work:
        copier.step()
    assert copier.scheduler.speculation.drafted == 0


def test_a_sequence_that_is_to_be_repeatable_gets_no_guesses_beside_one_that_does() -> None:
    copier = Copier(CARD)
    copier.add("a", max_tokens=60).repeatable = True
    copier.add("b", max_tokens=60)
    while copier.scheduler.has_work:
        copier.step()
    guessed = {entry.request_id for plan in copier.plans for entry in plan.work if entry.draft or entry.propose}
    assert guessed == {"b"}


def test_off_is_off() -> None:
    limits = SchedulerLimits(4, 12, 4096, 512, 128, outputs=12, draft=0)
    copier = Copier(CARD, limits)
    copier.add("a", max_tokens=50)
    while copier.scheduler.has_work:
        copier.step()
    assert copier.scheduler.speculation.drafted == 0


def test_no_room_for_a_step_with_guesses_is_a_step_without() -> None:
    copier = Copier(CARD)
    copier.add("a")
    for _ in range(3):
        plan = copier.step()
    assert plan.draft_count > 0
    assert copier.scheduler.schedule().draft_count > 0
    copier.scheduler.update(StepResult(DecodeStatus.NO_KV_SLOT))
    plan = copier.step()
    assert (plan.draft_count, copier.scheduler.preemptions) == (0, 0)


def test_a_plain_step_now_and_then_shows_what_guesses_save() -> None:
    copier = Copier(CARD)
    copier.add("a", max_tokens=3000)
    for _ in range(2 * PLAIN_EVERY + 10):
        copier.step()
    plain = [plan for plan in copier.plans[5:] if not plan.draft_count]
    assert 1 <= len(plain) <= 4


def served_by_model(right: int, steps: int) -> tuple[Copier, list[int]]:
    """A stream that no look-up helps, whose draft model has the first ``right`` tokens of every guess right."""
    copier = Copier(CARD)
    copier.scheduler.speculation.begin_with_model(0.002)
    copier.add("a", repeats=False, max_tokens=4000)
    copier.model_right = right
    asked = []
    for _ in range(steps):
        plan = copier.step()
        asked.append(sum(entry.propose for entry in plan.work))
    return copier, asked


def test_a_good_draft_model_is_used_and_a_bad_one_is_not_for_long() -> None:
    copier, asked = served_by_model(right=8, steps=150)
    assert sum(asked[-50:]) > 200
    assert copier.scheduler.speculation.model_accepted > 500
    # A step without now and then.
    assert 1 <= asked[10:].count(0) <= 4
    copier, asked = served_by_model(right=0, steps=150)
    assert sum(asked) > 0
    assert sum(asked[-50:]) == 0


def test_a_draft_model_that_did_not_pay_is_tried_again() -> None:
    copier, asked = served_by_model(right=0, steps=2 * MODEL_RETRY_STEPS)
    assert 0 < sum(asked[100:]) <= 2 * MODEL_RETRY_TOKENS
    copier.model_right = 8
    for _ in range(10 * MODEL_RETRY_STEPS):
        if sum(entry.propose for entry in copier.step().work) > MODEL_RETRY_TOKENS:
            break
    else:
        raise AssertionError("it never comes back")


def test_prompts_go_before_guesses() -> None:
    copier = Copier(CARD)
    copier.add("a")
    for _ in range(3):
        copier.step()
    copier.scheduler.add(Sequence("b", list(range(100, 1300)), 5, sampling=False))
    plan = copier.step()
    assert {entry.request_id for entry in plan.work} == {"a", "b"}
    assert plan.draft_count == 0
