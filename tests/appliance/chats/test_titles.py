from __future__ import annotations

import pytest

from appliance.chats.titles import title_of


@pytest.mark.parametrize(
    ("question", "title"),
    [
        ("What is 2 + 2? And why?", "What is 2 + 2?"),
        ("\n\n# **Plan** a trip to `Oslo`\nfor two", "Plan a trip to Oslo"),
        ("请总结这份合同。要点就好。", "请总结这份合同。"),
        ("```python\nprint(1)\n```\nWhat does it do?", "print(1)"),
        ("word " * 40, "word word word word word word word word word word word…"),
        ("字" * 80, "字" * 59 + "…"),
        ("- \n*\n", "a.txt"),
        ("tab\there\x07", "tab here"),
    ],
)
def test_titles(question: str, title: str) -> None:
    assert title_of(question, "a.txt") == title
