"""Trimming by whole turns: only when asked, as few as it takes, and declared."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import ContextLengthExceeded
from appliance.serving.prompt import AT_ONCE_CHARS, CountedPrompt, PromptMaker, _fewest_turns
from appliance.serving.types import ChatMessage, Trimmed
from tests.appliance.serving.box import Box
from tests.appliance.serving.samples import ASSISTANT, BOS, EOS, R1, R1_0528, USER, assistant, system, user
from tests.fakes.engine import FAKE_INFO

SEAT = FAKE_INFO.context_tokens
COUNTING = replace(FAKE_INFO, longest_token_bytes=64)
"""As with a real vocabulary most tokens are shorter than the longest, so what is too long is counted to know it."""


def talk(turns: int, *, chars: int = 200, last: str = "last") -> list[ChatMessage]:
    """``turns`` numbered turns before the last question."""
    said = [
        part for number in range(turns) for part in (user(f"q{number:03}" + "x" * chars), assistant(f"a{number:03}"))
    ]
    return [*said, user(last)]


async def tokens_of(box: Box, *messages: ChatMessage, model: str = R1.id) -> int:
    async with await box.open(*messages, model=model, max_tokens=1) as stream:
        return stream.prompt_tokens


async def test_usual_prompts_are_made_at_once_and_large_ones_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[bool] = []
    box = Box(info=replace(FAKE_INFO, context_tokens=1_000_000))
    make = PromptMaker._prompt

    def noted(self: PromptMaker, work: Any, *, at_once: bool = False) -> Any:
        made.append(threading.current_thread() is threading.main_thread())
        return make(self, work, at_once=at_once)

    monkeypatch.setattr(PromptMaker, "_prompt", noted)
    # The first prompt compiles the template, which nobody waits for in the event loop.
    for text in ("Hi", "Hi", "x" * AT_ONCE_CHARS, "Hi"):
        await box.answer(user(text))
    assert made == [False, True, False, True]
    assert len({box.engine.prompts[0], box.engine.prompts[1], box.engine.prompts[3]}) == 1


async def test_a_slow_template_is_left_to_threads_from_its_first_slow_prompt_on() -> None:
    slow = "{% for a in range(200) %}{% for b in range(200) %}{% endfor %}{% endfor %}{{ messages[-1].content }}"
    box = Box()
    box.models["slow"] = replace(R1, id="slow", chat_template=slow)
    threads: list[bool] = []
    make = box.chat._prompts._prompt

    def noted(work: Any, *, at_once: bool = False) -> Any:
        threads.append(not at_once)
        return make(work, at_once=at_once)

    box.chat._prompts._prompt = noted  # type: ignore[method-assign]
    for _ in range(3):
        async with await box.open(user("Hi"), model="slow"):
            pass
    # In a thread because it is new; at once and given up; in threads.
    assert threads == [True, False, True, True]


async def test_what_fits_is_not_trimmed() -> None:
    box = Box()
    async with await box.open(*talk(2), trim_turns=True, max_tokens=50) as stream:
        assert stream.trimmed is None
        assert box.prompts_counted == 1


async def test_without_being_asked_nothing_is_cut_and_the_refusal_says_what_helps() -> None:
    box = Box()
    with pytest.raises(ContextLengthExceeded, match=r"tokens or set trim='turns'\.$"):
        await box.open(*talk(20))
    with pytest.raises(ContextLengthExceeded, match=r"by [\d,]+ tokens\.$"):
        await box.open(user("x" * 10_000))


@pytest.mark.parametrize("model", [R1, R1_0528])
async def test_the_oldest_turns_go_and_the_system_prompt_and_the_last_question_stay(model: object) -> None:
    served = R1 if model is R1 else R1_0528
    box = Box(info=COUNTING)
    box.models[served.id] = served
    messages = [system("Be brief."), *talk(9)]
    async with await box.open(*messages, model=served.id, trim_turns=True, max_tokens=40) as stream:
        trimmed = stream.trimmed
        events = [event async for event in stream]
    assert trimmed is not None
    assert events[-1].usage.trimmed == trimmed  # type: ignore[union-attr]
    (prompt,) = box.engine.prompts
    kept = [number for number in range(9) if f"q{number:03}" in prompt]
    assert kept == list(range(trimmed.turns, 9))
    assert [number for number in range(9) if f"a{number:03}" in prompt] == kept
    assert prompt.count("Be brief.") == prompt.count("last") == 1
    # The counts are exact, and one turn fewer would not have fitted.
    large = replace(COUNTING, context_tokens=SEAT * 4)
    whole = await tokens_of(Box(info=large), *messages, model=served.id)
    assert not trimmed.tokens_is_minimum
    assert trimmed.tokens == whole - stream.prompt_tokens
    one_more = [messages[0], *messages[1 + 2 * (trimmed.turns - 1) :]]
    assert stream.prompt_tokens + 40 <= SEAT < await tokens_of(Box(info=large), *one_more, model=served.id) + 40


async def test_without_max_tokens_a_quarter_of_the_seat_stays_free() -> None:
    box = Box()
    async with await box.open(*talk(7), trim_turns=True) as stream:
        assert stream.trimmed is not None
        assert stream.prompt_tokens <= SEAT - SEAT // 4
        assert stream.max_tokens == SEAT - stream.prompt_tokens


async def test_where_that_cannot_be_had_less_room_does() -> None:
    box = Box()
    last = "x" * (SEAT * 4 - 200)
    async with await box.open(*talk(1, last=last), trim_turns=True) as stream:
        assert stream.trimmed is not None
        assert stream.trimmed.turns == 1
        assert 0 < stream.max_tokens < SEAT // 4
    async with await box.open(user(last), trim_turns=True) as stream:
        assert stream.trimmed is None


async def test_what_still_does_not_fit_is_refused_with_the_numbers_of_what_is_left() -> None:
    box = Box()
    with pytest.raises(ContextLengthExceeded, match="even without its 3 oldest turns and 300 are reserved") as caught:
        await box.open(*talk(3, last="x" * 1200), trim_turns=True, max_tokens=300)
    left = await tokens_of(Box(), user("x" * 1200))
    assert caught.value.details["prompt_tokens"] == left
    assert "trim" not in caught.value.message
    with pytest.raises(ContextLengthExceeded) as caught:
        await box.open(user("x" * 10_000), trim_turns=True)
    assert "without" not in caught.value.message
    assert box.admission.stats().entered == 0


async def test_a_conversation_too_long_to_be_counted_is_trimmed_too_and_says_at_least() -> None:
    box = Box()
    messages = talk(2000, chars=2000)
    async with await box.open(*messages, trim_turns=True, max_tokens=20) as stream:
        assert stream.trimmed == Trimmed(2000, stream.trimmed.tokens if stream.trimmed else 0, tokens_is_minimum=True)
        assert stream.trimmed is not None
        assert stream.trimmed.tokens > 2000 * 2000 // 4
        assert [event async for event in stream]
    assert box.engine.prompts == [f"{BOS}{USER}last{ASSISTANT}<think>\n"]
    assert box.prompts_counted <= 2, "what surely does not fit is not given to the tokenizer"


async def test_a_tool_chain_goes_with_its_turn() -> None:
    box = Box()
    chain = [
        user("q" + "x" * 1600),
        assistant("calling"),
        ChatMessage(role="tool", content="result", tool_call_id="c"),
        assistant("answer"),
    ]
    async with await box.open(*chain, *talk(1, chars=1), trim_turns=True, max_tokens=100) as stream:
        assert stream.trimmed is not None
        assert stream.trimmed.turns == 1
        assert [event async for event in stream]
    assert box.engine.prompts == [f"{BOS}{USER}q000x{ASSISTANT}a000{EOS}{USER}last{ASSISTANT}<think>\n"]


@given(most=st.integers(1, 40), fits_from=st.integers(1, 60), refused_to=st.integers(0, 40))
async def test_as_few_turns_as_it_takes(most: int, fits_from: int, refused_to: int) -> None:
    """Turns up to ``refused_to`` do not fit at all, from ``fits_from`` on they leave enough room."""
    tried: list[int] = []

    async def count(turns: int) -> CountedPrompt:
        tried.append(turns)
        if turns <= min(refused_to, fits_from - 1):
            raise ContextLengthExceeded(prompt_tokens=200, reserved_tokens=1, context_tokens=100)
        return CountedPrompt(tokens=(0,) * (50 if turns >= fits_from else 80), max_tokens=1, opens_reasoning=True)

    if most <= min(refused_to, fits_from - 1):
        with pytest.raises(ContextLengthExceeded):
            await _fewest_turns(count, most, 60)
    else:
        turns, prompt = await _fewest_turns(count, most, 60)
        assert turns == min(fits_from, most)
        assert len(prompt.tokens) == (50 if most >= fits_from else 80)
    assert len(tried) <= 7
