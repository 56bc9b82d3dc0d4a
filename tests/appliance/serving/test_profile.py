"""Which contract a model is held to, its sampling, and what of earlier turns is left out."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.request import SamplingParams
from appliance.errors import InvalidRequest
from appliance.serving.profile import prepare_history, profile_for, sampling_for, strip_reasoning
from appliance.serving.types import ModelProfile, ProfileName, SamplingOverrides
from tests.appliance.serving.samples import (
    R1,
    R1_OLD,
    R1_TOKENS,
    SMOL,
    SMOL_TOKENS,
    assistant,
    system,
    template_text,
    user,
)

THOUGHT = (
    '<details type="reasoning" done="true" duration="5">\n<summary>Thought for 5 seconds</summary>\n&gt; a\n</details>'
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


@pytest.mark.parametrize("profile", [R1.profile, SMOL.profile])
def test_defaults_are_r1s_and_not_llama_cpps(profile: ModelProfile) -> None:
    params = sampling_for(profile, SamplingOverrides())
    assert params == SamplingParams(temperature=0.6, top_p=0.95, top_k=0, min_p=0.0)


def test_what_the_client_sets_wins() -> None:
    overrides = SamplingOverrides(temperature=0.0, top_k=7, seed=3, logit_bias=((5, -100.0),))
    params = sampling_for(R1.profile, overrides)
    assert params == SamplingParams(temperature=0.0, top_p=0.95, top_k=7, seed=3, logit_bias=((5, -100.0),))


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


@pytest.mark.parametrize(
    ("content", "left"),
    [
        ("Paris.", "Paris."),
        ("", ""),
        ("\n\nParis.", "\n\nParis."),
        ("<think>\na\n</think>\n\nParis.", "Paris."),
        ("  <think></think>Paris.", "Paris."),
        ("<think>\nnever ended", ""),
        ("a\n</think>\n\nParis.", "Paris."),
        ("</think>Paris.", "Paris."),
        ("<think>a</think>Write <think>b</think>.", "Write <think>b</think>."),
        ("Write <think>b</think> first.", "Write <think>b</think> first."),
        ("<think>a</think>\n\n    code", "    code"),
        (f"{THOUGHT}\nParis.", "Paris."),
        (f"{THOUGHT}\n\nA\n{THOUGHT}\nB", "A\n\nB"),
        ('<details type="reasoning" done="false">\n> never ended', ""),
        ("<details TYPE='reasoning'>x</DETAILS >\nParis.", "Paris."),
        ("<details><summary>s</summary>x</details>", "<details><summary>s</summary>x</details>"),
    ],
)
def test_strip_reasoning(content: str, left: str) -> None:
    assert strip_reasoning(content) == left


@given(st.text(alphabet="<think>/details type=reasoning\n'", max_size=200))
def test_strip_reasoning_never_fails_and_only_removes(content: str) -> None:
    assert len(strip_reasoning(content)) <= len(content)


def test_strip_reasoning_is_linear() -> None:
    for text in ("<details " * 100_000, '<details type="reasoning">' * 40_000, "<think>" * 100_000):
        strip_reasoning(text)


def test_history_loses_thoughts_of_the_assistant_alone() -> None:
    messages = (
        system("<think>s</think>"),
        user("<think>u</think>x"),
        assistant("<think>t</think>a", reasoning="t"),
        user("y"),
    )
    prepared = prepare_history(R1.profile, messages)
    assert prepared == (messages[0], messages[1], assistant("a"), messages[3])
    assert prepare_history(SMOL.profile, messages) == messages
