"""Titles of chats, made from the first question: no model is asked, for it would keep somebody waiting."""

from __future__ import annotations

import re
import unicodedata

MOST_CHARACTERS = 60
_FENCE = re.compile(r"^\s*(```|~~~)")
_MARKS = re.compile(r"^[\s#>*+\-]+|[`*_]{1,3}")
_END = re.compile(r"(?<=[.?!。？！；;])\s*")


def title_of(question: str, attachment: str | None = None) -> str:
    """The first sentence of the question's first line that says something, else the attachment's name."""
    for line in question.splitlines()[:50]:
        if _FENCE.match(line):
            continue
        said = clean_title(_MARKS.sub("", line[:1000]))
        if any(letter.isalnum() for letter in said):
            first = _END.split(said, maxsplit=1)[0].strip()
            return shortened(first if len(first) >= 4 else said)
    return shortened(attachment or "")


def clean_title(text: str) -> str:
    """One line without control characters and doubled spaces."""
    kept = "".join(character if unicodedata.category(character)[0] != "C" else " " for character in text)
    return " ".join(kept.split())


def shortened(text: str) -> str:
    """At most ``MOST_CHARACTERS``, cut between words where there are some."""
    if len(text) <= MOST_CHARACTERS:
        return text
    cut = text[: MOST_CHARACTERS - 1]
    space = cut.rfind(" ")
    return (cut[:space] if space >= MOST_CHARACTERS // 2 else cut).rstrip() + "…"
