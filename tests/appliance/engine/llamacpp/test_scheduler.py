"""The scheduler alone: what it plans and how it takes results. See ``test_sharing`` for events in any order."""

from __future__ import annotations

from appliance.engine.llamacpp.prompt_shares import share_out
from appliance.engine.llamacpp.scheduler import Scheduler, SchedulerLimits
from appliance.engine.llamacpp.sequence import BATCH, Finish, Phase, Sequence
from appliance.engine.llamacpp.step import DecodeStatus, SequenceEvent, SlotTrim, StepPlan, StepResult

LIMITS = SchedulerLimits(seats=3, slots=3, seat_context=64, step=32, chunk_beside_decode=8)


def scheduler(**changes: int) -> Scheduler:
    values = {"seats": 3, "seat_context": 64, "step": 32, "chunk_beside_decode": 8, **changes}
    values.setdefault("slots", values["seats"])
    return Scheduler(SchedulerLimits(**values))


def sequence(name: str, prompt_tokens: int, max_tokens: int = 4, first: int = 1) -> Sequence:
    return Sequence(name, list(range(first, first + prompt_tokens)), max_tokens)


def done(plan: StepPlan, token: int = 900, *, ends: bool = False) -> StepResult:
    return StepResult(DecodeStatus.DONE, [[(token, ends)] for entry in plan.work if entry.sample])


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
    subject.add(sequence("b", 21, first=100))
    shapes = [shape(step(subject)[0]) for _ in range(3)]
    assert shapes == [
        [("a", 4, 1, True), ("b", 0, 8, False)],
        [("a", 5, 1, True), ("b", 8, 8, False)],
        [("a", 6, 1, True), ("b", 16, 5, True)],
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


def test_a_memory_that_cannot_share_is_reused_only_as_a_whole_prefix() -> None:
    subject = Scheduler(LIMITS, shares=False)
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
    subject = scheduler(seats=1)
    subject.add(sequence("a", 5, max_tokens=50))
    subject.add(sequence("b", 5, first=40))
    step(subject)
    subject.abort("a")
    subject.abort("a")
    subject.abort("nobody")
    assert [(event.request_id, event.finish) for event in subject.take_aborted()] == [("a", Finish.ABORTED)]
    assert shape(step(subject)[0]) == [("b", 0, 5, True)]


def test_an_aborted_waiting_sequence_ends_without_ever_running() -> None:
    subject = scheduler(seats=1)
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
    subject = scheduler(seats=1)
    subject.add(sequence("a", 5))
    subject.add(sequence("b", 5))
    plan = subject.schedule()
    events = subject.update(StepResult(DecodeStatus.INVALID_BATCH, message="refused"))
    assert [(e.request_id, e.finish, e.message) for e in events] == [("a", Finish.ERROR, "refused")]
    plan, _ = step(subject)
    # Nothing of the failed step is trusted: the slot starts empty although the prompts are the same.
    assert (plan.memory, shape(plan)) == ([SlotTrim(0, 0)], [("b", 0, 5, True)])


def test_a_refused_trim_starts_the_slot_over_and_is_not_asked_for_again() -> None:
    subject = scheduler(seats=1)
    subject.add(sequence("a", 10, max_tokens=1))
    step(subject)
    again = Sequence("b", [1, 2, 3, 4, 50, 51], 2)
    subject.add(again)
    plan = subject.schedule()
    assert (plan.memory, plan.work[0].position) == ([SlotTrim(0, 4)], 4)
    assert subject.update(StepResult(DecodeStatus.TRIM_REFUSED)) == []
    subject.check_integrity()
    assert shape(step(subject)[0]) == [("b", 0, 6, True)]
    assert (again.cached, subject.slots.shares) == (0, False)


def test_samplers_of_ended_requests_are_named_once() -> None:
    subject = scheduler()
    subject.add(sequence("a", 3, max_tokens=1))
    step(subject)
    assert subject.schedule().ended == ["a"]
    subject.update(StepResult(DecodeStatus.DONE))
    assert subject.schedule().ended == []


def test_the_first_prompt_gets_half_of_a_step_and_the_one_that_is_done_soonest_the_rest() -> None:
    subject = scheduler(seat_context=512)
    subject.add(sequence("long", 300, first=1000))
    step(subject)
    subject.add(sequence("middle", 60, first=2000))
    subject.add(sequence("short", 10, first=3000))
    # The first 16 tokens are the long one's; 10 are all of the short one, 6 are left for the next.
    assert shape(step(subject)[0]) == [("long", 32, 16, False), ("short", 0, 10, True), ("middle", 0, 6, False)]


def test_a_small_rest_of_a_prompt_goes_along_with_its_last_chunk() -> None:
    subject = scheduler(step=64)
    subject.add(sequence("a", 4, max_tokens=20))
    step(subject)
    subject.add(sequence("b", 12, first=100))
    assert shape(step(subject)[0])[1:] == [("b", 0, 12, True)]


def test_a_larger_rest_waits_for_the_next_step_where_others_wait_for_this_one() -> None:
    def given(pending: int, *, beside: bool) -> int:
        prompt = Sequence("b", list(range(pending)), 9, phase=Phase.RUNNING)
        return share_out([prompt], 64, 256, beside_decode=beside)["b"]

    assert [given(64 + rest, beside=False) for rest in (16, 17, 32, 33)] == [80, 81, 96, 64]
    assert [given(64 + rest, beside=True) for rest in (16, 17, 32, 33)] == [80, 64, 64, 64]


def test_batch_prompts_take_what_interactive_ones_leave() -> None:
    subject = scheduler(seat_context=512)
    batch = Sequence("batch", list(range(1000, 1300)), 4, priority=BATCH)
    subject.add(batch)
    step(subject)
    subject.add(sequence("person", 40, first=2000))
    assert shape(step(subject)[0]) == [("person", 0, 32, False)]
    assert shape(step(subject)[0]) == [("person", 32, 8, True), ("batch", 32, 24, False)]


def test_a_measured_step_decides_how_much_of_a_prompt_comes_along() -> None:
    subject = scheduler(seat_context=512, step=256)
    subject.add(sequence("a", 16, max_tokens=200))
    for _ in range(4):
        plan = subject.schedule()
        seconds = 0.01 if plan.decode_rows else 0.016
        subject.update(StepResult(DecodeStatus.DONE, [[(900, False)]], duration_s=seconds))
    subject.add(sequence("b", 400, first=1000))
    # A prompt token takes 1 ms beside 10 ms of decoding: 64 in 74 ms are more than three quarters of their speed alone.
    assert shape(subject.schedule())[1] == ("b", 0, 64, False)


def test_preempting_gives_the_cells_back_before_the_next_step() -> None:
    subject = scheduler()
    subject.add(sequence("a", 20, max_tokens=20))
    step(subject)
    for _ in range(2):
        subject.schedule()
        subject.update(StepResult(DecodeStatus.NO_KV_SLOT))
        if subject.preemptions:
            break
    assert (subject.preemptions, subject.slots.tree.cells) == (1, 0)
    assert SlotTrim(0, 0) in subject.schedule().memory


def test_without_room_idle_chats_are_given_back_before_anybody_is_preempted() -> None:
    subject = scheduler()
    subject.add(sequence("old", 20, max_tokens=1))
    step(subject)
    subject.add(sequence("a", 20, max_tokens=20, first=500))
    subject.schedule()
    assert subject.update(StepResult(DecodeStatus.NO_KV_SLOT)) == []
    assert (subject.slots.evictions, subject.slots.evicted_tokens, subject.preemptions) == (1, 20, 0)
    assert SlotTrim(0, 0) in step(subject)[0].memory
