"""Encoding of stream chunks. At thousands of tokens a second this is the API's hottest code, hence no model per chunk:
all that does not change is encoded once, and only the text is per token. A test reads the result back with
``ChatCompletionChunk``."""

from __future__ import annotations

import msgspec

from appliance.api.sse import data_event
from appliance.schemas.openai_response import ChoiceLogprobs, UsageBody
from appliance.serving.types import ReasoningFormat, ToolCallDelta

DONE = data_event(b"[DONE]")

_encode = msgspec.json.Encoder().encode


class ChunkEncoder:
    """Writes the events of one stream. With ``include_usage`` every chunk has ``usage``, null but in the last. Of
    ``reasoning_format`` the fields' names count here (``serving.reasoning_format`` does the rest). ``index`` is the
    answer's number."""

    def __init__(
        self,
        *,
        completion_id: str,
        model: str,
        created: int,
        include_usage: bool,
        reasoning_format: ReasoningFormat = ReasoningFormat.REASONING_CONTENT,
        index: int = 0,
    ) -> None:
        head = _encode(
            {"id": completion_id, "object": "chat.completion.chunk", "created": created, "model": model}
        ).removesuffix(b"}")
        choice = b"data: " + head + b',"choices":[{"index":' + str(index).encode() + b',"delta":{'
        no_usage = b',"usage":null}\n\n' if include_usage else b"}\n\n"
        self._head = head
        self._role = choice + b'"role":"assistant","content":""},"finish_reason":null}]' + no_usage
        self._content = choice + b'"content":'
        self._reasoning = choice + (
            b'"reasoning":' if reasoning_format is ReasoningFormat.REASONING else b'"reasoning_content":'
        )
        self._reasoning_again = b',"reasoning":' if reasoning_format is ReasoningFormat.BOTH else b""
        self._after_text = b'},"finish_reason":null}]' + no_usage
        self._finish = choice + b'},"finish_reason":'
        self._tool_calls = choice + b'"tool_calls":['
        self._after_call = b"]" + self._after_text
        self._after_reason = b"}]" + no_usage

    def role(self) -> bytes:
        """The first event: who speaks."""
        return self._role

    def content(self, text: str, logprobs: ChoiceLogprobs | None = None) -> bytes:
        """A piece of the answer."""
        if logprobs is None:
            return self._content + _encode(text) + self._after_text
        after = self._after_text.replace(b"},", b'},"logprobs":' + logprobs.model_dump_json().encode() + b",", 1)
        return self._content + _encode(text) + after

    def tool_call(self, delta: ToolCallDelta) -> bytes:
        """The beginning of a call, or more of its arguments."""
        call: dict[str, object] = {"index": delta.index}
        function: dict[str, object] = {"arguments": delta.arguments}
        if delta.name is not None:
            call |= {"id": delta.id, "type": "function"}
            function = {"name": delta.name, "arguments": delta.arguments}
        return self._tool_calls + _encode(call | {"function": function}) + self._after_call

    def reasoning(self, text: str) -> bytes:
        """A piece of the thinking."""
        encoded = _encode(text)
        if self._reasoning_again:
            encoded += self._reasoning_again + encoded
        return self._reasoning + encoded + self._after_text

    def finish(self, reason: str) -> bytes:
        """The event that says why the answer ended."""
        return self._finish + _encode(reason) + self._after_reason

    def usage(self, usage: UsageBody) -> bytes:
        """The token counts; asked for with ``stream_options.include_usage``."""
        return b"data: " + self._head + b',"choices":[],"usage":' + usage.model_dump_json().encode() + b"}\n\n"
