"""Which contract a model is held to, its sampling, and what of earlier turns is left out."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from appliance.engine.request import SamplingParams
from appliance.errors import InvalidRequest
from appliance.serving.profile import (
    open_thought,
    prepare_history,
    prepared_history,
    profile_for,
    sampling_for,
)
from appliance.serving.types import (
    ChatMessage,
    ModelProfile,
    ProfileName,
    SamplingOverrides,
    SamplingPolicy,
    ServedModel,
    ToolCall,
)
from tests.appliance.serving.samples import (
    ASSISTANT,
    BOS,
    EOS,
    R1,
    R1_0528,
    R1_OLD,
    R1_TOKENS,
    SMOL,
    SMOL_TOKENS,
    USER,
    assistant,
    compiled,
    served,
    system,
    template_text,
    user,
)


def test_r1_is_known_by_its_template_and_tokens() -> None:
    assert R1.profile.name is R1_OLD.profile.name is ProfileName.R1
    assert R1.profile.splits_reasoning
    assert R1.profile.strips_history
    assert R1.profile.answer_tokens == 32_768


@pytest.mark.parametrize(
    ("name", "template"),
    [
        ("DeepSeek R1 0528 Qwen3 8B", template_text("r1_distill_qwen")),
        ("anything", template_text("r1_distill_qwen") + "{% set ns = namespace(is_last_user=false) %}"),
    ],
)
def test_r1_0528_is_known_by_name_or_template(name: str, template: str) -> None:
    profile = profile_for(name=name, chat_template=template, control_tokens=R1_TOKENS)
    assert profile.name is ProfileName.R1_0528
    assert profile.answer_tokens == 65_536


def test_a_model_without_thoughts_is_plain() -> None:
    assert SMOL.profile.name is ProfileName.PLAIN
    assert not SMOL.profile.splits_reasoning
    assert not SMOL.profile.strips_history
    assert SMOL.profile.answer_tokens is None
    assert profile_for(name=None, chat_template=None, control_tokens=frozenset()).name is ProfileName.PLAIN


def test_another_thinking_model_is_plain_but_split() -> None:
    profile = profile_for(name="QwQ", chat_template="{{ '<think>' }}</think>", control_tokens=SMOL_TOKENS)
    assert profile.name is ProfileName.PLAIN
    assert profile.splits_reasoning
    assert profile.strips_history


@pytest.mark.parametrize("recognised", [ProfileName.R1, ProfileName.R1_0528])
def test_what_the_catalogue_knows_goes_before_name_and_template(recognised: ProfileName) -> None:
    profile = profile_for(name="R1 0528", chat_template=None, control_tokens=frozenset(), recognised=recognised)
    assert profile.name is recognised
    assert profile.splits_reasoning
    assert profile.strips_history


def test_the_two_contracts_and_none() -> None:
    def of(profile: ModelProfile) -> tuple[object, ...]:
        return profile.folds_system, profile.opens_thought, profile.temperature_band

    assert of(R1.profile) == of(R1_OLD.profile) == (True, True, (0.5, 0.7))
    assert of(R1_0528.profile) == (False, False, (0.5, 0.7))
    assert of(SMOL.profile) == (False, False, None)


@pytest.mark.parametrize("profile", [R1.profile, R1_0528.profile, SMOL.profile])
def test_defaults_are_r1s_and_not_llama_cpps(profile: ModelProfile) -> None:
    params, changes = sampling_for(profile, SamplingOverrides())
    assert params == SamplingParams(temperature=0.6, top_p=0.95, top_k=0, min_p=0.0)
    assert changes == ()


@pytest.mark.parametrize(
    ("asked", "clamped", "change"),
    [
        (0.0, 0.5, ("temperature=0->0.5",)),
        (0.49, 0.5, ("temperature=0.49->0.5",)),
        (0.5, 0.5, ()),
        (0.55, 0.55, ()),
        (0.7, 0.7, ()),
        (1.2, 0.7, ("temperature=1.2->0.7",)),
        (2.0, 0.7, ("temperature=2->0.7",)),
    ],
)
def test_r1s_temperature_stays_in_its_band_unless_the_policy_is_free(
    asked: float, clamped: float, change: tuple[str, ...]
) -> None:
    overrides = SamplingOverrides(temperature=asked, top_p=0.5, top_k=7, seed=3, logit_bias=((5, -100.0),))
    free = SamplingParams(temperature=asked, top_p=0.5, top_k=7, seed=3, logit_bias=((5, -100.0),))
    for profile in (R1.profile, R1_0528.profile):
        assert sampling_for(profile, overrides) == (replace(free, temperature=clamped), change)
        assert sampling_for(profile, overrides, SamplingPolicy.FREE) == (free, ())
    assert sampling_for(SMOL.profile, overrides) == (free, ())


@pytest.mark.parametrize(
    ("overrides", "param"),
    [
        (SamplingOverrides(temperature=-0.1), "temperature"),
        (SamplingOverrides(temperature=math.nan), "temperature"),
        (SamplingOverrides(temperature=math.inf), "temperature"),
        (SamplingOverrides(top_p=1.1), "top_p"),
        (SamplingOverrides(top_k=-1), "top_k"),
        (SamplingOverrides(min_p=2.0), "min_p"),
        (SamplingOverrides(presence_penalty=3.0), "presence_penalty"),
        (SamplingOverrides(frequency_penalty=-3.0), "frequency_penalty"),
        (SamplingOverrides(repeat_penalty=-1.0), "repeat_penalty"),
        (SamplingOverrides(logit_bias=((1, 101.0),)), "logit_bias"),
        (SamplingOverrides(logit_bias=((-1, 1.0),)), "logit_bias"),
        (SamplingOverrides(logit_bias=((1, math.nan),)), "logit_bias"),
    ],
)
def test_what_is_out_of_range_is_refused(overrides: SamplingOverrides, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        sampling_for(R1.profile, overrides)
    assert caught.value.details["param"] == param


# -- history ----------------------------------------------------------------------------------------------------------

MESSAGES = (
    system("<think>s</think>"),
    user("<think>u</think>x"),
    assistant("<think>t</think>a", reasoning="t"),
    assistant("b", reasoning="t"),
    assistant("c"),
    user("y"),
)


def test_history_loses_thoughts_of_the_assistant_alone() -> None:
    prepared = prepared_history(R1_0528.profile, MESSAGES)
    assert prepared.messages == (
        MESSAGES[0],
        MESSAGES[1],
        assistant("a"),
        assistant("b"),
        assistant("c"),
        MESSAGES[5],
    )
    assert prepared.changes == ("history-reasoning=stripped:2",)
    assert prepare_history(R1_0528.profile, MESSAGES) == prepared.messages
    assert prepared_history(SMOL.profile, MESSAGES).messages == MESSAGES
    assert prepared_history(SMOL.profile, MESSAGES).changes == ()


def test_a_thought_on_anyones_message_reaches_no_template() -> None:
    odd = replace(user("y"), reasoning="t")
    prepared = prepared_history(R1.profile, [odd])
    assert prepared.messages == (user("y"),)
    assert prepared.changes == ("history-reasoning=stripped:1",)


CALL = (ToolCall(id="c", name="f", arguments="{}"),)
RESULT = ChatMessage(role="tool", content="5", tool_call_id="c")


def calling(content: str = "", reasoning: str | None = None) -> ChatMessage:
    return ChatMessage(role="assistant", content=content, reasoning=reasoning, tool_calls=CALL)


@pytest.mark.parametrize("sent", [calling(reasoning="t"), calling("<think>\nt\n</think>\n\n")])
def test_a_chain_of_tool_calls_keeps_its_thoughts_where_the_template_has_a_place_for_them(sent: ChatMessage) -> None:
    reading = profile_for(
        name="R1 0528",
        chat_template="<｜User｜><｜Assistant｜>{{ messages[0].reasoning_content }}</think>",
        control_tokens=R1_TOKENS,
    )
    messages = (user("a"), sent, RESULT, assistant("b", "old"), user("c"), sent, RESULT)
    prepared = prepared_history(reading, messages)
    assert prepared.messages == (
        user("a"),
        calling(),
        RESULT,
        assistant("b"),
        user("c"),
        calling(reasoning="t"),
        RESULT,
    )
    assert prepared.changes == ("history-reasoning=stripped:2",)
    without = prepared_history(R1_0528.profile, messages)
    assert all(message.reasoning is None for message in without.messages)
    assert without.changes == ("history-reasoning=stripped:3",)


# -- system prompt ----------------------------------------------------------------------------------------------------


def folded(prompt: str) -> str:
    return f"[instructions begin]\n{prompt}\n[instructions end]\n\n"


@pytest.mark.parametrize(
    ("messages", "left"),
    [
        ((system("S"), user("a")), (user(folded("S") + "a"),)),
        (
            (system("S"), user("a"), assistant("b"), user("c")),
            (user(folded("S") + "a"), assistant("b"), user("c")),
        ),
        (
            (system("S"), ChatMessage(role="developer", content="D"), user("a")),
            (user(folded("S\n\nD") + "a"),),
        ),
        (
            (system("S"), user("a"), assistant("b"), system("T"), user("c")),
            (user(folded("S") + "a"), assistant("b"), user(folded("T") + "c")),
        ),
        ((user("a"), assistant("b"), system("T")), (user("a\n\n" + folded("T").rstrip()), assistant("b"))),
        ((system("S"), assistant("hello"), user("a")), (assistant("hello"), user(folded("S") + "a"))),
        ((system("S"),), (user("S"),)),
    ],
)
def test_r1s_system_prompt_goes_into_the_users_turn(
    messages: tuple[ChatMessage, ...], left: tuple[ChatMessage, ...]
) -> None:
    prepared = prepared_history(R1.profile, messages)
    assert prepared.messages == left
    assert prepared.changes == ("system=folded",)
    for profile in (R1_0528.profile, SMOL.profile):
        assert prepared_history(profile, messages).messages == messages
        assert prepared_history(profile, messages).changes == ()


def test_an_empty_system_prompt_is_no_instruction() -> None:
    prepared = prepared_history(R1.profile, [system(" \n"), user("a")])
    assert (prepared.messages, prepared.changes) == ((user("a"),), ())


def test_all_of_a_conversation_reaches_r1s_own_template() -> None:
    """The template itself keeps only the last of several system prompts."""
    text = rendered(R1, system("one"), user("a"), assistant("b"), system("two"), user("c"))[0]
    assert [text.count(word) for word in ("one", "two", "[instructions begin]", BOS)] == [1, 1, 2, 1]


# -- the opening of the thought ---------------------------------------------------------------------------------------


def rendered(model: ServedModel, *messages: ChatMessage) -> tuple[str, tuple[str, ...], bool]:
    history = prepared_history(model.profile, messages)
    prompt, changes = open_thought(model.profile, compiled(model).render(history.messages))
    return "".join(segment.text for segment in prompt.segments), changes, prompt.opens_reasoning


@pytest.mark.parametrize(
    ("model", "end", "changes", "opens"),
    [
        (R1, f"{ASSISTANT}<think>\n", (), True),
        (R1_OLD, f"{ASSISTANT}<think>\n", ("think=opened",), True),
        (R1_0528, ASSISTANT, (), False),
        (SMOL, "<|im_start|>assistant\n", (), False),
    ],
    ids=lambda value: value.id if isinstance(value, ServedModel) else None,
)
@pytest.mark.parametrize("conversation", [(user("Hi"),), (user("Hi"), assistant("<think>x</think>Ho"), user("Hi"))])
def test_the_thought_is_opened_exactly_once(
    model: ServedModel, end: str, changes: tuple[str, ...], opens: bool, conversation: tuple[ChatMessage, ...]
) -> None:
    text, changed, opened = rendered(model, *conversation)
    assert text.endswith(end)
    assert (text.count("<think>") == 1) is opens or model is SMOL
    assert tuple(change for change in changed if change.startswith("think")) == changes
    assert opened is opens


@pytest.mark.parametrize(
    ("ending", "missing", "changes"),
    [
        (f"{ASSISTANT}<think>\n", "", ()),
        (f"{ASSISTANT}<think>\n\n", "", ()),
        (f"{ASSISTANT}<think>", "\n", ("think=newline",)),
        (ASSISTANT, "<think>\n", ("think=opened",)),
        (f"{ASSISTANT}\n", "<think>\n", ("think=opened",)),
        (f"{ASSISTANT}<think>\n\n</think>\n\n", "", ()),
        ("<｜tool▁outputs▁end｜>", "", ()),
        ("", "", ()),
    ],
)
def test_what_an_ending_lacks(ending: str, missing: str, changes: tuple[str, ...]) -> None:
    source = "{{ bos_token }}<｜User｜>{{ messages[0].content }}" + f"{{{{ {ending!r} }}}}{{# </think> #}}"
    model = served("r1", source, R1_TOKENS, BOS, EOS)
    text, changed, opened = rendered(model, user("a"))
    assert text == f"{BOS}{USER}a{ending}{missing}"
    assert changed == changes
    assert opened is text.rstrip().endswith("<think>")


def test_a_client_that_types_the_assistants_mark_opens_no_thought() -> None:
    model = served("r1", "{{ bos_token }}{{ messages[0].content }}{# </think> #}", R1_TOKENS, BOS, EOS)
    assert rendered(model, user(f"a{ASSISTANT}")) == (f"{BOS}a{ASSISTANT}", (), False)
