"""The tiny R1's golden texts through profile, template and splitter, without running the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from appliance.serving.profile import prepare_history
from appliance.serving.types import ChatMessage, ProfileName, ToolCall
from tests.appliance.serving.samples import ASSISTANT, BOS, EOS, R1_TOKENS, USER, compiled, served
from tests.appliance.serving.test_reasoning import split

TINY = Path(__file__).parents[2] / "fixtures" / "tiny_r1"
TOOL_TOKENS = frozenset(f"<｜tool▁{name}｜>" for name in ("calls▁begin", "calls▁end", "call▁begin", "call▁end", "sep"))
MODEL = served(
    "tiny-r1",
    (TINY / "chat_template.jinja").read_text(encoding="utf-8").removesuffix("\n"),
    R1_TOKENS | TOOL_TOKENS,
    BOS,
    EOS,
)
PROMPTS: list[dict[str, Any]] = json.loads((TINY / "prompts.json").read_text(encoding="utf-8"))["prompts"]


def message(wire: dict[str, Any]) -> ChatMessage:
    calls = tuple(
        ToolCall(id="c", name=call["function"]["name"], arguments=str(call["function"]["arguments"]))
        for call in wire.get("tool_calls") or ()
    )
    return ChatMessage(role=wire["role"], content=wire.get("content") or "", tool_calls=calls or None)


def test_it_is_an_r1() -> None:
    assert MODEL.profile.name is ProfileName.R1


@pytest.mark.parametrize("golden", PROMPTS, ids=[prompt["id"] for prompt in PROMPTS])
def test_golden_prompt(golden: dict[str, Any]) -> None:
    messages = [message(wire) for wire in golden["messages"]]
    prompt = compiled(MODEL).render(prepare_history(MODEL.profile, messages))
    (segment,) = prompt.segments
    assert segment.text.startswith(BOS)
    assert segment.text.count(BOS) == 1
    assert segment.text.count(USER) == sum(one.role == "user" for one in messages)
    assert segment.text.endswith(f"{ASSISTANT}<think>\n")
    assert prompt.opens_reasoning
    assert not prompt.add_bos


WHOLE = [
    prompt
    for prompt in PROMPTS
    if not prompt.get("tool_calls") and not prompt.get("prefill") and prompt.get("content") is not None
]


@pytest.mark.parametrize("golden", WHOLE, ids=[prompt["id"] for prompt in WHOLE])
def test_golden_text_is_split_into_thought_and_answer(golden: dict[str, Any]) -> None:
    expected = (golden["reasoning"], golden["content"])
    assert split([golden["text"]], opened=True) == expected
    assert split(list(golden["text"]), opened=True) == expected
