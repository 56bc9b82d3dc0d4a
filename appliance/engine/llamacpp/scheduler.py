"""Decides which tokens of which slot the next ``llama_decode`` computes. Pure: no clock, no llama_cpp.

One step, in this order:

1. Aborted sequences leave their slots.
2. Waiting sequences take free slots in order of arrival; what a slot already holds of a prompt is not computed again.
3. Every decoding sequence gets its one token: nobody who is being answered is left out of a step.
4. What is left of the step's budget goes to prompts, the oldest first, in chunks; while others are being answered
   a chunk is small, so that a long prompt does not stop their streams.

``update`` then takes what came out: new tokens, endings, and the ways in which ``llama_decode`` can fail.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from appliance.engine.llamacpp.sequence import Finish, Phase, Sequence
from appliance.engine.llamacpp.slots import SlotTable


class DecodeStatus(IntEnum):
    """How a step ended: the return codes of ``llama_decode`` (llama.h), and one of the runner's own."""

    DONE = 0
    NO_KV_SLOT = 1
    ABORTED = 2
    INVALID_BATCH = -1
    FATAL = -2
    TRIM_REFUSED = 100
    """A slot could not drop its tail; the runner cleared the whole slot and computed nothing."""


@dataclass(frozen=True, slots=True)
class SchedulerLimits:
    """Budgets in tokens: ``seat_context`` a seat holds, ``step`` one llama_decode takes; ``chunk_beside_decode`` of
    these may be prompt tokens while other sequences decode."""

    slots: int
    seat_context: int
    step: int
    chunk_beside_decode: int


@dataclass(frozen=True, slots=True)
class SlotTrim:
    """Before the step, slot ``slot`` keeps only its first ``keep`` tokens."""

    slot: int
    keep: int


@dataclass(frozen=True, slots=True)
class SlotTokens:
    """``tokens`` are computed in ``slot`` at positions ``position``...; with ``sample`` the last one gives the next
    token, drawn with ``sampling`` by the sampler of ``request_id``."""

    request_id: str
    slot: int
    position: int
    tokens: list[int]
    sample: bool
    sampling: object


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One ``llama_decode``: first ``trims``, then ``work``. Requests in ``ended`` have left; their samplers can go."""

    trims: list[SlotTrim] = field(default_factory=list)
    work: list[SlotTokens] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    @property
    def token_count(self) -> int:
        """Tokens of this step, at most the step budget."""
        return sum(len(entry.tokens) for entry in self.work)


@dataclass(frozen=True, slots=True)
class StepResult:
    """``sampled`` has (token, ends_generation) per entry of the plan's work that samples, in order; ``decode_s`` is the
    time inside ``llama_decode``."""

    status: DecodeStatus
    sampled: list[tuple[int, bool]] = field(default_factory=list)
    message: str = ""
    decode_s: float = 0.0


@dataclass(frozen=True, slots=True)
class SequenceEvent:
    """A new ``token`` (None for an ending without one) or an ending (``finish`` set), never anything after that."""

    request_id: str
    token: int | None = None
    finish: Finish | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Rejected:
    """Why a sequence was not taken."""

    message: str


class Scheduler:
    """Continuous batching over a fixed number of slots. One per worker; the only writer of sequences and slots."""

    def __init__(self, limits: SchedulerLimits, *, partial_clear: bool = True) -> None:
        self.limits = limits
        self.slots = SlotTable(limits.slots, partial_clear=partial_clear)
        self.preemptions = 0
        self._waiting: list[Sequence] = []
        self._running: dict[str, Sequence] = {}
        self._aborted: list[str] = []
        self._ended: list[str] = []
        self._arrivals = 0
        self._step_limit = limits.step
        self._plan: StepPlan | None = None

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
        if sequence.request_id in self._running or any(s.request_id == sequence.request_id for s in self._waiting):
            return Rejected("a request with this id is running")
        self._arrivals += 1
        sequence.arrival = self._arrivals
        self._waiting.append(sequence)
        return None

    def abort(self, request_id: str) -> None:
        """End a sequence at the next step. An unknown id is nothing: it may just have finished."""
        self._aborted.append(request_id)

    @property
    def has_work(self) -> bool:
        """Whether ``schedule`` would give work or endings."""
        return bool(self._waiting or self._running or self._aborted)

    @property
    def running_count(self) -> int:
        """Sequences that have a slot."""
        return len(self._running)

    @property
    def waiting_count(self) -> int:
        """Sequences without a slot."""
        return len(self._waiting)

    # -- one step ---------------------------------------------------------------------------------------------------

    def take_aborted(self) -> list[SequenceEvent]:
        """Endings of the sequences that were aborted since the last step; called before ``schedule``."""
        events: list[SequenceEvent] = []
        for request_id in self._aborted:
            sequence = self._running.get(request_id) or next(
                (waiting for waiting in self._waiting if waiting.request_id == request_id), None
            )
            if sequence is not None:
                events.append(self._finish(sequence, Finish.ABORTED))
        self._aborted.clear()
        return events

    def schedule(self) -> StepPlan:
        """The next step. Every call is followed by one ``update`` with its result, unless the plan has no work."""
        trims = self._admit()
        decoding = [sequence for sequence in self._running.values() if sequence.decoding]
        prefilling = [sequence for sequence in self._running.values() if not sequence.decoding]
        work = [self._entry(sequence, 1) for sequence in decoding[: self._step_limit]]
        budget = self._step_limit - len(work)
        if work:
            budget = min(budget, self.limits.chunk_beside_decode)
        for sequence in sorted(prefilling, key=lambda s: s.arrival):
            if budget <= 0:
                break
            entry = self._entry(sequence, min(budget, sequence.pending))
            work.append(entry)
            budget -= len(entry.tokens)
        ended, self._ended = self._ended, []
        self._plan = StepPlan(trims=trims, work=work, ended=ended)
        return self._plan

    def update(self, result: StepResult) -> list[SequenceEvent]:
        """Take the result of the last plan: what each sequence got, and what has ended."""
        plan, self._plan = self._plan, None
        if plan is None:
            raise RuntimeError("update without a plan")
        match result.status:
            case DecodeStatus.DONE:
                self._step_limit = self.limits.step
                return self._advance(plan, result)
            case DecodeStatus.NO_KV_SLOT:
                self._make_room(plan)
                return []
            case DecodeStatus.TRIM_REFUSED:
                self.slots.partial_clear = False
                for trim in plan.trims:
                    self.slots.slots[trim.slot].tokens = []
                    self._restart(trim.slot)
                return []
            case _:
                message = result.message or "the step failed in the engine"
                return [self._fail(self._running[entry.request_id], message) for entry in plan.work]

    # -- parts of a step --------------------------------------------------------------------------------------------

    def _admit(self) -> list[SlotTrim]:
        trims: list[SlotTrim] = []
        while self._waiting:
            sequence = self._waiting[0]
            taken = self.slots.take(sequence.request_id, sequence.tokens)
            if taken is None:
                break
            slot, keep = taken
            if keep < len(slot.tokens) or keep == 0:
                # Also for an empty slot: after a failed step the cache may hold tokens that the table forgot.
                trims.append(SlotTrim(slot.index, keep))
                slot.tokens = slot.tokens[:keep]
            self._waiting.pop(0)
            sequence.phase, sequence.slot, sequence.computed = Phase.RUNNING, slot.index, keep
            if sequence.generated == 0:
                sequence.cached = keep
            self._running[sequence.request_id] = sequence
        return trims

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

    def _advance(self, plan: StepPlan, result: StepResult) -> list[SequenceEvent]:
        events: list[SequenceEvent] = []
        sampled = iter(result.sampled)
        for entry in plan.work:
            sequence = self._running[entry.request_id]
            slot = self.slots.slots[entry.slot]
            slot.tokens.extend(entry.tokens)
            self.slots.touch(slot)
            sequence.computed += len(entry.tokens)
            if entry.sample:
                token, ends = next(sampled)
                events.extend(self._take_token(sequence, token, ends=ends))
        return events

    def _take_token(self, sequence: Sequence, token: int, *, ends: bool) -> list[SequenceEvent]:
        if ends:
            return [self._finish(sequence, Finish.STOP)]
        sequence.tokens.append(token)
        event = SequenceEvent(sequence.request_id, token=token)
        if sequence.generated >= sequence.max_tokens or len(sequence.tokens) >= self.limits.seat_context:
            return [event, self._finish(sequence, Finish.LENGTH)]
        return [event]

    def _finish(self, sequence: Sequence, finish: Finish, *, clear: bool = False, message: str = "") -> SequenceEvent:
        if sequence.slot is not None:
            self.slots.release(self.slots.slots[sequence.slot], clear=clear)
            sequence.slot = None
        self._running.pop(sequence.request_id, None)
        if sequence.phase is Phase.WAITING:
            self._waiting.remove(sequence)
        sequence.phase = Phase.FINISHED
        self._ended.append(sequence.request_id)
        return SequenceEvent(
            sequence.request_id,
            finish=finish,
            prompt_tokens=len(sequence.prompt),
            cached_tokens=sequence.cached,
            completion_tokens=sequence.generated,
            message=message,
        )

    def _fail(self, sequence: Sequence, message: str) -> SequenceEvent:
        return self._finish(sequence, Finish.ERROR, clear=True, message=message)

    def _make_room(self, plan: StepPlan) -> None:
        """No room in the KV cache, and it is as before the step: try a smaller step, then preempt the newest."""
        smallest = max(1, sum(1 for entry in plan.work if self._running[entry.request_id].decoding))
        if plan.token_count > smallest:
            self._step_limit = max(smallest, plan.token_count // 2)
            return
        newest = max((self._running[entry.request_id] for entry in plan.work), key=lambda s: s.arrival)
        self.preemptions += 1
        self._running.pop(newest.request_id)
        if newest.slot is not None:
            self.slots.release(self.slots.slots[newest.slot], clear=True)
        newest.phase, newest.slot, newest.computed = Phase.WAITING, None, 0
        self._waiting.insert(0, newest)
        self._step_limit = self.limits.step

    def _restart(self, slot: int) -> None:
        for sequence in self._running.values():
            if sequence.slot == slot:
                sequence.computed = 0
                if sequence.generated == 0:
                    sequence.cached = 0

    # -- invariants -------------------------------------------------------------------------------------------------

    def check_integrity(self) -> None:
        """Raise AssertionError when slots and sequences disagree. For tests, and for the worker when it is idle."""
        owners = {slot.owner: slot for slot in self.slots.slots if slot.owner is not None}
        assert set(owners) == set(self._running), "slots and running sequences disagree"
        for request_id, sequence in self._running.items():
            slot = owners[request_id]
            assert sequence.slot == slot.index, "a sequence and its slot disagree"
            assert sequence.phase is Phase.RUNNING, "a sequence with a slot is not running"
            assert slot.tokens == sequence.tokens[: sequence.computed], "a slot does not hold its sequence's tokens"
            assert sequence.pending > 0, "a running sequence has nothing to compute"
        for waiting in self._waiting:
            assert waiting.phase is Phase.WAITING, "a queued sequence is not waiting"
            assert waiting.slot is None, "a queued sequence has a slot"
        for slot in self.slots.slots:
            assert len(slot.tokens) <= self.limits.seat_context, "a slot holds more than a seat"
