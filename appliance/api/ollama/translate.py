"""Between Ollama's wire types and those of the serving layer. Values in, values out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence

from pydantic import BaseModel

from appliance.api.errors import UnsupportedParameter
from appliance.api.exchange import raise_if_failed, refuse_unsupported, to_ignored, to_model_id
from appliance.engine.request import FinishReason, Structure, StructureKind, TokenLogprob
from appliance.errors import InvalidRequest
from appliance.schemas.ollama_request import (
    CHAT_UNSUPPORTED,
    GENERATE_UNSUPPORTED,
    IGNORED,
    OPTION_IGNORED,
    AnswerFields,
    ChatCall,
    GenerateBody,
    Message,
    Options,
)
from appliance.schemas.ollama_response import Alternative
from appliance.schemas.ollama_response import TokenLogprob as WireLogprob
from appliance.serving.completion import CompletionRequest
from appliance.serving.types import (
    ChatFinished,
    ChatMessage,
    ChatRequest,
    Effort,
    SamplingOverrides,
    ThinkingOptions,
    Tool,
    ToolCall,
)

_LEVELS = {"low": Effort.LOW, "medium": Effort.MEDIUM, "high": Effort.HIGH, "max": Effort.HIGH}
_NOTHING = re.compile(r"[+-]?0*(\.0*)?(ns|us|µs|ms|s|m|h)?")
"""A duration of nothing, as Go writes it."""
_SHOWN_NAME = re.compile(r"[A-Za-z0-9_.-]{1,40}")
_MOST_NAMES = 32
_LOWEST_LOGPROB = -9999.0
"""JSON has no minus infinity."""


def asks_nothing(body: ChatCall | GenerateBody) -> bool:
    """Whether the client only wants the model to be loaded. Raises UnsupportedParameter where it wants it gone."""
    refuse_unsupported(body, _unsupported(body))
    if body.messages if isinstance(body, ChatCall) else body.prompt:
        return False
    if _is_nothing(body.keep_alive):
        raise UnsupportedParameter("keep_alive", detail=" with 0: the box and its operator unload models, not clients")
    return True


def to_request(
    body: ChatCall | GenerateBody, request_id: str, owner: str | None = None
) -> ChatRequest | CompletionRequest:
    """What the serving layer gets of a body that asks for something; ``owner`` as there. Raises UnsupportedParameter,
    InvalidRequest."""
    if body.top_logprobs and not body.logprobs:
        raise InvalidRequest("'top_logprobs' needs 'logprobs': true.", param="top_logprobs")
    options = body.options or Options()
    if isinstance(body, GenerateBody) and body.raw:
        return _raw(body, options, request_id, owner)
    if isinstance(body, GenerateBody):
        messages = tuple(_prompted(body))
        tools: tuple[Tool, ...] = ()
    else:
        messages, tools = tuple(_turns(body.messages or ())), _tools(body)
    last = messages[-1]
    return ChatRequest(
        request_id=request_id,
        model=to_model_id(body.model),
        messages=messages,
        max_tokens=_max_tokens(options),
        sampling=_sampling(options),
        stop=_stop(options),
        trim_turns=bool(body.truncate),
        deadline_s=body.deadline_s,
        tools=tools,
        structure=_structure(body),
        logprobs=_logprobs(body),
        continues=last.role == "assistant" and not last.tool_calls,
        owner=owner,
        thinking=_thinking(body),
    )


def to_ignored_fields(body: ChatCall | GenerateBody) -> tuple[str, ...]:
    """What the client set without effect, by its paths. Names that a client made up are shown only if they can be."""
    ignored = [*to_ignored(body, IGNORED), *extra_fields(body)]
    if body.options is not None:
        ignored += [
            f"options.{name}" for name in (*to_ignored(body.options, OPTION_IGNORED), *extra_fields(body.options))
        ]
    if body.shift is False:
        ignored.remove("shift")  # to refuse what does not fit instead of forgetting its beginning: so it is
    if isinstance(body, GenerateBody):
        if body.raw:
            ignored += [name for name in ("think", "truncate") if getattr(body, name) is not None]
    else:
        tools = body.tools or ()
        ignored += _each("messages", (name for message in body.messages or () for name in extra_fields(message)))
        ignored += _each(
            "tools", (name for tool in tools for one in (tool, tool.function) for name in extra_fields(one))
        )
    return shortened(ignored)


def shortened(names: Sequence[str]) -> tuple[str, ...]:
    """So many of them as fit in a header."""
    return (*names[:_MOST_NAMES], *(("...",) if len(names) > _MOST_NAMES else ()))


def extra_fields(body: BaseModel) -> list[str]:
    """Fields that nobody here knows and that ask for something."""
    return [
        name if _SHOWN_NAME.fullmatch(name) else "?"
        for name, value in (body.model_extra or {}).items()
        if value is not None
    ]


def to_done_reason(finished: ChatFinished) -> str:
    """Why the answer ended. Raises the error that ended it."""
    raise_if_failed(finished)
    return "length" if finished.reason is FinishReason.LENGTH else "stop"


def to_logprobs(logprobs: Sequence[TokenLogprob], most: int) -> list[WireLogprob]:
    """Log probabilities in Ollama's shape, ``most`` of the likeliest beside each."""
    return [
        WireLogprob(
            **_token(one.token, one.logprob).model_dump(),
            top_logprobs=[_token(token, logprob) for token, logprob in one.top] if most else None,
        )
        for one in logprobs
    ]


def to_arguments(text: str) -> dict[str, object]:
    """The arguments of a whole call."""
    arguments = json.loads(text or "{}")
    assert isinstance(arguments, dict), "the splitter lets no other call through"
    return arguments


def _token(token: bytes, logprob: float) -> Alternative:
    return Alternative(token=token.decode("utf-8", "replace"), logprob=max(logprob, _LOWEST_LOGPROB), bytes=list(token))


def _unsupported(body: ChatCall | GenerateBody) -> dict[str, tuple[object, ...]]:
    return GENERATE_UNSUPPORTED if isinstance(body, GenerateBody) else CHAT_UNSUPPORTED


def _raw(body: GenerateBody, options: Options, request_id: str, owner: str | None) -> CompletionRequest:
    if body.system:
        raise InvalidRequest("With 'raw' the prompt is all that the model sees; put the system prompt in.", param="raw")
    return CompletionRequest(
        request_id=request_id,
        model=to_model_id(body.model),
        prompt=body.prompt or "",
        max_tokens=_max_tokens(options),
        sampling=_sampling(options),
        stop=_stop(options),
        owner=owner,
        deadline_s=body.deadline_s,
        structure=_structure(body),
        logprobs=_logprobs(body),
    )


def _prompted(body: GenerateBody) -> Iterator[ChatMessage]:
    if body.system:
        yield ChatMessage(role="system", content=body.system)
    yield ChatMessage(role="user", content=body.prompt or "")


def _turns(messages: Sequence[Message]) -> Iterator[ChatMessage]:
    """The conversation. Results of tools that do not say which call they answer answer the first open one, of the tool
    that they name if they name one."""
    open_calls: list[ToolCall] = []
    for index, message in enumerate(messages):
        where, role = f"messages[{index}]", message.role.lower()
        if message.images not in (None, []):
            raise UnsupportedParameter(f"{where}.images", detail=": the model reads text")
        if role == "assistant":
            calls = tuple(_calls(message, index))
            open_calls += calls
            thought = message.thinking
            yield ChatMessage(
                role=role,
                content=message.content or "",
                reasoning=(thought if isinstance(thought, str) else "") if thought else None,
                tool_calls=calls or None,
            )
            continue
        if message.tool_calls:
            raise InvalidRequest(f"{where} has tool calls but is not the assistant's.", param=f"{where}.tool_calls")
        if role == "tool":
            answered = _answered(message, open_calls, where)
            yield ChatMessage(role=role, content=message.content or "", tool_call_id=answered.id, name=answered.name)
            continue
        yield ChatMessage(role=role, content=message.content or "")


def _calls(message: Message, index: int) -> Iterator[ToolCall]:
    for number, call in enumerate(message.tool_calls or ()):
        given = call.function.arguments
        arguments = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
        yield ToolCall(id=call.id or f"call_{index}_{number}", name=call.function.name, arguments=arguments)


def _answered(message: Message, open_calls: list[ToolCall], where: str) -> ToolCall:
    """The call whose result it is, which is then no longer open."""
    name = message.tool_name or message.name
    for fits in (
        lambda call: call.id == message.tool_call_id,
        # LiteLLM sends the result's id and not the call's.
        lambda call: call.name == name,
        lambda call: name is None,
    ):
        found = next((call for call in open_calls if fits(call)), None)
        if found is not None:
            open_calls.remove(found)
            return found
    raise InvalidRequest(f"{where} is the result of a call that nobody made.", param=where)


def _tools(body: ChatCall) -> tuple[Tool, ...]:
    return tuple(
        Tool(
            name=tool.function.name,
            description=tool.function.description,
            parameters=None
            if tool.function.parameters is None
            else json.dumps(tool.function.parameters, ensure_ascii=False),
            strict=bool(tool.function.strict),
        )
        for tool in body.tools or ()
    )


def _sampling(options: Options) -> SamplingOverrides:
    return SamplingOverrides(
        temperature=options.temperature,
        top_p=options.top_p,
        top_k=options.top_k,
        min_p=options.min_p,
        presence_penalty=options.presence_penalty,
        frequency_penalty=options.frequency_penalty,
        repeat_penalty=options.repeat_penalty,
        seed=None if options.seed is None or options.seed < 0 else options.seed,
    )


def _max_tokens(options: Options) -> int | None:
    return None if options.num_predict is None or options.num_predict < 1 else options.num_predict


def _stop(options: Options) -> tuple[str, ...]:
    return (options.stop,) if isinstance(options.stop, str) else tuple(options.stop or ())


def _structure(body: AnswerFields) -> Structure | None:
    if not body.format and body.format != {}:
        return None
    if body.format == "json":
        return Structure(kind=StructureKind.JSON_OBJECT)
    return Structure(kind=StructureKind.JSON_SCHEMA, text=json.dumps(body.format, ensure_ascii=False))


def _logprobs(body: AnswerFields) -> int | None:
    return (body.top_logprobs or 0) if body.logprobs else None


def _thinking(body: AnswerFields) -> ThinkingOptions:
    if isinstance(body.think, str):
        return ThinkingOptions(effort=_LEVELS[body.think])
    return ThinkingOptions(enabled=body.think)


def _is_nothing(keep_alive: object) -> bool:
    if isinstance(keep_alive, str):
        return bool(keep_alive) and _NOTHING.fullmatch(keep_alive) is not None
    return isinstance(keep_alive, int | float) and keep_alive == 0


def _each(where: str, names: Iterable[str]) -> list[str]:
    return [f"{where}.{name}" for name in dict.fromkeys(names)]
