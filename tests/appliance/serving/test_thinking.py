"""Thinking under control, from what a client asks for to what the engine is told and what the client hears."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.base import Feature
from appliance.engine.request import FinishReason, ThinkingControl, ThinkingEnd
from appliance.errors import InvalidRequest
from appliance.serving.errors import EngineCannot, RequestNotFound
from appliance.serving.thinking import (
    ANSWER_TOKENS,
    EFFORT_BUDGETS,
    LANDINGS,
    NOT_A_THINKER,
    SMALLEST_SPLIT_TOKENS,
    STAYS_ON,
    ThinkingDefaults,
    budget_within,
    close_thought,
    language_of,
    plan_thinking,
)
from appliance.serving.thought_counts import UNFINISHED
from appliance.serving.types import ChatRequest, Effort, ProfileName, RequestState, ServedModel, ThinkingOptions
from tests.appliance.serving.box import R1_REPLY, Box, content, ending, read, thought, turns
from tests.appliance.serving.samples import (
    ASSISTANT,
    BOS,
    R1,
    R1_0528,
    R1_OLD,
    SMOL,
    USER,
    assistant,
    compiled,
    served,
    system,
    user,
)
from tests.fakes.engine import FAKE_INFO, text_of, tokens_of

SWITCHED = "{% for m in messages %}<u>{{ m.content }}{% endfor %}<a>{% if enable_thinking %}<think>\n{% endif %}"
LONG = tuple(f"w{number} " for number in range(50))
THINKS = (*LONG, "</think>", "\n\n", "Paris", ".")


def options(**fields: object) -> ThinkingOptions:
    return ThinkingOptions(**fields)  # type: ignore[arg-type]


# -- what is decided --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "budget", "changes"),
    [
        (options(), None, ()),
        (options(effort=Effort.HIGH), None, ()),
        (options(effort=Effort.MEDIUM), 8_192, ("effort=medium:8192",)),
        (options(effort=Effort.LOW), 2_048, ("effort=low:2048",)),
        (options(effort=Effort.MINIMAL), 512, ("effort=minimal:512",)),
        (options(budget_tokens=300), 300, ()),
        (options(budget_tokens=300, effort=Effort.LOW), 300, ()),
        (options(enabled=True), None, ()),
    ],
)
def test_efforts_are_budgets(asked: ThinkingOptions, budget: int | None, changes: tuple[str, ...]) -> None:
    plan = plan_thinking(R1.profile, asked, ThinkingDefaults())
    assert (plan.budget_tokens, plan.changes) == (budget, changes)


def test_efforts_grow_on_every_profile() -> None:
    for name in ProfileName:
        budgets = [EFFORT_BUDGETS[name][effort] or 10**9 for effort in Effort]
        assert budgets == sorted(set(budgets))
    medium = options(effort=Effort.MEDIUM)
    assert plan_thinking(R1_0528.profile, medium, ThinkingDefaults()).budget_tokens == 16_384


def test_the_operator_sets_the_default_and_the_most() -> None:
    defaults = ThinkingDefaults(effort=Effort.LOW, most_tokens=1_000, breaks_loops=False)
    plan = plan_thinking(R1.profile, options(), defaults)
    assert (plan.budget_tokens, plan.breaks_loops) == (1_000, False)
    plan = plan_thinking(R1.profile, options(budget_tokens=5_000), defaults)
    assert (plan.budget_tokens, plan.changes) == (1_000, ("thinking-budget=5000->1000",))
    plan = plan_thinking(R1.profile, options(effort=Effort.HIGH), defaults)
    assert (plan.budget_tokens, plan.changes) == (1_000, ())
    plan = plan_thinking(R1.profile, options(budget_tokens=700), defaults)
    assert (plan.budget_tokens, plan.changes) == (700, ())


@pytest.mark.parametrize(
    "asked", [options(enabled=False), options(budget_tokens=0), options(enabled=False, budget_tokens=0)]
)
def test_no_thinking_has_two_names(asked: ThinkingOptions) -> None:
    plan = plan_thinking(R1.profile, asked, ThinkingDefaults())
    assert (plan.enabled, plan.budget_tokens) == (False, 0)


@pytest.mark.parametrize(
    "asked",
    [
        options(enabled=False, budget_tokens=5),
        options(enabled=False, effort=Effort.LOW),
        options(enabled=True, budget_tokens=0),
        options(budget_tokens=-1),
        options(answer_tokens=0),
    ],
)
def test_what_contradicts_itself_is_refused(asked: ThinkingOptions) -> None:
    with pytest.raises(InvalidRequest):
        plan_thinking(R1.profile, asked, ThinkingDefaults())


def test_a_model_that_does_not_think_says_so_when_asked_to() -> None:
    assert plan_thinking(SMOL.profile, options(effort=Effort.LOW), ThinkingDefaults()).changes == (NOT_A_THINKER,)
    assert plan_thinking(SMOL.profile, options(enabled=False), ThinkingDefaults()).changes == ()


@given(
    budget=st.none() | st.integers(0, 40_000),
    max_tokens=st.integers(1, 40_000),
    landing=st.integers(1, 30),
    answer=st.none() | st.integers(1, 5_000),
)
def test_of_max_tokens_something_is_left_for_the_answer(
    budget: int | None, max_tokens: int, landing: int, answer: int | None
) -> None:
    found = budget_within(budget, max_tokens=max_tokens, landing_tokens=landing, answer_tokens=answer)
    if max_tokens < SMALLEST_SPLIT_TOKENS:
        assert found == budget
        return
    assert found is not None
    assert found <= (max_tokens if budget is None else budget)
    left = max_tokens - landing - found
    assert left >= min(answer or ANSWER_TOKENS, max_tokens // 4)


@pytest.mark.parametrize(
    ("said", "language"),
    [
        ("What is the capital of France?", "en"),
        ("法国的首都是哪里？", "zh"),
        ("请解释一下 Python 的 GIL 是什么。", "zh"),
        ("Translate 你好 into English, please, and explain the word.", "en"),
        ("フランスの首都は何ですか。", "en"),
        ("1 + 1", "en"),
        ("", "en"),
    ],
)
def test_the_landing_speaks_the_users_language(said: str, language: str) -> None:
    assert language_of([user("你好"), assistant("Hello"), user(said), assistant("...")]) == language


# -- thinking switched off --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [R1, R1_OLD, R1_0528])
async def test_an_r1_that_is_not_to_think_finds_an_empty_thought(model: ServedModel) -> None:
    box = Box(("Paris", "."))
    events = await box.answer(model=model.id, thinking=options(enabled=False))
    assert box.engine.prompts == [f"{BOS}{USER}Hi{ASSISTANT}<think>\n\n</think>\n\n"]
    assert (thought(events), content(events)) == ("", "Paris.")
    (request,) = box.engine.requests
    assert request.thinking is not None
    assert (request.thinking.opened, request.thinking.budget_tokens) == (False, 0)


async def test_a_template_that_can_switch_it_does_it_itself() -> None:
    box = Box(("Paris",))
    box.models["plain"] = served("plain", SWITCHED, frozenset(("<think>", "</think>", "<a>", "<u>")), "", "")
    for enabled, prompt in ((True, "<u>Hi<a><think>\n"), (None, "<u>Hi<a>"), (False, "<u>Hi<a>")):
        async with await box.open(model="plain", thinking=options(enabled=enabled)) as stream:
            assert (STAYS_ON in stream.changes) == (enabled is False)
            await read(stream)
        assert box.engine.prompts[-1] == prompt


def test_what_is_closed_stays_closed_and_what_is_open_is_closed_once() -> None:
    template = compiled(R1)
    prompt, changes = close_thought(R1.profile, template.render([user("Hi")]))
    assert prompt.segments[-1].text.endswith(f"{ASSISTANT}<think>\n\n</think>\n\n")
    assert (prompt.opens_reasoning, changes) == (False, ())
    assert close_thought(R1.profile, prompt) == (prompt, ())
    # What a user wrote is not the template's.
    forged = template.render([user("Hi"), assistant("</think>")], add_generation_prompt=False)
    assert close_thought(R1.profile, forged)[0].segments == forged.segments


# -- what the engine is told ------------------------------------------------------------------------------------------


async def told(box: Box, *messages: object, **fields: object) -> ThinkingControl:
    await box.answer(*messages, **fields)  # type: ignore[arg-type]
    control = box.engine.requests[-1].thinking
    assert control is not None
    return control


async def test_the_engine_gets_tags_landing_and_budget() -> None:
    box = Box()
    control = await told(box, thinking=options(budget_tokens=100, answer_tokens=50))
    assert text_of(control.open_tokens) == "<think>"
    assert text_of(control.close_tokens) == "</think>"
    assert text_of(control.landing_tokens) == LANDINGS["en"]
    assert (control.opened, control.budget_tokens, control.breaks_loops) == (True, 100, True)
    assert box.engine.requests[-1].answer_tokens == 50
    control = await told(box, user("法国的首都是哪里？"))
    assert text_of(control.landing_tokens) == LANDINGS["zh"]
    most = box.engine.requests[-1].max_tokens
    assert control.budget_tokens == most - len(tokens_of(LANDINGS["zh"])) - most // 4
    control = await told(box, max_tokens=SMALLEST_SPLIT_TOKENS - 1)
    assert control.budget_tokens is None
    control = await told(box, model=R1_0528.id)
    assert not control.opened


async def test_tags_are_asked_for_once_per_engine() -> None:
    box = Box()
    await told(box)
    asked = len(box.engine.tokenized)
    await told(box)
    assert len(box.engine.tokenized) == asked + 1


async def test_a_model_that_does_not_think_is_not_watched() -> None:
    box = Box(("yes",))
    await box.answer(model=SMOL.id)
    assert box.engine.requests[-1].thinking is None


async def test_an_engine_that_cannot_is_not_asked_to_in_silence() -> None:
    box = Box(info=replace(FAKE_INFO, features=frozenset(FAKE_INFO.features - {Feature.THINKING})))
    events = await box.answer()
    assert (content(events), box.engine.requests[-1].thinking) == ("Paris.", None)
    for fields in ({"budget_tokens": 5}, {"effort": Effort.LOW}, {"answer_tokens": 5}):
        with pytest.raises(EngineCannot):
            await box.open(thinking=options(**fields))
    # An empty thought is the prompt's matter.
    await box.answer(thinking=options(enabled=False))


# -- what the client hears --------------------------------------------------------------------------------------------


async def test_a_thought_that_lands_goes_over_into_its_answer() -> None:
    box = Box(THINKS)
    events = await box.answer(thinking=options(budget_tokens=10))
    assert thought(events) == "".join(LONG[:10]) + LANDINGS["en"].partition("\n</think>")[0]
    assert content(events) == "Paris."
    last = ending(events)
    assert (last.reason, last.thinking_end, last.reasoning_open) == (FinishReason.STOP, ThinkingEnd.BUDGET, False)
    assert last.usage.thinking_end is ThinkingEnd.BUDGET
    assert last.usage.reasoning_tokens == 10 + len(tokens_of(LANDINGS["en"]))


async def test_asked_in_mid_thought() -> None:
    box = Box(THINKS, hold_after=5)
    stream = await box.open(owner="me")
    reading = asyncio.create_task(read(stream))
    await box.engine.wait_active(1)
    await turns()
    for _ in range(2):
        assert await box.chat.answer_now("r1", owner="me") is RequestState.THINKING
    await box.engine.resume()
    events = await reading
    assert (ending(events).thinking_end, content(events)) == (ThinkingEnd.ASKED, "Paris.")
    with pytest.raises(RequestNotFound):
        await box.chat.answer_now("r1", owner="me")


async def test_asked_while_it_waits_it_is_asked_again_when_it_has_begun() -> None:
    box = Box(THINKS, hold_after=0)
    box.source.info = replace(FAKE_INFO, seats=1)
    first, second = await box.open(), await box.open()
    tasks = [asyncio.create_task(read(stream)) for stream in (first, second)]
    await box.engine.wait_active(1)
    await turns()
    assert await box.chat.answer_now("r2", owner=None) is RequestState.QUEUED
    assert box.engine.asked == []
    await box.engine.resume()
    events = await asyncio.gather(*tasks)
    assert [ending(one).thinking_end for one in events] == [ThinkingEnd.NATURAL, ThinkingEnd.ASKED]


async def test_an_answer_that_has_begun_is_left_alone() -> None:
    box = Box(hold_after=8)
    stream = await box.open()
    reading = asyncio.create_task(read(stream))
    await box.engine.wait_active(1)
    await turns()
    assert await box.chat.answer_now("r1", owner=None) is RequestState.ANSWERING
    await box.engine.resume()
    events = await reading
    assert (ending(events).thinking_end, content(events)) == (ThinkingEnd.NATURAL, "Paris.")


@pytest.mark.parametrize(("request_id", "owner"), [("r1", "another"), ("r1", None), ("nobody", "me")])
async def test_only_the_owner_may_ask(request_id: str, owner: str | None) -> None:
    box = Box(hold_after=1)
    async with await box.open(owner="me"):
        with pytest.raises(RequestNotFound):
            await box.chat.answer_now(request_id, owner=owner)
    assert box.engine.asked == []


async def test_all_choices_of_a_request_are_asked() -> None:
    box = Box(THINKS, hold_after=3)
    request: ChatRequest = box.request(owner="me")
    choices = await box.chat.open_choices(request, 2)
    reading = asyncio.create_task(_ends(choices))
    await box.engine.wait_active(2)
    await turns()
    await box.chat.answer_now(request.request_id, owner="me")
    await box.engine.resume()
    assert await reading == [ThinkingEnd.ASKED, ThinkingEnd.ASKED]


async def _ends(choices: object) -> list[ThinkingEnd | None]:
    ends = []
    async with choices:  # type: ignore[attr-defined]
        async for _, event in choices:  # type: ignore[attr-defined]
            if hasattr(event, "thinking_end"):
                ends.append(event.thinking_end)
    return ends


async def test_what_became_of_thoughts_is_counted_by_model() -> None:
    box = Box(THINKS)
    box.models[R1.id] = replace(R1, quantization="Q4_K_M")
    await box.answer()
    await box.answer(thinking=options(budget_tokens=3))
    await box.answer(max_tokens=5)
    box.engine._reply = R1_REPLY
    await box.answer(model=R1_0528.id, messages=(system("x"), user("Hi")))
    totals = box.chat.thoughts.by_model[R1.id, "Q4_K_M"]
    assert dict(totals.ends) == {"natural": 1, "budget": 1, UNFINISHED: 1}
    assert (totals.landings, totals.loops_broken) == (1, 0)
    assert totals.thinking_tokens == 51 + 3 + len(tokens_of(LANDINGS["en"])) + 5
    assert (R1_0528.id, "") in box.chat.thoughts.by_model
