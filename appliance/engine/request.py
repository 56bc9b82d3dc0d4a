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


class StructureKind(StrEnum):
    """What ``Structure.text`` is: a JSON schema, nothing (any JSON object), a regular expression, a grammar."""

    JSON_SCHEMA = "json_schema"
    JSON_OBJECT = "json_object"
    REGEX = "regex"
    GRAMMAR = "grammar"


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """The form an answer must have. It binds the answer alone: a thought before it is free."""

    kind: StructureKind
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinkingControl:
    """How the thought of an answer is watched and brought to an end.

    ``opened``: the prompt ends inside the thought. ``open_tokens`` begin a thought, ``close_tokens`` end it
    (``<think>``, ``</think>``). ``landing_tokens`` are what is written for the model when it is ended from outside: a
    closing sentence, then ``close_tokens``; the answer goes on after them. ``budget_tokens`` is how long it may be
    before them, None for no limit; ``breaks_loops``: a thought that repeats itself is ended the same way, an answer
    that does is cut off.
    """

    opened: bool
    open_tokens: tuple[int, ...]
    close_tokens: tuple[int, ...]
    landing_tokens: tuple[int, ...]
    budget_tokens: int | None = None
    breaks_loops: bool = True


class ThinkingEnd(StrEnum):
    """How a thought ended: by itself, at its budget, because it went in circles, because its reader asked for the
    answer."""

    NATURAL = "natural"
    BUDGET = "budget"
    LOOP = "loop"
    ASKED = "asked"


class Priority(StrEnum):
    """Whose prompt an engine computes first: a person waits for an INTERACTIVE one, nobody for a BATCH one."""

    INTERACTIVE = "interactive"
    BATCH = "batch"


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One sequence to generate. ``prompt_tokens`` and ``max_tokens`` together fit a seat (the caller has counted).

    ``owner`` is who is charged for it where an engine's seats are scarce (a key's id), None for nobody in particular.
    ``answer_tokens`` bounds what comes after the thought, None leaves that to ``max_tokens``. ``logprobs`` asks for the
    log probability of each token and of so many of the likeliest beside it; None for none of them. ``keeps_answer``
    says whether the conversation's next prompt can begin with what is said here: not so where the thought is taken out.
    """

    request_id: str
    prompt_tokens: tuple[int, ...]
    max_tokens: int
    sampling: SamplingParams
    owner: str | None = None
    priority: Priority = Priority.INTERACTIVE
    structure: Structure | None = None
    thinking: ThinkingControl | None = None
    answer_tokens: int | None = None
    logprobs: int | None = None
    keeps_answer: bool = True


class FinishReason(StrEnum):
    """Why a sequence ended."""

    STOP = "stop"
    LENGTH = "length"
    ABORTED = "aborted"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token's bytes and the natural logarithm of its probability before temperature and filters; ``top`` are the
    likeliest in its place, the likeliest first."""

    token: bytes
    logprob: float
    top: tuple[tuple[bytes, float], ...] = ()


@dataclass(frozen=True, slots=True)
class TokenDelta:
    """``count`` generated tokens; ``text`` may be empty while a character is still incomplete. ``logprobs`` has an
    entry for each of them when the request asked for it."""

    text: str
    count: int = 1
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The one and only ending of a request. ``error`` is set exactly when ``reason`` is ERROR. ``thinking_end`` is None
    when no thought was watched, or it was still going on. ``answer_looped``: the answer went in circles and was ended;
    its ``reason`` is LENGTH then, for what it was to say is not complete."""

    reason: FinishReason
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    error: Exception | None = None
    thinking_end: ThinkingEnd | None = None
    answer_looped: bool = False


GenerationEvent = TokenDelta | Finished
