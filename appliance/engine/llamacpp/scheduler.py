"""Decides which tokens of which slot the next ``llama_decode`` computes. Pure: no clock, no llama_cpp.

Over 400 lines because a step is read in one place; what it weighs is in ``fair_queue``, ``slots``, ``pace`` and the
like.

One step, in this order:

1. Aborted sequences leave their slots.
2. Waiting sequences take free seats (``engine.fair_queue``). What any slot holds of a prompt, its sequence gets without
   computing it (``slots``). Where a sequence before it is computing what it needs, it waits for that.
   Or it takes over what is kept of its prompt outside of the cache (``tiering``), and goes on in this step.
3. Every decoding sequence gets its one token, or those that were written for it: nobody who is being answered is
   left out of a step.
4. Prompts get what the time of a step leaves (``pace``): half of it the one that came first, half the one that is
   done soonest, interactive ones before batch (``prompt_shares``).
5. What ended sequences left is saved outside of the cache, a little in each step (``tiering``).
6. What slots without a sequence hold is given back, the oldest first, until there are cells for the step's tokens.
   There are always enough: each seat's whole context fits beside the others.
7. Where no prompt is computed, guesses of what decoding sequences say next come along if that pays (``speculation``),
   into cells that are free.

``update`` then takes what came out: new tokens, endings, and the ways in which ``llama_decode`` can fail.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from appliance.engine.fair_queue import FairQueue
from appliance.engine.llamacpp.integrity import check
from appliance.engine.llamacpp.pace import Pace
from appliance.engine.llamacpp.prefix_cache import common_prefix
from appliance.engine.llamacpp.prompt_shares import share_out
from appliance.engine.llamacpp.sequence import Finish, Phase, Sequence
from appliance.engine.llamacpp.slots import Slot, SlotTable
from appliance.engine.llamacpp.speculation import Speculation
from appliance.engine.llamacpp.step import (
    DecodeStatus,
    Measured,
    Rejected,
    SequenceEvent,
    SlotCopy,
    SlotRestore,
    SlotTokens,
    StepPlan,
    StepResult,
)
from appliance.engine.llamacpp.thought import Verdict
from appliance.engine.llamacpp.tier_blocks import TierLimits
from appliance.engine.llamacpp.tiering import Tiering

WORTH_WAITING_TOKENS = 32
"""A sequence waits for another's prefix when that saves at least so many tokens."""

MOST_PREEMPTIONS = 4
"""A sequence that lost its seat so often and is alone now ends with an error: there will never be room for it."""

PATIENCE_STEPS = 50
"""A sequence stops waiting for a prefix that has not grown in so many steps."""


@dataclass(frozen=True, slots=True)
class SchedulerLimits:
    """``seats`` sequences run together, each may hold ``seat_context`` tokens; ``slots``, at least as many, keep them.

    One llama_decode takes at most ``step`` tokens, and of these at most ``chunk_beside_decode`` of prompts while other
    sequences decode, until measured steps tell how many. At most ``outputs`` tokens of a step have logits; ``draft`` is
    how many tokens of a sequence are guessed at most, 0 for none.

    ``even_chunks``: see ``Pace``. Slots without a sequence hold at
    most ``idle_cells``, divided by the sequences that run, once they are saved outside of the cache (None: as many as
    there is room for): without flash attention every token that is computed also costs the time of all cells that
    others hold.
    """

    seats: int
    slots: int
    seat_context: int
    step: int
    chunk_beside_decode: int
    outputs: int = 0
    draft: int = 0
    even_chunks: bool = False
    idle_cells: int | None = None


NO_ROOM_PAUSE_STEPS = 100
"""For so many steps nothing is guessed after llama.cpp found no room for a step with guesses."""


class Scheduler:
    """Continuous batching over a fixed number of seats. One per worker; the only writer of sequences and slots."""

    def __init__(self, limits: SchedulerLimits, *, shares: bool = True, tiers: TierLimits | None = None) -> None:
        self.limits = limits
        self.slots = SlotTable(limits.slots, limits.seats * limits.seat_context, shares=shares)
        self.pace = Pace(limits.chunk_beside_decode, limits.step, even=limits.even_chunks)
        self.tiers = Tiering(tiers or TierLimits(), self.slots, self.pace, limits.seat_context)
        self.speculation = Speculation(limits.draft)
        self.preemptions = 0
        self.prefix_waits = 0
        self._waiting: FairQueue[Sequence] = FairQueue()
        self._running: dict[str, Sequence] = {}
        self._aborted: list[str] = []
        self._ended: list[str] = []
        self._arrivals = 0
        self._turns = 0
        self._step_limit = limits.step
        self._crowded = False
        self._plan: StepPlan | None = None
        self._guess_pause = 0

    # -- requests ---------------------------------------------------------------------------------------------------

    def add(self, sequence: Sequence) -> Rejected | None:
        """Take a sequence, or say why it can never run."""
        if not sequence.prompt:
            return Rejected("the prompt is empty")
        if len(sequence.prompt) >= self.limits.seat_context:
            return Rejected(
                f"the prompt has {len(sequence.prompt)} tokens and a seat holds {self.limits.seat_context}, "
                "one of them for the answer"
            )
        if sequence.max_tokens < 1:
            return Rejected("max_tokens is less than 1")
        if sequence.request_id in self._running or self._waiting.find(sequence.request_id) is not None:
            return Rejected("a request with this id is running")
        self._arrivals += 1
        sequence.arrival = self._arrivals
        self._waiting.add(sequence)
        self.slots.wanted(sequence.prompt)
        return None

    def abort(self, request_id: str) -> None:
        """End a sequence at the next step. An unknown id is nothing: it may just have finished."""
        self._aborted.append(request_id)

    def answer_now(self, request_id: str) -> None:
        """End a sequence's thought soon. Idempotent; an unknown id, or one without a thought, is nothing."""
        sequence = self._running.get(request_id) or self._waiting.find(request_id)
        if sequence is not None and sequence.watch is not None:
            sequence.watch.ask()

    @property
    def has_work(self) -> bool:
        """Whether ``schedule`` would give work or endings: not so while all that run wait for the disk."""
        return bool(
            self._aborted
            or self._may_admit
            or any(s.leader not in self._running and not self.tiers.blocked(s) for s in self._running.values())
            or self.tiers.has_work
        )

    @property
    def _may_admit(self) -> bool:
        return bool(len(self._waiting) and len(self._running) < self.limits.seats and not self._crowded)

    @property
    def running_count(self) -> int:
        """Sequences that have a seat."""
        return len(self._running)

    @property
    def waiting_count(self) -> int:
        """Sequences without a seat."""
        return len(self._waiting)

    # -- one step ---------------------------------------------------------------------------------------------------

    def take_aborted(self) -> list[SequenceEvent]:
        """Endings of the sequences that were aborted since the last step; called before ``schedule``."""
        events: list[SequenceEvent] = []
        for request_id in self._aborted:
            sequence = self._running.get(request_id) or self._waiting.find(request_id)
            if sequence is not None:
                events.append(self._finish(sequence, Finish.ABORTED))
        self._aborted.clear()
        return events

    def schedule(self) -> StepPlan:
        """The next step. Every call is followed by one ``update`` with its result, unless the plan has no work."""
        self._admit()
        self._follow()
        restores = self._take_over()
        decoding = [s for s in self._running.values() if s.decoding and not (s.leader or s.blocks)][: self._step_limit]
        rows, spare = len(decoding), self._step_limit - len(decoding)
        work: list[SlotTokens] = []
        for sequence in decoding:
            written = min(sequence.pending - 1, spare)
            spare -= written
            work.append(self._entry(sequence, 1 + written))
        paced = self.pace.prompt_tokens(rows)
        budget = spare if paced is None else min(paced, spare)
        counts = share_out(self._running.values(), budget, spare, beside_decode=rows > 0)
        work += [self._entry(self._running[name], count) for name, count in counts.items()]
        # What of a block is not wanted takes cells for a moment.
        spare_cells = sum(restore.cells - (restore.end - restore.start) for restore in restores)
        if self.limits.idle_cells is not None and self.tiers.enabled:
            # Each row of the step pays for them.
            self.slots.evict_idle(self.limits.idle_cells // max(1, len(self._running)), self.tiers.is_saved)
        self.slots.make_room(sum(len(entry.tokens) for entry in work) + spare_cells)
        if 0 < rows == len(work) == sum(len(entry.tokens) for entry in work):
            work = self._with_guesses(work, self.slots.free_cells - spare_cells)
        ended, self._ended = self._ended, []
        self._plan = StepPlan(
            saves=self.tiers.plan_saves(beside_decode=rows > 0),
            memory=self.slots.take_memory(),
            restores=restores,
            work=work,
            ended=ended,
            decode_rows=rows,
        )
        return self._plan

    def update(self, result: StepResult) -> list[SequenceEvent]:
        """Take the result of the last plan: what each sequence got, and what has ended."""
        plan, self._plan = self._plan, None
        if plan is None:
            raise RuntimeError("update without a plan")
        self.tiers.update(plan, result)
        match result.status:
            case DecodeStatus.DONE:
                self._step_limit = self.limits.step
                if result.duration_s is not None:
                    drafted = sum(len(entry.draft) for entry in plan.work) + sum(map(len, result.drafts.values()))
                    prompt_tokens = plan.token_count - plan.decode_rows - plan.draft_count
                    self.learn(Measured(plan.decode_rows, prompt_tokens, result.duration_s - result.draft_s, drafted))
                    self.speculation.learn_pass(result)
                return self._advance(plan, result)
            case DecodeStatus.NO_KV_SLOT:
                return self._make_room(plan)
            case DecodeStatus.TRIM_REFUSED:
                self._share_no_more(plan)
                return []
            case DecodeStatus.RESTORE_FAILED:
                return []
            case _:
                message = result.message or "the step failed in the engine"
                return [self._fail(self._running[entry.request_id], message) for entry in plan.work]

    def begin_with(self, measured: list[Measured]) -> None:
        """Take what the warm-up measured, of which the steps of one sequence ascend in their guesses."""
        for one in measured:
            if one.draft_pass_s is not None:
                self.speculation.begin_with_model(one.draft_pass_s)
            elif not one.draft_tokens:
                self.learn(one)
        curve = [(1 + one.draft_tokens, one.duration_s) for one in measured if one.decode_rows and one.duration_s]
        self.speculation.costs.set_curve(curve)

    def learn(self, measured: Measured) -> None:
        """Take how long a step took."""
        if not measured.draft_tokens:
            self.pace.learn(measured.decode_rows, measured.prompt_tokens, measured.duration_s)
        if not measured.prompt_tokens:
            rows = measured.decode_rows + measured.draft_tokens
            self.speculation.costs.learn(measured.decode_rows, rows, measured.duration_s)

    def block_was_read(self, key: bytes, seconds: float, *, good: bool) -> bool:
        """A block came from the disk, or could not be read. False when its bytes are of no use."""
        return self.tiers.was_read(key, seconds, self._running.values(), good=good)

    def forget_tiers(self) -> None:
        """Nothing is kept outside of the cache any more."""
        for sequence in self._running.values():
            self.tiers.leave(sequence)
        self.tiers.stop()

    def abort_all(self) -> None:
        """End every sequence at the next step."""
        self._aborted += [*self._running, *(sequence.request_id for sequence in self._waiting)]

    # -- seats and prefixes -----------------------------------------------------------------------------------------

    def _admit(self) -> None:
        while self._may_admit:
            sequence = self._waiting.pop()
            self._turns += 1
            sequence.turn, sequence.phase = self._turns, Phase.RUNNING
            self._find_leader(sequence)
            # One that waits for a prefix gets its slot empty: what it needs is shared with it when all of it is there.
            prompt = sequence.tokens if sequence.leader is None else []
            slot = self.slots.take(sequence.request_id, prompt)
            sequence.slot = slot.index
            self.tiers.taken(slot)
            self._running[sequence.request_id] = sequence
            self._start(sequence, len(slot.tokens))
            self.prefix_waits += sequence.leader is not None

    def _start(self, sequence: Sequence, computed: int) -> None:
        sequence.computed = computed
        if sequence.generated == 0:
            sequence.cached = computed
        if sequence.leader is None:
            self.tiers.begin(sequence)

    def _take_over(self) -> list[SlotRestore]:
        """Blocks that sequences take over at the beginning of this step, into cells that are free by then."""
        decodes = any(s.decoding and not (s.leader or s.blocks) for s in self._running.values())
        restores = self.tiers.plan_restores(self._running.values(), beside_decode=decodes)
        self.slots.make_room(sum(restore.cells for restore in restores))
        self.tiers.take_over(restores, self._running)
        return restores

    def _follow(self) -> None:
        """Sequences that wait for a prefix start when it is there, or will not come."""
        for sequence in sorted(self._running.values(), key=lambda one: one.turn):
            if sequence.leader is None:
                continue
            leader = self._running.get(sequence.leader)
            if leader is not None and leader.computed < sequence.shared and sequence.stalled < PATIENCE_STEPS:
                continue
            patient = sequence.stalled < PATIENCE_STEPS
            sequence.leader = None
            if patient:
                self._find_leader(sequence)
            if sequence.leader is None:
                assert sequence.slot is not None
                slot = self.slots.slots[sequence.slot]
                self.slots.fill(slot, sequence.tokens)
                self._start(sequence, len(slot.tokens))

    def _find_leader(self, sequence: Sequence) -> None:
        """Let the sequence wait for the one before it that is computing most of what it needs, if that is worth it.

        Only one that got its seat earlier leads, so no two wait for each other.
        """
        sequence.stalled = 0
        if not self.slots.shares:
            return
        needed = self.slots.held(sequence.tokens) + WORTH_WAITING_TOKENS
        kept = self.tiers.kept(sequence) + WORTH_WAITING_TOKENS
        for other in self._running.values():
            if other.turn >= sequence.turn or other.pending <= 1:
                continue
            shared = min(common_prefix(other.tokens, sequence.tokens), len(sequence.tokens) - 1)
            # What is kept outside is taken over sooner than computed; but not twice, when another does so already.
            if shared >= (needed if other.blocks else max(needed, kept)) and shared > other.computed:
                sequence.leader, sequence.shared, needed = other.request_id, shared, shared + 1

    def _entry(self, sequence: Sequence, count: int) -> SlotTokens:
        assert sequence.slot is not None
        tokens = sequence.tokens[sequence.computed : sequence.computed + count]
        return SlotTokens(
            request_id=sequence.request_id,
            slot=sequence.slot,
            position=sequence.computed,
            tokens=tokens,
            sample=sequence.computed + count == len(sequence.tokens),
            sampling=sequence.sampling,
        )

    def _with_guesses(self, work: list[SlotTokens], free_cells: int) -> list[SlotTokens]:
        """The entries of decoding sequences, with guesses of what they say next."""
        if not self.slots.shares or self._guess_pause > 0:
            self._guess_pause -= self._guess_pause > 0
            return work
        decoding = [self._running[entry.request_id] for entry in work]
        # The last token of an answer is never computed, so a guess in its place is of no use.
        rooms = [
            0 if one.repeatable else min(one.max_tokens - one.generated, self.limits.seat_context - len(one.tokens)) - 1
            for one in decoding
        ]
        limit = min(self.limits.outputs, self._step_limit, free_cells) - len(work)
        guesses = self.speculation.guesses(decoding, rooms, max(0, limit))
        if any(guesses):
            return [replace(entry, draft=guess) for entry, guess in zip(work, guesses, strict=True)]
        counts = self.speculation.asks(decoding, rooms, max(0, limit))
        return [
            replace(entry, propose=count, history=sequence.tokens) if count else entry
            for entry, sequence, count in zip(work, decoding, counts, strict=True)
        ]

    # -- results ----------------------------------------------------------------------------------------------------

    def _advance(self, plan: StepPlan, result: StepResult) -> list[SequenceEvent]:
        moved = {entry.request_id for entry in plan.work} | {restore.request_id for restore in plan.restores}
        for sequence in self._running.values():
            leader = self._running.get(sequence.leader or "")
            if leader is not None and leader.leader is None:
                sequence.stalled = 0 if leader.request_id in moved else sequence.stalled + 1
        events: list[SequenceEvent] = []
        sampled = iter(result.sampled)
        for entry in plan.work:
            sequence = self._running[entry.request_id]
            slot = self.slots.slots[entry.slot]
            self.slots.append(slot, entry.tokens)
            sequence.computed += len(entry.tokens)
            if entry.sample:
                computed = sequence.computed
                events.extend(self._take_run(sequence, slot, next(sampled)))
                drafted = len(entry.draft) + len(result.drafts.get(entry.request_id, ()))
                accepted = sequence.computed - computed
                if accepted < drafted:
                    self.slots.drop_rest(slot)
                self.speculation.took(entry, drafted, accepted)
        return events

    def _take_run(self, sequence: Sequence, slot: Slot, run: list[tuple[int, bool]]) -> list[SequenceEvent]:
        """The tokens of a step that guessed: all but the last are computed. What follows an ending is lost, and so is
        what follows the end of a thought that is written in place of a token."""
        events: list[SequenceEvent] = []
        for index, (token, ends) in enumerate(run):
            events.extend(self._take_token(sequence, token, ends=ends))
            if sequence.phase is Phase.FINISHED or sequence.forced:
                break
            if index < len(run) - 1:
                self.slots.append(slot, [token])
                sequence.computed += 1
        return events

    def _take_token(self, sequence: Sequence, token: int, *, ends: bool) -> list[SequenceEvent]:
        if ends:
            return [self._finish(sequence, Finish.STOP)]
        sequence.forced = 0
        room = min(sequence.max_tokens - sequence.generated, self.limits.seat_context - len(sequence.tokens))
        verdict = Verdict.TAKE if sequence.watch is None else sequence.watch.take(token, room)
        if verdict is Verdict.LAND:
            return self._land(sequence)
        sequence.tokens.append(token)
        event = SequenceEvent(sequence.request_id, token=token)
        if verdict is Verdict.LAST or room <= 1:
            return [event, self._finish(sequence, Finish.LENGTH)]
        return [event]

    @staticmethod
    def _land(sequence: Sequence) -> list[SequenceEvent]:
        """Write the end of a thought for the model, as if it had been drawn, in place of the token that was."""
        assert sequence.watch is not None
        landing = sequence.watch.land()
        sequence.tokens.extend(landing)
        sequence.forced = len(landing)
        return [SequenceEvent(sequence.request_id, token=token) for token in landing]

    def _finish(self, sequence: Sequence, finish: Finish, message: str = "") -> SequenceEvent:
        if sequence.phase is Phase.WAITING:
            self._waiting.remove(sequence)
        else:
            del self._running[sequence.request_id]
            self._crowded = False
            assert sequence.slot is not None
            slot = self.slots.slots[sequence.slot]
            self.tiers.leave(sequence)
            self.slots.release(slot)
            if not sequence.keeps_answer:
                self.slots.cut(slot, len(sequence.prompt))
            self.tiers.left(slot)
            sequence.slot = None
        self._waiting.charge(sequence, sequence.generated)
        sequence.phase = Phase.FINISHED
        self._ended.append(sequence.request_id)
        self.speculation.forget(sequence.request_id)
        return SequenceEvent(
            sequence.request_id,
            finish=finish,
            prompt_tokens=len(sequence.prompt),
            cached_tokens=sequence.cached,
            completion_tokens=sequence.generated,
            message=message,
            thought_end=sequence.watch.end if sequence.watch is not None else None,
            answer_looped=sequence.watch is not None and sequence.watch.answer_looped,
        )

    def _fail(self, sequence: Sequence, message: str) -> SequenceEvent:
        """End a sequence of a failed step, whose slot the runner has cleared."""
        assert sequence.slot is not None
        self.slots.forget(self.slots.slots[sequence.slot])
        return self._finish(sequence, Finish.ERROR, message)

    def _make_room(self, plan: StepPlan) -> list[SequenceEvent]:
        """No room in the KV cache, which is as before the step: guess no more for a while, give back what nobody uses,
        then try a smaller step, then preempt the newest."""
        if plan.draft_count:
            self._guess_pause = NO_ROOM_PAUSE_STEPS
            return []
        if self.slots.evict_one():
            return []
        smallest = max(1, plan.decode_rows)
        if plan.token_count > smallest:
            self._step_limit = max(smallest, plan.token_count // 2)
            return []
        newest = max((self._running[entry.request_id] for entry in plan.work), key=lambda one: one.turn)
        if len(self._running) == 1 and newest.preempted >= MOST_PREEMPTIONS:
            return [self._fail(newest, "llama.cpp finds no room for it although nothing else is in the KV cache")]
        self.preemptions += 1
        newest.preempted += 1
        del self._running[newest.request_id]
        assert newest.slot is not None
        slot = self.slots.slots[newest.slot]
        self.tiers.leave(newest)
        self.slots.release(slot)
        self.slots.clear(slot)
        newest.phase, newest.slot, newest.computed = Phase.WAITING, None, 0
        self._waiting.put_back(newest)
        self._step_limit = self.limits.step
        # Nobody takes the room that this gave back while others run: they need it.
        self._crowded = bool(self._running)
        return []

    def _share_no_more(self, plan: StepPlan) -> None:
        """The memory cannot drop a tail: slots that the plan trims or fills are empty, and this is not tried again."""
        self.slots.shares = False
        self.forget_tiers()
        cleared = {change.target if isinstance(change, SlotCopy) else change.slot for change in plan.memory}
        for index in cleared:
            self.slots.forget(self.slots.slots[index])
        for sequence in self._running.values():
            if sequence.slot in cleared:
                self._start(sequence, 0)
            sequence.leader = None

    # -- invariants -------------------------------------------------------------------------------------------------

    def check_integrity(self) -> None:
        """Raise AssertionError when slots, cells and sequences disagree. For tests, and for a worker that is idle."""
        check(self.limits.seats, self.limits.seat_context, self.slots, self._running, self._waiting)
        self.tiers.check_integrity(self._running.values())
