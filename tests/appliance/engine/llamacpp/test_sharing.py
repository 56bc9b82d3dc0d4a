"""Scheduler and slots against a unified cache: whatever happens in any order, a sequence sees its own tokens alone.

Over 400 lines because the box that the state machines drive is here beside the first of them.
The cache is a model (``unified_cache``) that knows nothing of trees: it has cells, and says what each slot sees.
"""

from __future__ import annotations

import random
from collections.abc import Sequence as Run
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from appliance.engine.llamacpp.scheduler import PATIENCE_STEPS, Scheduler, SchedulerLimits
from appliance.engine.llamacpp.sequence import BATCH, INTERACTIVE, Finish, Phase, Sequence
from appliance.engine.llamacpp.speculation import Speculation
from appliance.engine.llamacpp.step import DecodeStatus, SequenceEvent, SlotCopy, StepPlan, StepResult
from appliance.engine.llamacpp.thought import ThoughtRules, ThoughtWatch
from appliance.engine.llamacpp.tier_blocks import TierLimits
from tests.appliance.engine.llamacpp.unified_cache import VOCABULARY, UnifiedCache, answer

SEATS, CONTEXT = 3, 160
LIMITS = SchedulerLimits(seats=SEATS, slots=5, seat_context=CONTEXT, step=40, chunk_beside_decode=12)
STEPS_PER_REQUEST = 400
"""More than any request can need."""


def document(number: int, length: int) -> list[int]:
    """The beginning of one of a few long texts; number 1 and 2 have their first 50 tokens in common."""
    text = [(n * 7 + 3) % 4 + 1 for n in range(50)]
    return [*text, *((n * (number + 2) + number) % 4 + 1 for n in range(CONTEXT))][:length]


class Guesser(Speculation):
    """Guesses of any length of which any number are right: for tests of what becomes of them."""

    def __init__(self, seed: int) -> None:
        super().__init__(longest=1)
        self._random = random.Random(seed)

    def guesses(self, decoding: Run[Sequence], rooms: Run[int], limit: int) -> list[list[int]]:
        result = []
        for sequence, room in zip(decoding, rooms, strict=True):
            count = self._random.randint(0, max(0, min(room, limit, 8)))
            right = answer(sequence.tokens, self._random.randint(0, count), CONTEXT)
            result.append([*right, *(self._random.randint(0, VOCABULARY - 1) for _ in range(count - len(right)))])
            limit -= count
        return result


class Box:
    """A scheduler, its cache and what its requests got."""

    def __init__(
        self,
        limits: SchedulerLimits = LIMITS,
        *,
        shares: bool = True,
        parts: bool = True,
        tiers: TierLimits | None = None,
        guesses: int | None = None,
    ) -> None:
        self.scheduler = Scheduler(limits, shares=shares, tiers=tiers)
        if guesses is not None:
            self.scheduler.speculation = Guesser(guesses)
        self.cache = UnifiedCache(limits.seats * limits.seat_context, parts=parts)
        self.sequences: dict[str, Sequence] = {}
        self.said: dict[str, list[int]] = {}
        self.endings: dict[str, Finish] = {}
        self.plans: list[StepPlan] = []
        self.rules: dict[str, ThoughtRules | None] = {}
        self.asked: dict[str, int] = {}
        """After how many tokens each was asked for its answer."""
        self.disk: dict[bytes, list[tuple[int, int]]] = {}
        self.on_its_way: list[tuple[bytes, list[tuple[int, int]] | None]] = []

    def ask(self, name: str) -> None:
        """Somebody wants the answer now."""
        self.scheduler.answer_now(name)
        self.asked.setdefault(name, len(self.said[name]))

    def add(
        self, name: str, prompt: list[int], max_tokens: int = 5, rules: ThoughtRules | None = None, **more: object
    ) -> Sequence:
        watch = None if rules is None else ThoughtWatch(rules)
        sequence = Sequence(name, prompt, max_tokens, watch=watch, **more)  # type: ignore[arg-type]
        self.rules[name] = rules
        assert self.scheduler.add(sequence) is None
        self.sequences[name] = sequence
        self.said[name] = []
        return sequence

    def step(self, fail: DecodeStatus | None = None, duration_s: float | None = None) -> StepPlan:
        self.take(self.scheduler.take_aborted())
        plan = self.scheduler.schedule()
        assert plan.token_count <= self.scheduler.limits.step
        if plan.draft_count:
            outputs = sum(1 + len(entry.draft) for entry in plan.work if entry.sample)
            assert outputs <= self.scheduler.limits.outputs, "more logits than there is room for"
            assert len({entry.request_id for entry in plan.work}) == self.decoding(), "guesses pushed somebody out"
        assert len({entry.slot for entry in plan.work}) == len(plan.work), "a slot twice in a step"
        if fail is not None and not plan.work:
            fail = None
        shown = self.cache.run(StepPlan(saves=plan.saves, memory=plan.memory, restores=plan.restores))
        if shown.status is DecodeStatus.DONE:
            assert len(self.cache.cells) == self.scheduler.slots.tree.cells, "the cells are counted wrong"
            for slot in self.scheduler.slots.slots:
                assert self.cache.seen(slot.index) == slot.tokens, "a slot does not see what the table says"
            result = self.cache.run(StepPlan(work=plan.work), fail=fail)
            if fail is None:
                assert result.status is DecodeStatus.DONE, "the cache was over-committed"
        else:
            result = shown
        self.take(
            self.scheduler.update(
                StepResult(
                    result.status, result.sampled, "why", 0.0, duration_s, saved=shown.saved, restored=shown.restored
                )
            )
        )
        self.do_tier_work()
        self.scheduler.check_integrity()
        self.plans.append(plan)
        return plan

    def do_tier_work(self) -> None:
        work = self.scheduler.tiers.take_work()
        for block in work.write:
            self.on_its_way.append((block.key, self.cache.blocks[block.key]))
        self.on_its_way += [(key, None) for key in work.read]
        for key in work.delete:
            del self.disk[key]
        for key in work.forget:
            del self.cache.blocks[key]
        index = self.scheduler.tiers.index
        kept = {block.key for block in index.all() if block.in_memory}
        assert set(self.cache.blocks) == kept, "other blocks are kept than the index says"
        on_disk = {block.key for block in index.all() if block.on_disk}
        assert set(self.disk) == on_disk, "other files are there than the index says"

    def arrive(self, number: int = 0, *, good: bool = True) -> None:
        """One of what is on its way to the disk or from there arrives, or is lost."""
        key, written = self.on_its_way.pop(number % len(self.on_its_way))
        if written is not None:
            if good:
                self.disk[key] = written
            self.scheduler.tiers.index.was_written(key, good=good)
        elif self.scheduler.block_was_read(key, 0.001, good=good):
            self.cache.blocks[key] = self.disk[key]
        self.do_tier_work()
        self.scheduler.check_integrity()

    def decoding(self) -> int:
        running = [sequence for sequence in self.sequences.values() if sequence.phase is Phase.RUNNING]
        return sum(one.decoding and not (one.leader or one.blocks) for one in running)

    def take(self, events: list[SequenceEvent]) -> None:
        for event in events:
            assert event.request_id not in self.endings, "an event after the ending"
            said = self.said[event.request_id]
            if event.token is not None:
                said.append(event.token)
            if event.finish is not None:
                self.endings[event.request_id] = event.finish
                assert event.completion_tokens == len(said)
            sequence = self.sequences[event.request_id]
            rules, asked = self.rules[event.request_id], self.asked.get(event.request_id)
            watch = None if rules is None else ThoughtWatch(rules)
            expected = answer(sequence.prompt, sequence.max_tokens, CONTEXT, watch, asked)
            if event.finish in (Finish.STOP, Finish.LENGTH):
                assert said == expected, "another answer than alone"
                assert event.thought_end == (watch.end if watch is not None else None)
            elif event.request_id not in self.asked:
                assert said == expected[: len(said)], "another answer than alone"

    def run(self, steps: int = STEPS_PER_REQUEST) -> None:
        for _ in range(steps):
            if self.on_its_way:
                self.arrive()
            elif not self.scheduler.has_work:
                return
            else:
                self.step()
        raise AssertionError("it never ends")


def test_sixteen_requests_with_one_long_prefix_compute_it_once() -> None:
    box = Box(SchedulerLimits(seats=8, slots=16, seat_context=CONTEXT, step=40, chunk_beside_decode=12))
    shared = document(0, 120)
    tails = [[n % 4 + 1, n // 4 + 1, 2, 3] for n in range(16)]
    for number, tail in enumerate(tails):
        box.add(f"r{number}", shared + tail, max_tokens=6)
    box.run()
    generated = sum(len(said) for said in box.said.values())
    # The prefix once, the tails, and each answer but for its last token.
    assert box.cache.computed <= len(shared) + 16 * 4 + generated
    assert box.scheduler.prefix_waits == 7
    assert [box.sequences[f"r{number}"].cached for number in range(16)] >= [0, *[120] * 15]
    assert set(box.endings.values()) <= {Finish.STOP, Finish.LENGTH}


def test_a_request_takes_the_prefix_of_one_that_is_being_answered() -> None:
    box = Box()
    box.add("first", document(0, 60), max_tokens=30)
    for _ in range(3):
        box.step()
    second = box.add("second", [*document(0, 60), 1, 1, 1], max_tokens=3)
    plan = box.step()
    assert plan.memory[-1] == SlotCopy(source=0, target=1, tokens=second.cached)
    assert second.cached >= 60
    box.run()


def test_a_request_waits_for_the_prefix_and_then_for_what_a_nearer_one_computes() -> None:
    box = Box()
    box.add("far", document(1, 100), max_tokens=3)
    box.add("near", document(2, 120), max_tokens=3)
    last = box.add("last", [*document(2, 120), 4, 4], max_tokens=3)
    box.run()
    # 100 of "far", 70 of "near" after the 50 that they share, 2 of "last".
    assert box.cache.computed == 100 + 70 + 2 + sum(
        max(0, len(said) - 1 + (box.endings[name] is Finish.STOP)) for name, said in box.said.items()
    )
    assert last.cached == 120


def test_who_waits_for_a_prefix_computes_it_when_the_other_leaves() -> None:
    box = Box()
    box.add("leader", document(0, 140), max_tokens=3)
    follower = box.add("follower", [*document(0, 140), 2], max_tokens=3)
    box.step()
    assert follower.leader == "leader"
    box.scheduler.abort("leader")
    box.run()
    assert box.endings == {"leader": Finish.ABORTED, "follower": box.endings["follower"]}
    # What the other had computed is not lost.
    assert 0 < follower.cached < 140


def test_nobody_waits_for_ever_for_a_prefix_that_does_not_grow() -> None:
    box = Box()
    leader = box.add("leader", document(0, 140), max_tokens=3)
    follower = box.add("follower", [*document(0, 140), 2], max_tokens=3)
    box.step()
    # As if the leader had been passed over in every step.
    follower.stalled = PATIENCE_STEPS
    box.step()
    assert follower.leader is None
    assert (leader.computed > 0, follower.computed > 0) == (True, True)
    box.run()


def test_a_small_common_beginning_is_not_waited_for() -> None:
    box = Box()
    box.add("a", document(0, 20) + [1] * 90)
    box.add("b", document(0, 20) + [2] * 60)
    plan = box.step()
    assert {entry.request_id for entry in plan.work} == {"a", "b"}
    box.run()


def test_an_interactive_request_lifts_the_batch_one_that_it_waits_for() -> None:
    box = Box()
    box.add("leader", document(0, 140), max_tokens=2, priority=BATCH)
    box.step()
    box.add("other", [3, 3, 4] * 40, max_tokens=2)
    box.add("follower", [*document(0, 140), 2], max_tokens=2, priority=INTERACTIVE)
    plan = box.step()
    # Half of the step is the first one's, who came first and now counts as interactive.
    assert "leader" in {entry.request_id for entry in plan.work}
    box.run()


def test_idle_chats_are_given_back_when_admitted_ones_need_the_cells() -> None:
    box = Box(SchedulerLimits(seats=2, slots=6, seat_context=CONTEXT, step=40, chunk_beside_decode=12))
    for number in range(6):
        box.add(f"idle{number}", [number % 4 + 1, number // 4 + 1] * 40, max_tokens=1)
    box.run()
    # Four of 80 tokens fill the 320 cells: the first two are forgotten.
    assert [bool(slot.tokens) for slot in box.scheduler.slots.slots].count(True) == 4
    assert (box.scheduler.slots.evictions, box.scheduler.slots.evicted_tokens) == (2, 160)
    kept = box.add("again", [2, 2] * 40, max_tokens=1)
    box.run()
    assert kept.cached == 79


def test_more_chats_than_seats_keep_their_turns() -> None:
    box = Box(SchedulerLimits(seats=2, slots=6, seat_context=CONTEXT, step=40, chunk_beside_decode=12))
    chats = [[number % 4 + 1, number // 4 + 2] * 15 for number in range(6)]
    for number, chat in enumerate(chats):
        box.add(f"first{number}", chat, max_tokens=4)
    box.run()
    for number in range(6):
        first = box.sequences[f"first{number}"]
        turn = box.add(f"second{number}", [*first.tokens, 1, 2, 3], max_tokens=4)
        box.run()
        assert turn.cached >= len(first.prompt)


def test_a_thought_that_no_next_turn_begins_with_is_given_back_at_once() -> None:
    box = Box()
    box.add("thinks", document(0, 60), max_tokens=40, keeps_answer=False)
    box.add("says", document(1, 60), max_tokens=40)
    box.run()
    held = {len(slot.tokens) for slot in box.scheduler.slots.slots if slot.tokens}
    assert held == {60, 60 + len(box.said["says"]) - (box.endings["says"] is Finish.LENGTH)}
    # Its next turn, without the thought, finds all of the prompt.
    turn = box.add("turn", [*document(0, 60), 2, 2, 2], max_tokens=3)
    box.step()
    assert turn.cached == 60
    box.run()


def test_what_a_waiting_request_will_begin_with_is_not_given_back_before_other_chats() -> None:
    box = Box(SchedulerLimits(seats=1, slots=3, seat_context=CONTEXT, step=40, chunk_beside_decode=12))
    for number in range(2):
        box.add(f"idle{number}", [number + 1, 3] * 20, max_tokens=1)
        box.run()
    box.add("long", [4] * 60, max_tokens=30)
    box.step()
    box.add("waits", [*box.sequences["idle0"].tokens, 2], max_tokens=1)
    box.scheduler.slots.evict_one()
    held = [slot.tokens[:2] for slot in box.scheduler.slots.slots if slot.owner is None and slot.tokens]
    assert held == [[1, 3]]
    box.run()
    assert box.sequences["waits"].cached >= 40


def test_a_memory_that_refuses_at_run_time_is_not_asked_again() -> None:
    box = Box(SchedulerLimits(seats=1, slots=1, seat_context=CONTEXT, step=40, chunk_beside_decode=12), parts=False)
    box.add("a", document(0, 100), max_tokens=4)
    box.run()
    box.add("b", document(0, 70) + [1] * 10, max_tokens=4)
    box.run()
    assert not box.scheduler.slots.shares
    assert set(box.endings.values()) <= {Finish.STOP, Finish.LENGTH}
    box.add("d", [*box.sequences["b"].tokens, 1], max_tokens=4)
    box.run()


def test_without_sharing_nothing_is_copied_or_waited_for() -> None:
    box = Box(shares=False, parts=False)
    for number in range(6):
        box.add(f"r{number}", [*document(0, 100), number % 4 + 1], max_tokens=4)
    box.run()
    assert (box.scheduler.prefix_waits, box.scheduler.slots.shared_tokens) == (0, 0)
    assert box.cache.computed >= 6 * 101


THOUGHTS = st.builds(
    ThoughtRules,
    opened=st.booleans(),
    open_tokens=st.just((3,)),
    close_tokens=st.sampled_from([(4,), (4, 2)]),
    landing_tokens=st.sampled_from([(1, 3, 4, 2), (2,) * 45, (4,)]),
    budget_tokens=st.none() | st.integers(0, 5),
    answer_tokens=st.none() | st.integers(1, 6),
)
"""A landing of 45 tokens takes more than one step."""


class Everything(RuleBasedStateMachine):
    """Arrivals, aborts and steps with every outcome in any order, on memories that share and that do not."""

    @initialize(
        memory=st.sampled_from(["shares", "shares", "refuses", "cannot"]),
        slots=st.integers(SEATS, 6),
        guesses=st.none() | st.integers(0, 1000),
        outputs=st.integers(SEATS, 16),
    )
    def start(self, memory: str, slots: int, guesses: int | None, outputs: int) -> None:
        limits = replace(LIMITS, slots=slots, outputs=outputs)
        self.box = Box(limits, shares=memory != "cannot", parts=memory == "shares", guesses=guesses)
        self.memory = memory

    @rule(
        number=st.integers(0, 3),
        length=st.integers(1, CONTEXT - 20),
        tail=st.lists(st.integers(1, 4), max_size=4),
        max_tokens=st.integers(1, 100),
        owner=st.sampled_from([None, "x", "y"]),
        priority=st.sampled_from([INTERACTIVE, BATCH]),
        rules=st.none() | THOUGHTS,
        keeps_answer=st.booleans(),
    )
    def add(
        self,
        number: int,
        length: int,
        tail: list[int],
        max_tokens: int,
        owner: str | None,
        priority: int,
        rules: ThoughtRules | None,
        keeps_answer: bool,
    ) -> None:
        name = f"r{len(self.box.sequences)}"
        more = {"owner": owner, "priority": priority, "keeps_answer": keeps_answer}
        self.box.add(name, document(number, length) + tail, max_tokens, rules, **more)

    @precondition(lambda self: set(self.box.sequences) - set(self.box.endings))
    @rule(data=st.data())
    def answer_now(self, data: st.DataObject) -> None:
        self.box.ask(data.draw(st.sampled_from(sorted(set(self.box.sequences) - set(self.box.endings)))))

    @precondition(lambda self: self.box.endings)
    @rule(data=st.data(), tail=st.lists(st.integers(1, 4), min_size=1, max_size=10))
    def next_turn(self, data: st.DataObject, tail: list[int]) -> None:
        before = self.box.sequences[data.draw(st.sampled_from(sorted(self.box.endings)))]
        prompt = [*before.tokens, *tail]
        if len(prompt) < CONTEXT:
            self.box.add(f"r{len(self.box.sequences)}", prompt, 5)

    @precondition(lambda self: self.box.sequences)
    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        self.box.scheduler.abort(data.draw(st.sampled_from(sorted(self.box.sequences))))

    @rule(
        fail=st.sampled_from([None] * 8 + [DecodeStatus.NO_KV_SLOT, DecodeStatus.ABORTED, DecodeStatus.INVALID_BATCH]),
        duration_s=st.sampled_from([None, 0.001, 0.02, 0.5]),
    )
    def step(self, fail: DecodeStatus | None, duration_s: float | None) -> None:
        plan = self.box.step(fail, duration_s)
        if self.memory == "cannot":
            assert not any(isinstance(change, SlotCopy) or change.keep for change in plan.memory)
            assert not plan.draft_count

    @rule(count=st.integers(2, 30))
    def steps(self, count: int) -> None:
        for _ in range(count):
            self.box.step()

    @invariant()
    def is_whole(self) -> None:
        if hasattr(self, "box"):
            self.box.scheduler.check_integrity()

    def teardown(self) -> None:
        if not hasattr(self, "box"):
            return
        self.box.run(STEPS_PER_REQUEST * (len(self.box.sequences) + 1))
        assert set(self.box.endings) == set(self.box.sequences), "a request without an ending"
        self.box.scheduler.slots.make_room(self.box.scheduler.slots.cells)
        assert self.box.scheduler.slots.tree.cells == 0, "cells are lost"


TestEverything = Everything.TestCase
TestEverything.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
