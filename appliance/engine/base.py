"""The contract of every engine. ``tests/appliance/engine/contract.py`` is its executable form."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from appliance.engine.request import GenerationEvent, GenerationRequest, TextSegment

STEP_BOUNDS_S = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28)
"""Upper bounds of the buckets in which ``EngineStats.step_counts`` counts steps."""


class EngineState(StrEnum):
    """State of the served engine. One writer: ``appliance.engine.manager.EngineManager``.

    STOPPED -> STARTING -> READY -> DRAINING -> STOPPING -> STOPPED;
    STARTING | READY -> FAILED -> STARTING (after a back-off)
    """

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPING = "stopping"
    FAILED = "failed"


class Feature(StrEnum):
    """What an engine can do beyond plain generation; a request for another thing is refused before it gets there."""

    STRUCTURE = "structure"
    TOKEN_GRAMMAR = "token_grammar"  # noqa: S105 - no password
    """Grammars that name tokens of the vocabulary, among them those that are no text."""
    LOGPROBS = "logprobs"
    THINKING = "thinking"
    """``ThinkingControl`` and ``answer_tokens``."""


@dataclass(frozen=True, slots=True)
class BufferBytes:
    """What an engine holds on one device."""

    weights_bytes: int = 0
    kv_bytes: int = 0
    compute_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlacement:
    """Where the engine itself says that a load went.

    ``buffers`` by the engine's device names (``CUDA0``, ``CANN1``) and ``host``; a mapped file may count there with
    more than is used of it. ``layers_on_cards`` of ``layers``, the output counted as one. ``graph_splits`` is in how
    many parts a step is computed: each change between devices, or card and processor, begins a new one.
    """

    buffers: Mapping[str, BufferBytes]
    layers_on_cards: int | None = None
    layers: int | None = None
    graph_splits: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """What a started engine can do.

    ``context_tokens`` is what one seat holds; ``longest_token_bytes`` the longest token of the vocabulary, which gives
    a sure lower bound on a text's token count; ``backends`` names what computes (``CPU``, ``CUDA0``, ``CANN0``).
    ``measured_bytes`` is what the buffers really took, by the engine's device names and ``host``; ``placement`` is
    where they lie; both ``None`` when the engine does not tell.
    """

    engine: str
    build: str
    backends: tuple[str, ...]
    seats: int
    context_tokens: int
    vocabulary_size: int
    longest_token_bytes: int
    model_bytes: int | None = None
    measured_bytes: Mapping[str, int] | None = None
    features: frozenset[Feature] = frozenset()
    placement: LoadPlacement | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStats:
    """Counters since the engine started. ``decode_s`` is time inside the model, ``busy_s`` time with work to do.

    ``cached_tokens`` are prompt tokens that were not computed again. ``shared_tokens`` were taken over from another
    sequence's part of the cache (a request that lost its seat counts again), ``prefix_waits`` requests waited for
    one. ``evictions`` is how often an idle chat was forgotten, ``evicted_tokens`` what that gave back. Of ``cells``
    tokens that the cache holds ``cells_used`` are in use, shared ones once. ``step_counts`` counts steps by how long
    they took: up to each of ``STEP_BOUNDS_S``, then longer; all of them took ``step_s``. ``drafted_tokens`` were
    guessed ahead and computed, ``accepted_tokens`` of them were what was said;
    ``model_...`` of these came from a draft model.

    What is kept of chats outside of the cache: ``tier_hits`` requests took ``tier_hit_tokens`` tokens over from there
    (also counted as ``cached_tokens``), ``tier_restored_bytes`` in all; ``tier_saves`` blocks of ``tier_saved_bytes``
    were saved, ``tier_drops`` given up because a bound was met, ``tier_failures`` could not be used.
    ``tier_memory_bytes`` is what lies in the host's memory now, ``tier_disk_bytes`` on disk, from where
    ``tier_disk_drops`` blocks went for its bound.
    """

    active: int = 0
    waiting: int = 0
    steps: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    preemptions: int = 0
    decode_s: float = 0.0
    busy_s: float = 0.0
    shared_tokens: int = 0
    prefix_waits: int = 0
    evictions: int = 0
    evicted_tokens: int = 0
    cells_used: int = 0
    cells: int = 0
    step_counts: tuple[int, ...] = ()
    step_s: float = 0.0
    longest_step_s: float = 0.0
    tier_hits: int = 0
    tier_hit_tokens: int = 0
    tier_saves: int = 0
    tier_saved_bytes: int = 0
    tier_restored_bytes: int = 0
    tier_drops: int = 0
    tier_failures: int = 0
    tier_memory_bytes: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    model_drafted_tokens: int = 0
    model_accepted_tokens: int = 0
    tier_disk_bytes: int = 0
    tier_disk_drops: int = 0
    pid: int | None = None
    log_tail: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStatus:
    """What ``EngineManager`` tells the rest of the daemon. ``load_fraction`` is 0..1 while STARTING, else ``None``."""

    state: EngineState
    model_id: str | None = None
    load_fraction: float | None = None
    restarts: int = 0
    error: str | None = None
    info: EngineInfo | None = None


ProgressCallback = Callable[[float], None]
"""Takes the fraction of a load that is done, 0..1."""


class Engine(Protocol):
    """Runs one model. ``start`` once, then any number of requests at the same time, then ``stop``."""

    async def start(self, timeout_s: float, on_progress: ProgressCallback | None = None) -> EngineInfo:
        """Load the model. Raises EngineStartFailed(cause, log_tail); nothing is left running then."""
        ...

    async def tokenize(self, segments: Sequence[TextSegment], *, add_bos: bool) -> list[int]:
        """Token ids of the segments in order. Raises EngineLost."""
        ...

    def generate(self, request: GenerationRequest) -> AsyncIterator[GenerationEvent]:
        """Events of one request: any number of TokenDelta, then exactly one Finished, even when the engine dies."""
        ...

    async def abort(self, request_id: str) -> None:
        """End a request soon. Idempotent; an unknown id is nothing."""
        ...

    async def answer_now(self, request_id: str) -> None:
        """End the thought of a request soon, so that its answer begins. Idempotent; nothing for an unknown id, a
        request without ``thinking``, or one that answers already."""
        ...

    async def wait_lost(self) -> str:
        """Return when the engine has ended by itself, with the cause in one line."""
        ...

    async def drain(self, timeout_s: float) -> None:
        """Wait until no request is running, or the time is over."""
        ...

    async def stop(self, timeout_s: float) -> None:
        """End the engine and give its memory back. Idempotent."""
        ...

    def stats(self) -> EngineStats: ...
