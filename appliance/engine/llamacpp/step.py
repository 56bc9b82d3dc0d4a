"""The values that scheduler, worker and runner pass to each other: what a step shall do, and what came out. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from appliance.engine.llamacpp.sequence import Finish


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
    """One ``llama_decode``: first ``memory`` in its order, then ``work``, of which the first ``decode_rows`` entries
    are sequences that decode and the rest are prompts. Requests in ``ended`` have left; their samplers can go."""

    memory: list[SlotTrim | SlotCopy] = field(default_factory=list)
    work: list[SlotTokens] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    decode_rows: int = 0

    @property
    def token_count(self) -> int:
        """Tokens of this step, at most the step budget."""
        return sum(len(entry.tokens) for entry in self.work)


@dataclass(frozen=True, slots=True)
class StepResult:
    """``sampled`` has (token, ends_generation) per entry of the plan's work that samples, in order; ``decode_s`` is the
    time inside ``llama_decode``, ``duration_s`` that of the whole step as its worker measured it, None when nobody
    did."""

    status: DecodeStatus
    sampled: list[tuple[int, bool]] = field(default_factory=list)
    message: str = ""
    decode_s: float = 0.0
    duration_s: float | None = None


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
