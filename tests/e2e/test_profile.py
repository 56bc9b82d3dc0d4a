"""The R1 contract through the real daemon: the tiny R1 as an R1 and, under another name, as an R1-0528."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.box import TINY_R1, Box, Golden, Home, goldens, start_box, stream

KNOWN = goldens("capital", "fact", "json")
TURNS = goldens("three_turns")
SYSTEM = goldens("system")
HISTORY: list[dict[str, Any]] = next(golden.messages for golden in TURNS)


@pytest.fixture(scope="module")
def clamped(prepared: tuple[Home, str, str]) -> Iterator[Box]:
    """A box as it is by default: the sampling stays in R1's band."""
    home, _, key = prepared
    running = start_box(home, "--seats", "4", "--context", "512", key=key, policy="clamp")
    yield running
    assert running.stop() == 0


def changed(box: Box, model: str, **fields: Any) -> str | None:
    body = {"model": model, "messages": HISTORY, "max_tokens": 1, **fields}
    reply = box.post(body)
    assert reply.status_code == 200, reply.text
    header: str | None = reply.headers.get("x-r1box-changed")
    return header


async def test_goldens_hold_under_0528_also_with_a_system_prompt(home: Home) -> None:
    """The tiny model was taught with a system prompt before the first turn, which only this profile leaves there."""
    model = json.loads(home.run("models", "import", str(TINY_R1), "--name", "Tiny-R1-0528", "--json").stdout)["id"]
    box = start_box(home, "--seats", "4", "--context", "1024", key=home.create_key("tests"))
    try:
        async with box.client() as client:
            answers = [await stream(client, model, golden.messages) for golden in SYSTEM + TURNS[:4]]
        wrong = {
            golden.id: answer
            for golden, answer in zip(SYSTEM + TURNS[:4], answers, strict=True)
            if (answer.reasoning, answer.content) != (golden.reasoning, golden.content)
        }
        assert wrong == {}
        assert changed(box, model, messages=SYSTEM[0].messages) is None
    finally:
        assert box.stop() == 0


def test_an_r1_gets_its_system_prompt_in_the_users_turn(box: Box, model: str) -> None:
    assert changed(box, model, messages=SYSTEM[0].messages) == "system=folded"
    with_prompt = {"model": model, "messages": SYSTEM[0].messages, "max_tokens": 1}
    system, question = (message["content"] for message in SYSTEM[0].messages)
    by_hand = f"[instructions begin]\n{system}\n[instructions end]\n\n{question}"
    without = {**with_prompt, "messages": [{"role": "user", "content": by_hand}]}
    counts = [box.post(body).json()["usage"]["prompt_tokens"] for body in (with_prompt, without)]
    assert counts[0] == counts[1]


async def test_sampling_is_clamped_by_default_and_says_so(clamped: Box, model: str) -> None:
    assert changed(clamped, model, temperature=0) == "temperature=0->0.5"
    assert changed(clamped, model, temperature=1.5) == "temperature=1.5->0.7"
    assert changed(clamped, model, temperature=0.6) is None
    question = [{"role": "user", "content": "Tell me something you were never told."}]
    async with clamped.client() as client:
        hot, warm = [
            await stream(client, model, question, temperature=temperature, seed=5, max_tokens=40)
            for temperature in (2.0, 0.7)
        ]
    assert (hot.reasoning, hot.content) == (warm.reasoning, warm.content)


def test_where_clients_are_free_nothing_is_clamped(box: Box, model: str) -> None:
    assert changed(box, model, temperature=0) is None


async def test_every_reasoning_format_brings_the_golden(box: Box, model: str) -> None:
    async def ask(golden: Golden, name: str) -> tuple[str, str, str, str]:
        chunks = await client.chat.completions.create(
            model=model,
            messages=golden.messages,  # type: ignore[arg-type]
            temperature=0,
            stream=True,
            extra_body={"reasoning_format": name},
        )
        told = {"content": "", "reasoning_content": "", "reasoning": ""}
        async for chunk in chunks:
            delta = chunk.choices[0].delta
            for field in told:
                told[field] += getattr(delta, field, None) or ""
        whole = await client.chat.completions.create(
            model=model,
            messages=golden.messages,  # type: ignore[arg-type]
            temperature=0,
            extra_headers={"X-R1Box-Reasoning": name},
        )
        assert whole.choices[0].message.content == told["content"]
        return name, told["content"], told["reasoning_content"], told["reasoning"]

    def expected(golden: Golden, name: str) -> tuple[str, str, str, str]:
        thought, answer = golden.reasoning, golden.content
        inline = f"<think>\n{thought}\n</think>\n\n{answer}" if thought else answer
        return (
            name,
            inline if name == "inline" else answer,
            thought if name in ("reasoning_content", "both") else "",
            thought if name in ("reasoning", "both") else "",
        )

    cases = [
        (golden, name)
        for golden in KNOWN[:3] + [golden for golden in KNOWN if not golden.reasoning][:1]
        for name in ("reasoning_content", "reasoning", "both", "inline", "hidden")
    ]
    async with box.client() as client:
        answers = await asyncio.gather(*(ask(*case) for case in cases))
    assert answers == [expected(*case) for case in cases]


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "both", "inline"])
async def test_what_the_box_sent_can_be_sent_back(box: Box, model: str, name: str) -> None:
    """A second turn with the first answer as it came, thought and all, is the golden of the conversation without."""
    golden = TURNS[0]
    async with box.client() as client:
        first = await client.chat.completions.create(
            model=model,
            messages=golden.messages[:1],  # type: ignore[arg-type]
            temperature=0,
            extra_body={"reasoning_format": name},
        )
        sent_back = first.choices[0].message.to_dict()
        assert golden.messages[1]["content"].strip() in str(sent_back["content"])
        messages = [golden.messages[0], sent_back, *golden.messages[2:]]
        answer = await stream(client, model, messages)
        plain = await stream(client, model, golden.messages)
    assert (answer.reasoning, answer.content) == (golden.reasoning, golden.content)
    assert answer.usage.prompt_tokens == plain.usage.prompt_tokens


async def test_a_conversation_is_trimmed_by_whole_turns_only_when_asked(
    own_box: Callable[..., Box], model: str
) -> None:
    box = own_box("--seats", "1", "--context", "512")
    golden = KNOWN[0]
    old = [message for known in TURNS[:12] for message in known.messages[:2]]
    body = {"model": model, "messages": old + golden.messages, "max_tokens": 200, "temperature": 0}
    refused = box.post(body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert "trim='turns'" in refused.json()["error"]["message"]
    answered = box.post({**body, "trim": "turns"})
    assert answered.status_code == 200, answered.text
    answer = answered.json()
    message, usage = answer["choices"][0]["message"], answer["usage"]
    assert (message["reasoning_content"], message["content"]) == (golden.reasoning, golden.content)
    trimmed = usage["trimmed"]
    assert answered.headers["x-r1box-trimmed"] == f"turns={trimmed['turns']} tokens={trimmed['tokens']}"
    assert 0 < trimmed["turns"] < 12
    assert usage["prompt_tokens"] <= 512 - 200
    by_hand = {**body, "messages": old[2 * trimmed["turns"] :] + golden.messages}
    assert box.post(by_hand).json()["usage"]["prompt_tokens"] == usage["prompt_tokens"]
    one_more = {**body, "messages": old[2 * (trimmed["turns"] - 1) :] + golden.messages}
    assert box.post(one_more).status_code == 400
