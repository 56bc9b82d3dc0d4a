"""Between OpenAI's wire types and those of the serving layer. Values in, values out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from appliance.api.errors import UnsupportedParameter
from appliance.api.exchange import raise_if_failed, refuse_unsupported, to_ignored, to_model_id
from appliance.api.openai.forms import to_structure, to_tools
from appliance.api.openai.thinking import to_thinking
from appliance.engine.request import FinishReason as EngineFinishReason
from appliance.engine.request import TokenLogprob
from appliance.errors import InvalidRequest
from appliance.schemas.openai_completion import CompletionBody
from appliance.schemas.openai_request import (
    THOUGHT_FIELDS,
    THOUGHT_PARTS,
    UNSUPPORTED,
    ChatCompletionRequest,
    ContentPart,
    RequestMessage,
)
from appliance.schemas.openai_response import (
    CalledFunction,
    ChoiceLogprobs,
    CompletionTokensDetails,
    ContentLogprob,
    FinishReason,
    PromptTokensDetails,
    ResponseToolCall,
    TopLogprob,
    TrimmedBody,
    UsageBody,
)
from appliance.schemas.openai_responses import ResponseRequest
from appliance.schemas.openai_tools import JsonSchemaFormat
from appliance.serving.types import (
    ChatFinished,
    ChatMessage,
    ChatRequest,
    SamplingOverrides,
    ToolCall,
    Usage,
)

_LOWEST_LOGPROB = -9999.0
"""What OpenAI gives for a token that cannot be; JSON has no minus infinity."""


def to_chat_request(body: ChatCompletionRequest, request_id: str, owner: str | None = None) -> ChatRequest:
    """What the serving layer gets; ``owner`` as there. Raises UnsupportedParameter, InvalidRequest."""
    refuse_wrong(body, UNSUPPORTED)
    tools, tool_choice = to_tools(body.tools, body.tool_choice)
    return ChatRequest(
        request_id=request_id,
        model=to_model_id(body.model),
        messages=tuple(_message(message, f"messages[{index}]") for index, message in enumerate(body.messages)),
        max_tokens=_max_tokens(body),
        sampling=to_sampling(body),
        stop=to_stop(body.stop),
        trim_turns=body.trim == "turns",
        deadline_s=body.deadline_s,
        tools=tools,
        tool_choice=tool_choice,
        parallel_tool_calls=body.parallel_tool_calls is not False,
        structure=to_structure(body.response_format, body.structured_outputs),
        logprobs=_logprobs(body),
        continues=_continues(body),
        owner=owner,
        thinking=to_thinking(body),
    )


def to_sampling(body: ChatCompletionRequest | CompletionBody) -> SamplingOverrides:
    """What the client set of the sampling."""
    return SamplingOverrides(
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        min_p=body.min_p,
        presence_penalty=body.presence_penalty,
        frequency_penalty=body.frequency_penalty,
        repeat_penalty=body.repeat_penalty,
        seed=body.seed,
        logit_bias=None if body.logit_bias is None else tuple(body.logit_bias.items()),
    )


def to_stop(stop: str | list[str] | None) -> tuple[str, ...]:
    """The stop strings."""
    return (stop,) if isinstance(stop, str) else tuple(stop or ())


def ignored_of(body: BaseModel, names: Iterable[str]) -> tuple[str, ...]:
    """``to_ignored`` with what OpenAI's bodies have deeper down."""
    ignored = [*to_ignored(body, names)]
    options = getattr(body, "stream_options", None)
    if "stream_options" not in names and options is not None and options.include_obfuscation:
        ignored.append("stream_options.include_obfuscation")
    if isinstance(body, ChatCompletionRequest) and any(map(_has_provider_fields, body.messages)):
        ignored.append("messages.provider_specific_fields")
    form = getattr(body, "response_format", None)
    if isinstance(form, JsonSchemaFormat) and form.json_schema.description is not None:
        ignored.append("response_format.json_schema.description")
    return tuple(ignored)


def _has_provider_fields(message: RequestMessage) -> bool:
    return any(one.provider_specific_fields is not None for one in (message, *(message.tool_calls or ())))


def refuse_wrong(
    body: ChatCompletionRequest | CompletionBody | ResponseRequest, unsupported: Mapping[str, tuple[Any, ...]]
) -> None:
    """Raise UnsupportedParameter or InvalidRequest for what no body of OpenAI's may hold."""
    refuse_unsupported(body, unsupported)
    if body.stream_options is not None and not body.stream:
        raise InvalidRequest("'stream_options' needs 'stream': true.", param="stream_options")


def to_finish_reason(finished: ChatFinished) -> FinishReason:
    """Why the answer ended. Raises the error that ended it."""
    raise_if_failed(finished)
    if finished.reason is EngineFinishReason.LENGTH:
        return "length"
    return "tool_calls" if finished.tool_calls else "stop"


def to_usage(usage: Usage) -> UsageBody:
    """The token counts in OpenAI's shape."""
    return UsageBody(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=usage.cached_tokens),
        completion_tokens_details=CompletionTokensDetails(reasoning_tokens=usage.reasoning_tokens),
        thinking_end=usage.thinking_end,
        answer_looped=usage.answer_looped or None,
        trimmed=None
        if usage.trimmed is None
        else TrimmedBody(
            turns=usage.trimmed.turns,
            tokens=usage.trimmed.tokens,
            tokens_is_minimum=usage.trimmed.tokens_is_minimum,
        ),
    )


def to_logprobs(logprobs: Sequence[TokenLogprob]) -> ChoiceLogprobs:
    """Log probabilities in the shape of chat completions."""
    return ChoiceLogprobs(
        content=[
            ContentLogprob(
                **_token(one.token, one.logprob).model_dump(),
                top_logprobs=[_token(token, logprob) for token, logprob in one.top],
            )
            for one in logprobs
        ]
    )


def to_tool_calls(calls: Sequence[ToolCall]) -> list[ResponseToolCall] | None:
    """The calls of a whole answer."""
    if not calls:
        return None
    return [
        ResponseToolCall(id=call.id, function=CalledFunction(name=call.name, arguments=call.arguments))
        for call in calls
    ]


def _token(token: bytes, logprob: float) -> TopLogprob:
    return TopLogprob(token=token.decode("utf-8", "replace"), logprob=max(logprob, _LOWEST_LOGPROB), bytes=list(token))


def _logprobs(body: ChatCompletionRequest) -> int | None:
    if body.top_logprobs and not body.logprobs:
        raise InvalidRequest("'top_logprobs' needs 'logprobs': true.", param="top_logprobs")
    return (body.top_logprobs or 0) if body.logprobs else None


def _continues(body: ChatCompletionRequest) -> bool:
    """DeepSeek marks the message, vLLM the request."""
    marked = [index for index, message in enumerate(body.messages) if message.prefix]
    if marked and (marked != [len(body.messages) - 1] or body.messages[-1].role != "assistant"):
        where = f"messages[{marked[0]}].prefix"
        raise InvalidRequest(f"'{where}' may only be of the last message, and the assistant's.", param=where)
    continues = bool(marked) or bool(body.continue_final_message)
    if body.add_generation_prompt is not None and body.add_generation_prompt is continues:
        raise InvalidRequest(
            "'add_generation_prompt' is true unless the last message is continued.", param="add_generation_prompt"
        )
    return continues


def _max_tokens(body: ChatCompletionRequest) -> int | None:
    old, new = body.max_tokens, body.max_completion_tokens
    if old is not None and new is not None and old != new:
        raise InvalidRequest(
            "'max_tokens' and 'max_completion_tokens' mean the same and differ; send one.", param="max_tokens"
        )
    return old if new is None else new


def _message(message: RequestMessage, where: str) -> ChatMessage:
    is_assistant = message.role == "assistant"
    thought = next(_thoughts(message), None)
    # A turn that ended in its thought has no content.
    if message.content is None and not (
        is_assistant and (message.tool_calls or message.refusal or thought is not None)
    ):
        raise InvalidRequest(f"The content of {where} is missing.", param=f"{where}.content")
    if message.tool_calls and not is_assistant:
        raise InvalidRequest(f"{where} has tool calls but is not the assistant's.", param=f"{where}.tool_calls")
    if message.role == "tool" and not message.tool_call_id:
        raise InvalidRequest(f"{where} does not say which call it answers.", param=f"{where}.tool_call_id")
    return ChatMessage(
        role=message.role,
        content=_text(message.content, f"{where}.content", has_thoughts=is_assistant) or message.refusal or "",
        reasoning=thought,
        tool_calls=_tool_calls(message),
        tool_call_id=message.tool_call_id,
        name=message.name,
    )


def _tool_calls(message: RequestMessage) -> tuple[ToolCall, ...] | None:
    if not message.tool_calls:
        return None
    return tuple(
        ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments) for call in message.tool_calls
    )


def _thoughts(message: RequestMessage) -> Iterator[str]:
    """The thoughts that a message brings along outside of its text, the most usual form first.

    One whose text lies deeper, as in OpenRouter's and LiteLLM's lists, is there but not read: no template takes it.
    """
    for name in THOUGHT_FIELDS:
        value = getattr(message, name)
        if value:
            yield value if isinstance(value, str) else ""
    for part in message.content if isinstance(message.content, list) and message.role == "assistant" else ():
        if part.type in THOUGHT_PARTS:
            texts = (part.text, *((part.model_extra or {}).get(name) for name in ("thinking", "reasoning")))
            yield next((text for text in texts if isinstance(text, str)), "")


def _text(content: str | list[ContentPart] | None, where: str, *, has_thoughts: bool) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    texts = []
    for index, part in enumerate(content):
        if has_thoughts and part.type in THOUGHT_PARTS:
            continue
        if part.type != "text":
            raise UnsupportedParameter(f"{where}[{index}]", detail=f": the model reads text, not '{part.type[:40]}'")
        if part.text is None:
            raise InvalidRequest(f"The text of {where}[{index}] is missing.", param=f"{where}[{index}].text")
        if part.model_extra:
            raise UnsupportedParameter(f"{where}[{index}].{next(iter(part.model_extra))[:40]}")
        texts.append(part.text)
    return "".join(texts)
