"""Hostile templates come to an end: quickly, without memory, with a typed error."""

from __future__ import annotations

import time
import tracemalloc

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from appliance.serving.errors import ChatTemplateUnusable
from appliance.serving.meter import RenderLimitExceeded, RenderMeter
from appliance.serving.template import ChatTemplate
from tests.appliance.serving.samples import user

MAX_PEAK_BYTES = 160 << 20
A_LOT = "{% set a = 'a' * 100000 %}"


def grow(start: str, step: str, end: str = "") -> str:
    """A template that applies ``step`` to ``ns.x`` again and again."""
    return (
        f"{{% set ns = namespace(x={start}) %}}{{% for i in range(1000) %}}{{% set ns.x = {step} %}}{{% endfor %}}{end}"
    )


ENDLESS = {
    "nested loops": "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
    "loops in filters": "{% for i in range(100000) %}{% set x = range(100000) | select('odd') | list %}{% endfor %}",
    "a list of itself twice": grow("[1]", "[ns.x, ns.x]"),
    "a tuple of itself twice": grow("[1]", "(ns.x, ns.x)"),
    "a dict of itself twice": grow("1", "{'a': ns.x, 'b': ns.x}"),
    "dict() of itself twice": grow("1", "dict(a=ns.x, b=ns.x)"),
    "a macro that calls itself twice": (
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}"
    ),
}
HUNGRY_OR_FORBIDDEN = {
    "loop over a huge range": "{% for i in range(10 ** 9) %}x{% endfor %}",
    "text times number": "{{ 'a' * 10 ** 10 }}",
    "list times number": "{{ [0] * 10 ** 9 }}",
    "text times number, in a test": "{% if 'a' * 10 ** 10 %}{% endif %}",
    "power": "{{ 10 ** 10 ** 10 }}",
    "power of fractions": "{{ 10.0 ** 400 }}",
    "squares": grow("3", "ns.x * ns.x"),
    "doubling with +": grow("'ab'", "ns.x + ns.x"),
    "doubling with ~": grow("'ab'", "ns.x ~ ns.x"),
    "doubling lists with +": grow("[1]", "ns.x + ns.x"),
    "doubling in a block": (
        "{% set ns = namespace(x='ab') %}{% for i in range(1000) %}"
        "{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}{% endfor %}"
    ),
    "a namespace of itself twice, printed": grow("1", "namespace(a=ns.x, b=ns.x)", "{{ ns.x }}"),
    "a namespace in lists, as text": grow("1", "namespace(a=[ns.x], b=[ns.x])", "{{ [ns.x] | string }}"),
    "a namespace in lists, upper": grow("1", "namespace(a=[ns.x], b=[ns.x])", "{{ ns.x | upper }}"),
    "a namespace in lists, joined": grow("1", "namespace(a=[ns.x], b=[ns.x])", "{{ [ns.x] | join }}"),
    "a namespace in lists, added": grow("1", "namespace(a=[ns.x], b=[ns.x])", "{{ 'a' ~ ns.x }}"),
    "a namespace in an error": grow("1", "namespace(a=[ns.x], b=[ns.x], unsafe_callable=true)", "{{ ns.x() }}"),
    "deep nesting": grow("[1]", "[ns.x]"),
    "a macro without end": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "a block without end": "{% block b %}{{ self.b() }}{% endblock %}",
    "much text in a macro": (
        "{% macro f() %}" + "x" * 100_000 + "{% endmacro %}{% for i in range(100000) %}{% set y = f() %}{% endfor %}"
    ),
    "format": "{{ '{:>1000000000}'.format('x') }}",
    "format by name": "{{ 'x'['format']() }}",
    "percent": "{{ '%1000000000d' % 1 }}",
    "ljust": "{{ 'x'.ljust(10 ** 9) }}",
    "ljust by name": "{{ 'x'['ljust'](10 ** 9) }}",
    "expandtabs": "{{ '\\t'.expandtabs(10 ** 9) }}",
    "to_bytes": "{{ (1).to_bytes(10 ** 9, 'big') }}",
    "indent": "{{ 'x\\ny' | indent(10 ** 9) }}",
    "indent of JSON": "{{ [1] | tojson(indent=10 ** 9) }}",
    "replace": A_LOT + "{{ a.replace('a', a) }}",
    "replace nothing": A_LOT + "{{ a.replace('', a) }}",
    "replace as filter": A_LOT + "{{ a | replace('a', a) }}",
    "join": A_LOT + "{{ a.join(range(100000) | map('string')) }}",
    "join as filter": A_LOT + "{{ range(100000) | join(a) }}",
    "slices kept": grow("[]", "ns.x + [('a' * 1000000)[i:]]"),
    "slow text": A_LOT + "{% for i in range(100000) %}{% set x = a | lower %}{% endfor %}",
    "equal lists": (
        "{% set a = range(1000) | map(attribute='q', default=range(1000) | list) | list %}"
        "{% set b = range(1000) | map(attribute='q', default=range(1000) | list) | list %}{{ a == b }}"
    ),
    "recursive loop": "{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "include": "{% include '/etc/passwd' %}",
    "import": "{% import '/etc/passwd' as x %}",
    "from import": "{% from '/etc/passwd' import x %}",
    "extends": "{% extends '/etc/passwd' %}",
    "lorem ipsum": "{{ 'x' | lipsum }}",
    "class": "{{ ''.__class__.__mro__ }}",
    "globals": "{{ raise_exception.__globals__.x }}",
    "changing the messages": "{{ messages.append(1) }}",
    "date format": "{{ strftime_now('%1000000000d') }}",
    "batch": "{{ [1] | batch(10 ** 9, 'x') | list }}",
    "round": "{{ 1.5 | round(10 ** 9, 'ceil') }}",
}


@pytest.mark.parametrize("source", ENDLESS.values(), ids=ENDLESS.keys())
def test_endless_work_is_ended(source: str) -> None:
    with pytest.raises(ChatTemplateUnusable, match="too many steps"):
        ChatTemplate(source).render([user("Hi")])


@pytest.mark.parametrize("source", HUNGRY_OR_FORBIDDEN.values(), ids=HUNGRY_OR_FORBIDDEN.keys())
def test_hostile_template_takes_no_memory(source: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ChatTemplateUnusable):
            ChatTemplate(source).render([user("Hi")])
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < MAX_PEAK_BYTES


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{% macro f() %}{{ caller() }}{% endmacro %}{% call f() %}x{% endcall %}", "x"),
        ("{% for i in [1, 2] %}{% block b scoped %}{{ i }}{% endblock %}{% endfor %}", "12"),
        ("{% filter upper %}abc{% endfilter %}", "ABC"),
        ("{% for i in [1, 2] %}{{ loop.index }}/{{ loop.length }}{{ ' ' if not loop.last }}{% endfor %}", "1/2 2/2"),
        ("{{ (messages | selectattr('role', 'equalto', 'user') | list | last).content }}", "Hi"),
        ("{{ messages[::-1] | map(attribute='role') | join(', ') }}", "user"),
        ("{% for k, v in {'b': 1, 'a': 2} | dictsort %}{{ k }}{{ v }}{% endfor %}", "a2b1"),
        ("{% for k, v in {'b': 1}.items() %}{{ k }}{{ v }}{% endfor %}", "b1"),
        ("{{ 'a\nb' | indent(2) }}|{{ 'a\nb' | indent(1, first=true) }}", "a\n  b| a\n b"),
        ("{{ 'a-b'.split('-') | join('+') }}{{ ','.join(['x', 'y']) }}{{ 'aa'.replace('a', 'b') }}", "a+bx,ybb"),
        ("{{ 2 ** 10 }}{{ 7 % 3 }}{{ 7 // 2 }}{{ 1 / 2 }}{{ -3 }}{{ 'ab' * 2 }}", "1024130.5-3abab"),
        ("{{ '<b>' }}{{ none }}{{ true }}{{ [1, 'a'] }}{{ undefined_name }}", "<b>NoneTrue[1, 'a']"),
        ("{% set ns = namespace(n=0) %}{% for i in range(3) %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}", "3"),
        ("{% set a, b = (1, 2) %}{{ a }}{{ b }}", "12"),
        ("{{ messages | length }}{{ '%s' }}{{ 'x' if 'H' in messages[0].content }}", "1%sx"),
        ("{{ 'a' ~ 1 ~ none ~ [2] }}", "a1None[2]"),
        ("{% if messages[0]['content'] is string and messages[0].tool_calls is not defined %}y{% endif %}", "y"),
    ],
)
def test_ordinary_templates_notice_nothing(source: str, text: str) -> None:
    assert ChatTemplate(source).render([user("Hi")]).segments[0].text == text
    plain = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    assert plain.from_string(source).render(messages=[{"role": "user", "content": "Hi"}]) == text


def test_long_conversations_are_not_hostile() -> None:
    template = ChatTemplate(
        "{% set ns = namespace(s='') %}{% for m in messages %}{% set c = m.content | trim %}"
        "{% if loop.index0 % 2 == 0 and c %}{{ '<u>' + c + '</u>' }}{% else %}{{ '<a>' ~ c }}{% endif %}"
        "{% if (messages | length) == loop.index %}{{ messages[-1].content.split('\n') | length }}{% endif %}"
        "{% endfor %}"
    )
    prompt = template.render([user("line of text\n" * 20)] * 5_000)
    assert len(prompt.segments[0].text) > 1_000_000


def test_the_meter_has_an_end_in_cpu_time(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter((0.0, 1.9, 2.1))
    monkeypatch.setattr(time, "thread_time", lambda: next(seconds))
    meter = RenderMeter(max_steps=10**9, max_chars=1, max_cpu_s=2.0)
    meter.step(300)  # the clock is looked at after some hundred steps; most renderings end before
    meter.step(300)
    with pytest.raises(RenderLimitExceeded, match="more than 2 s"):
        meter.step(300)
