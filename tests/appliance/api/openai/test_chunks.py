from __future__ import annotations

import json
from typing import Any

import pytest

from appliance.api.openai.chunks import DONE, ChunkEncoder
from appliance.schemas.openai_response import (
    ChatCompletionChunk,
    CompletionTokensDetails,
    PromptTokensDetails,
    UsageBody,
)

USAGE = UsageBody(
    prompt_tokens=3,
    completion_tokens=5,
    total_tokens=8,
    prompt_tokens_details=PromptTokensDetails(cached_tokens=1),
    completion_tokens_details=CompletionTokensDetails(reasoning_tokens=2),
)
TEXTS = ["a", "", '"\\/', "line\nnext\r\n\u2028", "\x00\x1f\x7f", "答え", "😀", "</think>", "data: x"]


def encoder(*, include_usage: bool) -> ChunkEncoder:
    return ChunkEncoder(completion_id='c"1', model="模型\n", created=5, include_usage=include_usage)


def read(event: bytes) -> dict[str, Any]:
    assert event.startswith(b"data: ")
    assert event.endswith(b"\n\n")
    payload = event[6:-2]
    assert b"\n" not in payload
    assert b"\r" not in payload
    ChatCompletionChunk.model_validate_json(payload, strict=True)
    chunk: dict[str, Any] = json.loads(payload)
    assert (chunk["id"], chunk["model"], chunk["created"]) == ('c"1', "模型\n", 5)
    assert chunk["object"] == "chat.completion.chunk"
    return chunk


@pytest.mark.parametrize("include_usage", [True, False])
@pytest.mark.parametrize("text", TEXTS)
def test_text_survives(text: str, include_usage: bool) -> None:
    chunks = encoder(include_usage=include_usage)
    for event, field in ((chunks.content(text), "content"), (chunks.reasoning(text), "reasoning_content")):
        chunk = read(event)
        assert chunk["choices"] == [{"index": 0, "delta": {field: text}, "finish_reason": None}]
        assert ("usage" in chunk) is include_usage
        assert chunk.get("usage") is None


def test_first_and_last() -> None:
    chunks = encoder(include_usage=True)
    assert read(chunks.role())["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert read(chunks.finish("length"))["choices"] == [{"index": 0, "delta": {}, "finish_reason": "length"}]
    usage = read(chunks.usage(USAGE))
    assert usage["choices"] == []
    assert usage["usage"] == USAGE.model_dump()
    assert DONE == b"data: [DONE]\n\n"
