"""Golden conversations through real and broken templates: what is refused, what is only said."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.serving.template_check import TemplateFindings, check_template
from appliance.serving.types import ServedModel
from tests.appliance.serving.samples import BOS, EOS, R1, R1_OLD, R1_TOKENS, SMOL

TINY_R1 = Path(__file__).parents[2] / "fixtures" / "tiny_r1" / "chat_template.jinja"
TURNS = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'system' %}{{ m.content }}{% endif %}"
    "{% if m.role == 'user' %}<｜User｜>{{ m.content }}{% endif %}"
    "{% if m.role == 'assistant' %}<｜Assistant｜>{{ m.content }}{{ eos_token }}{% endif %}"
    "{% endfor %}<｜Assistant｜><think>\n{# </think> #}"
)
"""R1's turns without tools: nothing to say about it."""
TOOLS = TURNS.replace(
    "{% if m.role == 'user' %}",
    "{% if m.role == 'tool' %}{{ m.content }}{% endif %}{% for c in m.tool_calls %}{{ c.function.name }}{% endfor %}"
    "{% if m.role == 'user' %}",
)


def check(
    source: str, *, bos: str | None = BOS, tokens: frozenset[str] = R1_TOKENS, name: str = "DeepSeek-R1-Distill-X"
) -> TemplateFindings:
    return check_template(source, control_tokens=tokens, bos_token=bos, eos_token=EOS, name=name)


def of(model: ServedModel) -> TemplateFindings:
    assert model.chat_template is not None
    return check_template(
        model.chat_template,
        control_tokens=model.control_tokens,
        bos_token=model.bos_token,
        eos_token=model.eos_token,
        name=model.name,
    )


def test_sound_templates_have_nothing_said_of_them() -> None:
    assert check(TURNS) == TemplateFindings()
    assert check(TOOLS) == TemplateFindings()
    assert check(TINY_R1.read_text(encoding="utf-8")) == TemplateFindings()
    assert of(SMOL) == TemplateFindings(), "SmolLM2 begins every turn with what it calls BOS"


def test_the_published_r1_template_breaks_at_the_second_tool_call() -> None:
    assert of(R1) == TemplateFindings(
        warnings=("The chat template writes a second round of tool calls otherwise than the first.",)
    )


def test_the_template_of_january_2025_does_not_open_the_thought() -> None:
    findings = of(R1_OLD)
    assert findings.refusal is None
    assert any("<think>" in warning for warning in findings.warnings)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{{ bos_token }}" + TURNS, "twice"),
        ("{{ bos_token }}\n" + TURNS, "twice"),
        (TURNS.replace("{{ eos_token }}", "{{ eos_token }}{{ bos_token }}") + "{{ bos_token }}<think>", "twice"),
        (TURNS.replace("<think>\n", ""), "<think>"),
        (TURNS + "{{ messages[0].content }}", "repeats part"),
        (TURNS.replace("in messages", "in messages[-1:]"), "loses part"),
        (TURNS.replace("in messages", "in messages | reverse"), "changes the order"),
        ("{% if messages | length > 3 %}{{ 1 / 0 }}{% endif %}" + TURNS, "refuses a conversation of three turns"),
        (TURNS + "{% if messages[-1].role == 'tool' %}{{ raise_exception('x') }}{% endif %}", "first round of tool"),
        (
            TOOLS
            + "{% if messages | length > 3 and messages[-1].role == 'tool' %}{{ raise_exception('x') }}{% endif %}",
            "breaks at a second round",
        ),
    ],
)
def test_what_r1_does_not_want_is_said(source: str, said: str) -> None:
    findings = check(source)
    assert findings.refusal is None
    assert any(said in warning for warning in findings.warnings), findings.warnings


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (TURNS.replace("'system'", "'nobody'"), "loses part of the conversation when there is a sys"),
        (
            TURNS.replace(
                "{% for", "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}{% for"
            ),
            "refuses a system prompt",
        ),
    ],
)
def test_a_lost_system_prompt_is_said_where_the_box_does_not_fold_it_away(source: str, said: str) -> None:
    findings = check(source, name="DeepSeek-R1-0528-X")
    assert any(said in warning for warning in findings.warnings), findings.warnings
    assert check(source) == TemplateFindings()
    assert all(warning.endswith(".") for warning in findings.warnings)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{% for m in messages %}", "line 1"),
        ("{{ messages | nosuchfilter }}", "nosuchfilter"),
        ("{{ ''.__class__.__mro__ }}", ""),
        ("{{ raise_exception('never') }}", "never"),
        ("{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}", ""),
        ("{{ 'x' * 10**12 }}", ""),
        ("{{ 10**10**10 }}", ""),
        ("{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}", ""),
        ("{% include '/etc/passwd' %}", ""),
        ("always the same", "leaves the user's message out"),
        ("", "empty"),
        ("{{ messages[7].content.x.y }}", ""),
        ("x" * 200_000, "more than"),
    ],
)
def test_what_cannot_be_rendered_or_not_safely_is_refused(source: str, said: str) -> None:
    findings = check(source)
    assert findings.refusal is not None
    assert said in findings.refusal
    assert not findings.refusal.endswith(".")
    assert "\n" not in findings.refusal


def test_a_model_without_a_bos_is_not_blamed() -> None:
    assert check(TURNS, bos=None) == TemplateFindings()


def test_other_models_are_not_held_to_r1() -> None:
    plain = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"
    assert check(plain, tokens=frozenset()) == TemplateFindings()
