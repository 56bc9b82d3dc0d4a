"""Values of a chat: what a protocol module asks for and what it gets back. No behaviour here."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from appliance.engine.request import (
    FinishReason,
    Priority,
    SamplingParams,
    Structure,
    ThinkingEnd,
    TokenLogprob,
)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call the model asked for in an earlier turn. ``arguments`` is JSON text, as OpenAI's clients send it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatMessage:
    """One turn. ``reasoning`` is what a client sent back of an earlier turn's thought; it is never an error."""

    role: str
    content: str
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] | None = None
    tool_call_id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingOverrides:
    """What the client set of ``SamplingParams``; ``None`` takes the model's profile."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repeat_penalty: float | None = None
    seed: int | None = None
    logit_bias: tuple[tuple[int, float], ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A function that the model may ask for. ``parameters`` is its JSON schema as text, None for no arguments;
    ``strict``: arguments that do not follow the schema are made impossible."""

    name: str
    description: str | None = None
    parameters: str | None = None
    strict: bool = False


class ToolMode(StrEnum):
    """Whether the model may call tools (AUTO), must not (NONE), must call one (REQUIRED), must call a NAMED one."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"
    NAMED = "named"


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """``name`` is set exactly when ``mode`` is NAMED."""

    mode: ToolMode = ToolMode.AUTO
    name: str | None = None


class Effort(StrEnum):
    """How long a model may think, in the words of OpenAI's ``reasoning_effort``."""

    MINIMAL = "minimal"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinkingOptions:
    """What the client wants of the thought. ``enabled`` None and ``effort`` None take the box's own;
    ``budget_tokens`` goes before ``effort``. ``answer_tokens`` bounds the answer after it."""

    enabled: bool | None = None
    effort: Effort | None = None
    budget_tokens: int | None = None
    answer_tokens: int | None = None


class SamplingPolicy(StrEnum):
    """What becomes of sampling outside of a profile's band: ``clamp`` moves it to the band's nearest end and says so,
    ``free`` takes it as it is."""

    CLAMP = "clamp"
    FREE = "free"


class ReasoningFormat(StrEnum):
    """Where a client wants the thought: in a field of one of two names, or of both; inline, as ``<think>`` before the
    answer; or nowhere."""

    REASONING_CONTENT = "reasoning_content"
    REASONING = "reasoning"
    BOTH = "both"
    INLINE = "inline"
    HIDDEN = "hidden"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """One answer wanted. ``max_tokens`` ``None`` means as long as the profile and the seat allow.

    ``request_id`` is unique among the requests of this process; the engine knows the sequence by it. ``trim_turns``:
    the oldest whole turns may be dropped when it does not fit. ``sampling_policy`` is what this client may; ``None``
    takes the box's own. ``owner`` and ``priority`` are as in ``GenerationRequest``, so is ``logprobs``. ``structure``
    is the form of the answer. A request that has no seat after ``deadline_s`` is given up. ``continues``: the last
    message is the beginning of the answer, which goes on from its end.
    """

    request_id: str
    model: str
    messages: tuple[ChatMessage, ...]
    max_tokens: int | None = None
    sampling: SamplingOverrides = field(default_factory=SamplingOverrides)
    stop: tuple[str, ...] = ()
    trim_turns: bool = False
    sampling_policy: SamplingPolicy | None = None
    owner: str | None = None
    priority: Priority = Priority.INTERACTIVE
    deadline_s: float | None = None
    thinking: ThinkingOptions = field(default_factory=ThinkingOptions)
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = field(default_factory=ToolChoice)
    parallel_tool_calls: bool = True
    structure: Structure | None = None
    logprobs: int | None = None
    continues: bool = False


@dataclass(frozen=True, slots=True)
class Trimmed:
    """What was left out of a conversation so that it fits: its ``turns`` oldest turns, which were ``tokens`` of the
    prompt. With ``tokens_is_minimum`` they were at least that many: it was too long to be counted."""

    turns: int
    tokens: int
    tokens_is_minimum: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one request. ``reasoning_tokens`` are among ``completion_tokens``, ``cached_tokens`` in the prompt.
    What was ``trimmed`` is in none of them. ``thinking_end`` and ``answer_looped`` as in ``Finished``."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    cached_tokens: int = 0
    trimmed: Trimmed | None = None
    thinking_end: ThinkingEnd | None = None
    answer_looped: bool = False


@dataclass(frozen=True, slots=True)
class Queued:
    """The request waits for a seat; ``position`` 1 is next. Sent first, whenever the position changes, and every few
    seconds. ``wait_s`` is how long it will take as things are (``serving.waiting``), None while nothing is known."""

    position: int
    wait_s: float | None = None


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """More of the thought; never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class ContentDelta:
    """More of the answer; never empty. ``logprobs`` are those of the tokens that it came from, if asked for."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallDelta:
    """More of the call with this ``index``, counted from 0. The first of a call has ``id`` and ``name``; the
    ``arguments`` of all of them together are its JSON."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallDropped:
    """The call with this ``index`` was begun and never came to a valid end: it is none. ``text`` is all that the model
    wrote of it; a client that sees answers whole gets that as text in place of the call."""

    index: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long an answer took, from its opening on. ``queued_s`` is the wait for its seat (None: it got none),
    ``first_token_s`` until something came (None: nothing did)."""

    duration_s: float = 0.0
    queued_s: float | None = None
    first_token_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatFinished:
    """The one ending of a stream that is read to its end.

    ``error`` is set exactly when ``reason`` is ERROR. ``stop_string`` is the client's stop string that was met.
    ``reasoning_open`` says that the answer never began: the thought was still going on. ``tool_calls`` is how many
    whole calls there were. ``thinking_end`` and ``answer_looped`` as in ``Finished``.
    """

    reason: FinishReason
    usage: Usage
    error: Exception | None = None
    stop_string: str | None = None
    reasoning_open: bool = False
    thinking_end: ThinkingEnd | None = None
    answer_looped: bool = False
    tool_calls: int = 0
    timing: Timing = field(default_factory=Timing, compare=False)


ChatEvent = Queued | ReasoningDelta | ContentDelta | ToolCallDelta | ToolCallDropped | ChatFinished


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptCount:
    """What a conversation would take of a seat. With ``is_minimum`` it was too long to be counted to the end.
    ``answer_tokens``: how long its answer could become, 0 when it does not fit."""

    prompt_tokens: int
    context_tokens: int
    answer_tokens: int
    is_minimum: bool = False


class RequestState(StrEnum):
    """What a running request is at."""

    QUEUED = "queued"
    THINKING = "thinking"
    ANSWERING = "answering"


class ProfileName(StrEnum):
    """Which contract a model is held to."""

    R1 = "r1"
    R1_0528 = "r1-0528"
    PLAIN = "plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelProfile:
    """How a model wants to be asked.

    ``splits_reasoning``: its output has ``<think>``; ``strips_history``: earlier thoughts do not go back into the
    prompt, but for those of a running chain of tool calls with ``keeps_chain_thoughts``; ``folds_system``: it has no
    system prompt, which goes into the user's turn; ``opens_thought``: its answer is to begin with ``<think>``;
    ``temperature_band``: smallest and largest temperature it is recommended with, ``None`` for any;
    ``answer_tokens``: the most one answer takes when the client sets nothing (thinking included), ``None`` for
    whatever the seat has left.
    """

    name: ProfileName
    sampling: SamplingParams
    splits_reasoning: bool
    strips_history: bool
    keeps_chain_thoughts: bool = False
    folds_system: bool = False
    opens_thought: bool = False
    temperature_band: tuple[float, float] | None = None
    answer_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """A model that chat can be asked for, read from its file's header by the daemon.

    ``created_at`` is in unix seconds. ``quantization`` is for those who count by it. ``control_tokens`` are the texts
    of the vocabulary's CONTROL and USER_DEFINED tokens (GGUF token types 3 and 4): a client's text must not forge any
    of them.
    """

    id: str
    name: str
    created_at: int
    chat_template: str | None
    bos_token: str | None
    eos_token: str | None
    control_tokens: frozenset[str]
    profile: ModelProfile
    quantization: str | None = None
