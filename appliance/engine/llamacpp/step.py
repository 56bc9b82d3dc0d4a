"""The values that scheduler, worker and runner pass to each other: what a step shall do, and what came out. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from appliance.engine.llamacpp.sequence import Finish
from appliance.engine.llamacpp.thought import ThoughtEnd


class DecodeStatus(IntEnum):
    """How a step ended: the return codes of ``llama_decode`` (llama.h), and one of the runner's own."""

    DONE = 0
    NO_KV_SLOT = 1
    ABORTED = 2
    INVALID_BATCH = -1
    FATAL = -2
    TRIM_REFUSED = 100
    """A slot could not drop its tail; the runner cleared every slot that the plan trims or copies to and computed
    nothing."""
    RESTORE_FAILED = 101
    """A block could not be taken over: nothing was computed, as work of the step may stand behind it."""


@dataclass(frozen=True, slots=True)
class SlotTrim:
    """Before the step, slot ``slot`` keeps only its first ``keep`` tokens."""

    slot: int
    keep: int


@dataclass(frozen=True, slots=True)
class SlotCopy:
    """Before the step, slot ``target``, which is empty, gets the first ``tokens`` tokens of ``source``: the same cells
    for both, no data is copied (``llama_memory_seq_cp`` in a unified cache)."""

    source: int
    target: int
    tokens: int


@dataclass(frozen=True, slots=True)
class SlotSave:
    """Before anything else, the keys and values of positions ``start`` to ``end`` of slot ``slot`` are saved as block
    ``key``."""

    slot: int
    start: int
    end: int
    key: bytes


@dataclass(frozen=True, slots=True)
class SlotRestore:
    """After the memory was changed, slot ``slot`` of ``request_id``, which holds ``start`` tokens, gets those up to
    ``end`` from block ``key``, which needs ``cells`` cells for a moment."""

    request_id: str
    slot: int
    start: int
    end: int
    key: bytes
    cells: int


@dataclass(frozen=True, slots=True)
class SlotTokens:
    """``tokens`` are computed in ``slot`` at positions ``position``...; with ``sample`` the last one gives the next
    token, drawn with ``sampling`` by the sampler of ``request_id``.

    ``draft`` are guesses of what is drawn, computed behind ``tokens``; only with ``sample``. While the token that is
    drawn is the guessed one, the guess's own logits give the next. What is computed behind the last such token is
    wrong: the next plan trims the slot. ``propose`` in place of it: so many at most are guessed by the runner's draft
    model, from ``history``, all tokens of the sequence; the result says which.
    """

    request_id: str
    slot: int
    position: int
    tokens: list[int]
    sample: bool
    sampling: object
    draft: list[int] = field(default_factory=list)
    propose: int = 0
    history: Sequence[int] = ()

    @property
    def count(self) -> int:
        """Tokens that are computed, at most."""
        return len(self.tokens) + len(self.draft) + self.propose


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One ``llama_decode``: first ``saves``, then ``memory`` in its order, then ``restores``, then ``work``, of which
    the first ``decode_rows`` entries are sequences that decode and the rest are prompts. Requests in ``ended`` have
    left; their samplers can go."""

    memory: list[SlotTrim | SlotCopy] = field(default_factory=list)
    work: list[SlotTokens] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    decode_rows: int = 0
    saves: list[SlotSave] = field(default_factory=list)
    restores: list[SlotRestore] = field(default_factory=list)

    @property
    def token_count(self) -> int:
        """Tokens of this step, guesses too, at most the step budget."""
        return sum(entry.count for entry in self.work)

    @property
    def draft_count(self) -> int:
        """Guessed tokens of this step, at most."""
        return sum(len(entry.draft) + entry.propose for entry in self.work)


@dataclass(frozen=True, slots=True)
class TokenChance:
    """A token's log probability (natural logarithm) and, the likeliest first, those of the likeliest in its place."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class StepResult:
    """``sampled`` has a run of (token, ends_generation) per entry of the plan's work that samples, in order: all but
    the last token of a run are the first ones of the entry's draft, and none of these ends the generation. ``decode_s``
    is the time inside ``llama_decode``, ``duration_s`` that of the whole step as its worker measured it, None when
    nobody did. ``chances`` are of the sampled tokens of each request that asked for log probabilities, in order. A
    request in ``problems`` could not be sampled, for this reason, and has a token that ends it.

    ``drafts`` are the guesses of the draft model by request; they took ``draft_s`` of ``duration_s`` in
    ``draft_passes`` passes, ``draft_caught_up`` other tokens of the sequences with them.

    Whatever ``status`` says of the rest: ``saved`` has the bytes of each of the plan's saves, 0 for one that failed,
    and ``restored`` whether each of its restores is done; these took ``save_s`` and ``restore_s``."""

    status: DecodeStatus
    sampled: list[list[tuple[int, bool]]] = field(default_factory=list)
    message: str = ""
    decode_s: float = 0.0
    duration_s: float | None = None
    chances: dict[str, list[TokenChance]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    drafts: dict[str, list[int]] = field(default_factory=dict)
    draft_s: float = 0.0
    draft_passes: int = 0
    draft_caught_up: int = 0
    saved: list[int] = field(default_factory=list)
    restored: list[bool] = field(default_factory=list)
    save_s: float = 0.0
    restore_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Measured:
    """How long a step took: ``decode_rows`` sequences that decode, with ``draft_tokens`` guessed tokens in all, and
    ``prompt_tokens`` tokens of prompts. ``draft_pass_s`` is what a pass of the draft model took for ``decode_rows``
    sequences, None where none was measured; ``duration_s`` is without it."""

    decode_rows: int
    prompt_tokens: int
    duration_s: float
    draft_tokens: int = 0
    draft_pass_s: float | None = None


@dataclass(frozen=True, slots=True)
class SequenceEvent:
    """A new ``token`` (None for an ending without one) or an ending (``finish`` set), never anything after that.

    An ending says how the thought ended, if one was watched, and whether the answer ended because it went in circles.
    """

    request_id: str
    token: int | None = None
    finish: Finish | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    message: str = ""
    thought_end: ThoughtEnd | None = None
    answer_looped: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """Why a sequence was not taken."""

    message: str
