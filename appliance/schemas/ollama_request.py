"""``POST /api/chat``, ``/api/generate`` and ``/api/show``: the requests, after Ollama's API reference.

``deadline_s`` is an addition of R1 Box, as in ``openai_request``. Other than there unknown fields are taken, because
Ollama takes them and its clients send what other versions know; an answer's header names them. So are options: whatever
changes nothing here is named.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue


class _Wire(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, frozen=True, protected_namespaces=())


def _whole(value: Any) -> Any:
    """Clients that keep options as numbers without a type send 40.0 for 40."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_Int = Annotated[int, BeforeValidator(_whole)]
_Penalty = Annotated[float, Field(ge=-2, le=2)]
_StopText = Annotated[str, Field(min_length=1, max_length=500)]


class CalledFunction(_Wire):
    """``arguments`` is an object; some clients send its JSON text."""

    name: str
    arguments: dict[str, JsonValue] | str = Field(default_factory=dict)
    index: int | None = None


class CalledTool(_Wire):
    """A call that the assistant made in an earlier turn."""

    id: str | None = None
    type: str | None = None
    function: CalledFunction


class Message(_Wire):
    """One turn. ``thinking`` is an earlier thought, in whatever form it is sent back. The result of a tool may say
    which call it answers (``tool_call_id``), or only which tool (``tool_name``, ``name``), or nothing."""

    role: Annotated[str, Field(max_length=40)]
    content: str | None = None
    thinking: JsonValue = None
    images: JsonValue = None
    tool_calls: Annotated[list[CalledTool], Field(fail_fast=True, max_length=1_000)] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None
    name: str | None = None


class ToolFunction(_Wire):
    """``parameters`` is the JSON schema of the arguments; left out, there are none."""

    name: str = Field(min_length=1, max_length=128)
    description: str | None = None
    parameters: dict[str, JsonValue] | None = None
    strict: bool | None = None


class ToolDefinition(_Wire):
    """A tool that the model may ask for."""

    type: Literal["function"] | None = None
    function: ToolFunction


class Options(_Wire):
    """How to draw tokens. ``num_predict`` below 1 is as long as the seat allows, ``seed`` below 0 none."""

    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: _Int | None = Field(default=None, ge=0, le=2**31 - 1)
    min_p: float | None = Field(default=None, ge=0, le=1)
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None
    repeat_penalty: float | None = Field(default=None, gt=0, le=2)
    seed: _Int | None = Field(default=None, ge=-(2**63), le=2**63 - 1)
    num_predict: _Int | None = Field(default=None, ge=-(2**31), le=2**31 - 1)
    stop: _StopText | Annotated[list[_StopText], Field(fail_fast=True, max_length=16)] | None = None

    # Accepted without effect: see OPTION_IGNORED.
    num_ctx: JsonValue = None
    num_keep: JsonValue = None
    num_batch: JsonValue = None
    num_gpu: JsonValue = None
    num_thread: JsonValue = None
    main_gpu: JsonValue = None
    use_mmap: JsonValue = None
    use_mlock: JsonValue = None
    low_vram: JsonValue = None
    numa: JsonValue = None
    f16_kv: JsonValue = None
    logits_all: JsonValue = None
    vocab_only: JsonValue = None
    embedding_only: JsonValue = None
    draft_num_predict: JsonValue = None
    repeat_last_n: JsonValue = None
    typical_p: JsonValue = None
    tfs_z: JsonValue = None
    mirostat: JsonValue = None
    mirostat_eta: JsonValue = None
    mirostat_tau: JsonValue = None
    penalize_newline: JsonValue = None


class AnswerFields(_Wire):
    """What chat and generate both take. A stream is what comes unless ``stream`` is false."""

    model: str = Field(min_length=1, max_length=256)
    stream: bool | None = None
    format: Literal["", "json"] | dict[str, JsonValue] | None = None
    options: Options | None = None
    think: bool | Literal["low", "medium", "high", "max"] | None = None
    truncate: bool | None = None
    logprobs: bool | None = None
    top_logprobs: _Int | None = Field(default=None, ge=0, le=20)
    deadline_s: float | None = Field(default=None, ge=0, le=86_400)
    keep_alive: JsonValue = None

    # Accepted without effect: see IGNORED.
    shift: JsonValue = None

    # Known, and refused unless neutral: see CHAT_UNSUPPORTED.
    template: JsonValue = None


class ChatCall(AnswerFields):
    """The body of ``POST /api/chat``. Without messages the model is loaded and nothing is asked."""

    messages: Annotated[list[Message], Field(fail_fast=True, max_length=10_000)] | None = None
    tools: Annotated[list[ToolDefinition], Field(fail_fast=True, max_length=128)] | None = None


class GenerateBody(AnswerFields):
    """The body of ``POST /api/generate``. Without a prompt the model is loaded and nothing is asked. ``raw``: the
    prompt is the whole text that the model sees."""

    prompt: str | None = None
    system: str | None = None
    raw: bool | None = None

    # Known, and refused unless neutral: see GENERATE_UNSUPPORTED.
    suffix: JsonValue = None
    images: JsonValue = None
    context: JsonValue = None
    width: JsonValue = None
    height: JsonValue = None
    steps: JsonValue = None


class ShowBody(_Wire):
    """The body of ``POST /api/show``; ``name`` is the older name of ``model``."""

    model: str | None = Field(default=None, max_length=256)
    name: str | None = Field(default=None, max_length=256)

    # Accepted without effect: see SHOW_IGNORED.
    verbose: JsonValue = None
    system: JsonValue = None
    template: JsonValue = None
    options: JsonValue = None


IGNORED = ("keep_alive", "shift")
SHOW_IGNORED = ("verbose", "system", "template", "options")
OPTION_IGNORED = tuple(name for name, field in Options.model_fields.items() if field.annotation == JsonValue)
"""Fields that are accepted and change nothing; an answer's header names those that were sent."""

CHAT_UNSUPPORTED: dict[str, tuple[Any, ...]] = {"template": ("",)}
GENERATE_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "template": ("",),
    "suffix": ("",),
    "images": ([],),
    "context": ([],),
    "width": (0,),
    "height": (0,),
    "steps": (0,),
}
"""Fields that are not there, with the values beside null that ask for nothing."""
