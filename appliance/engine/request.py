"""What goes into an engine and what comes out, the same for every engine. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How the next token is drawn.

    ``temperature`` 0 means greedy; then everything but penalties and bias is ignored. ``top_k`` 0 and ``min_p`` 0
    switch those filters off. Penalties are OpenAI's (counted over the whole sequence, -2..2, 0 off);
    ``repeat_penalty`` is llama.cpp's (1 off). ``logit_bias`` pairs token ids with a bias of -100..100.
    """

    temperature: float = 0.6
    top_p: float = 0.95
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repeat_penalty: float = 1.0
    seed: int | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class TextSegment:
    """A piece of a prompt. Only in a ``trusted`` one are control tokens such as ``<｜User｜>`` read as tokens; the rest
    is what a client wrote, which must not be able to forge a turn."""

    text: str
    trusted: bool = True


class Priority(StrEnum):
    """Whose prompt an engine computes first: a person waits for an INTERACTIVE one, nobody for a BATCH one."""

    INTERACTIVE = "interactive"
    BATCH = "batch"


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One sequence to generate. ``prompt_tokens`` and ``max_tokens`` together fit a seat (the caller has counted).

    ``owner`` is who is charged for it where an engine's seats are scarce (a key's id), None for nobody in particular.
    """

    request_id: str
    prompt_tokens: tuple[int, ...]
    max_tokens: int
    sampling: SamplingParams
    owner: str | None = None
    priority: Priority = Priority.INTERACTIVE


class FinishReason(StrEnum):
    """Why a sequence ended."""

    STOP = "stop"
    LENGTH = "length"
    ABORTED = "aborted"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class TokenDelta:
    """``count`` generated tokens; ``text`` may be empty while a character is still incomplete."""

    text: str
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The one and only ending of a request. ``error`` is set exactly when ``reason`` is ERROR."""

    reason: FinishReason
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    error: Exception | None = None


GenerationEvent = TokenDelta | Finished
