"""The scheduler alone: what it plans, how it takes results, and its invariants under any order of events."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from appliance.engine.llamacpp.scheduler import (
    DecodeStatus,
    Scheduler,
    SchedulerLimits,
    SequenceEvent,
    StepPlan,
    StepResult,
)
from appliance.engine.llamacpp.sequence import Finish, Sequence

LIMITS = SchedulerLimits(slots=3, seat_context=64, step=32, chunk_beside_decode=8)


def scheduler(**changes: int) -> Scheduler:
    values = {"slots": 3, "seat_context": 64, "step": 32, "chunk_beside_decode": 8, **changes}
    return Scheduler(SchedulerLimits(**values))


def sequence(name: str, prompt_tokens: int, max_tokens: int = 4, first: int = 1) -> Sequence:
    return Sequence(name, list(range(first, first + prompt_tokens)), max_tokens)


def done(plan: StepPlan, token: int = 900, *, ends: bool = False) -> StepResult:
    return StepResult(DecodeStatus.DONE, [(token, ends) for entry in plan.work if entry.sample])


def step(subject: Scheduler, token: int = 900, *, ends: bool = False) -> tuple[StepPlan, list[SequenceEvent]]:
    plan = subject.schedule()
    events = subject.update(done(plan, token, ends=ends))
    subject.check_integrity()
    return plan, events


def shape(plan: StepPlan) -> list[tuple[str, int, int, bool]]:
    return [(entry.request_id, entry.position, len(entry.tokens), entry.sample) for entry in plan.work]


def test_a_prompt_that_fits_the_step_is_computed_at_once_and_sampled() -> None:
    subject = scheduler()
    assert subject.add(sequence("a", 10)) is None
    plan, events = step(subject)
    assert shape(plan) == [("a", 0, 10, True)]
    assert [(event.token, event.finish) for event in events] == [(900, None)]


def test_a_longer_prompt_comes_in_chunks_and_only_the_last_one_samples() -> None:
    subject = scheduler()
    subject.add(sequence("a", 50))
    assert shape(step(subject)[0]) == [("a", 0, 32, False)]
    plan, events = step(subject)
    assert shape(plan) == [("a", 32, 18, True)]
    assert len(events) == 1


def test_a_prompt_beside_a_running_answer_gets_small_chunks_and_the_answer_is_never_left_out() -> None:
    subject = scheduler()
    subject.add(sequence("a", 4, max_tokens=20))
    step(subject)
    subject.add(sequence("b", 20, first=100))
    shapes = [shape(step(subject)[0]) for _ in range(3)]
    assert shapes == [
        [("a", 4, 1, True), ("b", 0, 8, False)],
        [("a", 5, 1, True), ("b", 8, 8, False)],
        [("a", 6, 1, True), ("b", 16, 4, True)],
    ]


def test_several_answers_are_decoded_together() -> None:
    subject = scheduler()
    for name in "abc":
        subject.add(sequence(name, 5, first=ord(name)))
    step(subject)
    assert shape(step(subject)[0]) == [("a", 5, 1, True), ("b", 5, 1, True), ("c", 5, 1, True)]


def test_a_fourth_request_waits_for_a_seat_and_takes_the_first_that_is_free() -> None:
    subject = scheduler()
    for name in "abcd":
        subject.add(sequence(name, 5, max_tokens=2, first=ord(name)))
    step(subject)
    assert subject.waiting_count == 1
    step(subject)
    assert shape(step(subject)[0]) == [("d", 0, 5, True)]


def test_max_tokens_ends_with_length_and_the_token_is_delivered_first() -> None:
    subject = scheduler()
    subject.add(sequence("a", 5, max_tokens=2))
    step(subject)
    _, events = step(subject, token=901)
    assert [(event.token, event.finish) for event in events] == [(901, None), (None, Finish.LENGTH)]
    assert (events[1].prompt_tokens, events[1].completion_tokens) == (5, 2)


def test_a_full_seat_ends_with_length() -> None:
    subject = scheduler(seat_context=8)
    subject.add(sequence("a", 5, max_tokens=100))
    ends = [event.finish for _ in range(3) for event in step(subject)[1] if event.finish]
    assert ends == [Finish.LENGTH]


def test_an_end_token_ends_with_stop_and_is_no_token_of_the_answer() -> None:
    subject = scheduler()
    subject.add(sequence("a", 5))
    _, events = step(subject, ends=True)
    assert [(event.token, event.finish, event.completion_tokens) for event in events] == [(None, Finish.STOP, 0)]
    assert not subject.has_work


def test_the_next_turn_of_a_chat_computes_only_what_is_new() -> None:
    subject = scheduler()
    first = sequence("a", 10, max_tokens=3)
    subject.add(first)
    for _ in range(3):
        step(subject)
    second = Sequence("b", [*first.tokens[:-1], 500, 501], 3)
    subject.add(second)
    plan, _ = step(subject)
    # Of 13 tokens the last was never computed: it was the answer's last one.
    assert shape(plan) == [("b", 12, 2, True)]
    assert second.cached == 12


def test_a_slot_of_another_chat_is_kept_while_there_is_an_empty_one() -> None:
    subject = scheduler()
    subject.add(sequence("a", 10, max_tokens=1))
    step(subject)
    subject.add(sequence("b", 10, max_tokens=1, first=300))
    plan, _ = step(subject)
    assert plan.work[0].slot == 1
    subject.add(sequence("c", 10, max_tokens=1))
    plan, _ = step(subject)
    assert (plan.work[0].slot, plan.work[0].position) == (0, 9)


def test_a_memory_without_partial_clear_is_reused_only_as_a_whole_prefix() -> None:
    subject = Scheduler(LIMITS, partial_clear=False)
    subject.add(sequence("a", 10, max_tokens=1))
    plan = subject.schedule()
    subject.update(done(plan))
    subject.add(Sequence("same", [*range(1, 11), 77], 1))
    plan = subject.schedule()
    assert plan.work[0].position == 10
    subject.update(done(plan))
    subject.add(Sequence("diverging", [*range(1, 6), 99, 98], 1))
    plan = subject.schedule()
    assert plan.work[0].position == 0


def test_an_aborted_sequence_ends_once_and_frees_its_seat() -> None:
    subject = scheduler(slots=1)
    subject.add(sequence("a", 5, max_tokens=50))
    subject.add(sequence("b", 5, first=40))
    step(subject)
    subject.abort("a")
    subject.abort("a")
    subject.abort("nobody")
    assert [(event.request_id, event.finish) for event in subject.take_aborted()] == [("a", Finish.ABORTED)]
    assert shape(step(subject)[0]) == [("b", 0, 5, True)]


def test_an_aborted_waiting_sequence_ends_without_ever_running() -> None:
    subject = scheduler(slots=1)
    subject.add(sequence("a", 5, max_tokens=50))
    subject.add(sequence("b", 5))
    step(subject)
    subject.abort("b")
    events = subject.take_aborted()
    assert [(event.request_id, event.finish, event.completion_tokens) for event in events] == [("b", Finish.ABORTED, 0)]


def test_what_can_never_run_is_refused_with_the_reason() -> None:
    subject = scheduler()
    refusals = {
        "empty": subject.add(Sequence("empty", [], 1)),
        "long": subject.add(sequence("long", 64)),
        "none": subject.add(sequence("none", 3, max_tokens=0)),
    }
    subject.add(sequence("twice", 3))
    refusals["twice"] = subject.add(sequence("twice", 3))
    assert {name: refusal.message if refusal else None for name, refusal in refusals.items()} == {
        "empty": "the prompt is empty",
        "long": "the prompt has 64 tokens and a seat holds 64, one of them for the answer",
        "none": "max_tokens is less than 1",
        "twice": "a request with this id is running",
    }


def test_no_kv_slot_shrinks_the_step_then_preempts_the_newest_which_loses_nothing() -> None:
    subject = scheduler()
    subject.add(sequence("a", 4, max_tokens=20))
    step(subject)
    newest = sequence("b", 20, max_tokens=20, first=100)
    subject.add(newest)
    sizes = []
    for _ in range(8):
        plan = subject.schedule()
        sizes.append(plan.token_count)
        assert subject.update(StepResult(DecodeStatus.NO_KV_SLOT)) == []
        subject.check_integrity()
        if subject.preemptions:
            break
    assert sizes == [9, 4, 2, 1]
    assert subject.preemptions == 1
    # The one that decodes was the only one in the last step, so it was the newest there; both start over and finish.
    endings = {}
    for _ in range(60):
        if not subject.has_work:
            break
        for event in step(subject)[1]:
            if event.finish:
                endings[event.request_id] = (event.finish, event.completion_tokens)
    assert endings == {"a": (Finish.LENGTH, 20), "b": (Finish.LENGTH, 20)}


def test_an_invalid_batch_fails_its_sequences_and_nobody_else() -> None:
    subject = scheduler(slots=1)
    subject.add(sequence("a", 5))
    subject.add(sequence("b", 5))
    plan = subject.schedule()
    events = subject.update(StepResult(DecodeStatus.INVALID_BATCH, message="refused"))
    assert [(e.request_id, e.finish, e.message) for e in events] == [("a", Finish.ERROR, "refused")]
    plan, _ = step(subject)
    # Nothing of the failed step is trusted: the slot starts empty although the prompts are the same.
    assert (plan.trims[0].keep, shape(plan)) == (0, [("b", 0, 5, True)])


def test_a_refused_trim_starts_the_slot_over_and_is_not_asked_for_again() -> None:
    subject = scheduler(slots=1)
    subject.add(sequence("a", 10, max_tokens=1))
    step(subject)
    again = Sequence("b", [1, 2, 3, 4, 50, 51], 2)
    subject.add(again)
    plan = subject.schedule()
    assert (plan.trims[0].keep, plan.work[0].position) == (4, 4)
    assert subject.update(StepResult(DecodeStatus.TRIM_REFUSED)) == []
    subject.check_integrity()
    assert shape(step(subject)[0]) == [("b", 0, 6, True)]
    assert (again.cached, subject.slots.partial_clear) == (0, False)


def test_samplers_of_ended_requests_are_named_once() -> None:
    subject = scheduler()
    subject.add(sequence("a", 3, max_tokens=1))
    step(subject)
    assert subject.schedule().ended == ["a"]
    subject.update(StepResult(DecodeStatus.DONE))
    assert subject.schedule().ended == []


class AnyOrder(RuleBasedStateMachine):
    """Adds, aborts and steps with every outcome, in any order: each request ends exactly once, with what it was due."""

    def __init__(self) -> None:
        super().__init__()
        self.subject = scheduler()
        self.names = 0
        self.tokens: dict[str, int] = {}
        self.endings: dict[str, Finish] = {}
        self.failures_in_a_row = 0

    @rule(prompt=st.integers(1, 63), max_tokens=st.integers(1, 30), first=st.integers(0, 3))
    def add(self, prompt: int, max_tokens: int, first: int) -> None:
        self.names += 1
        name = f"r{self.names}"
        assert self.subject.add(sequence(name, prompt, max_tokens, first=first)) is None
        self.tokens[name] = 0

    @precondition(lambda self: self.tokens)
    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        self.subject.abort(data.draw(st.sampled_from(sorted(self.tokens))))

    @rule(
        status=st.sampled_from([*[DecodeStatus.DONE] * 6, *DecodeStatus]),
        token=st.integers(0, 5),
        ends=st.integers(0, 9),
    )
    def step(self, status: DecodeStatus, token: int, ends: int) -> None:
        self.take(self.subject.take_aborted())
        plan = self.subject.schedule()
        assert plan.token_count <= self.subject.limits.step
        assert len({entry.slot for entry in plan.work}) == len(plan.work)
        if not plan.work or (status is DecodeStatus.TRIM_REFUSED and not any(trim.keep for trim in plan.trims)):
            status = DecodeStatus.DONE
        if status is DecodeStatus.DONE:
            result = StepResult(
                status, [(token, ends == index) for index, entry in enumerate(e for e in plan.work if e.sample)]
            )
        else:
            result = StepResult(status)
        self.take(self.subject.update(result))

    def take(self, events: list[SequenceEvent]) -> None:
        for event in events:
            assert event.request_id not in self.endings, "an event after the ending"
            if event.token is not None:
                self.tokens[event.request_id] += 1
            if event.finish is not None:
                self.endings[event.request_id] = event.finish
                assert event.completion_tokens == self.tokens[event.request_id]

    @invariant()
    def is_whole(self) -> None:
        self.subject.check_integrity()

    def teardown(self) -> None:
        for _ in range(40 * (self.names + 1) * 3):
            if not self.subject.has_work:
                break
            self.take(self.subject.take_aborted())
            plan = self.subject.schedule()
            self.take(self.subject.update(done(plan, token=7)))
        assert set(self.endings) == set(self.tokens), "a request without an ending"


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
