"""The console's words in the operator's language. A catalogue is a table of keys; both have all of them (a test)."""

from __future__ import annotations

from collections.abc import Mapping

from tui.client import Problem
from tui.look import Language
from tui.strings_en import ENGLISH
from tui.strings_zh import CHINESE

CATALOGUES: Mapping[Language, Mapping[str, str]] = {"en": ENGLISH, "zh": CHINESE}


class Words:
    """One language. Call it with a key and the key's fields."""

    def __init__(self, language: Language) -> None:
        self.language = language
        self._table = CATALOGUES[language]

    def __call__(self, key: str, **fields: object) -> str:
        """The sentence; KeyError for a key that there is none of."""
        return self._table[key].format(**fields)

    def state(self, prefix: str, word: str) -> str:
        """A word of the daemon in this language; one that is new to this console as it is."""
        return self._table.get(f"{prefix}.{word}", word)

    def age(self, seconds: float) -> str:
        """How long, in one unit."""
        for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
            if seconds >= size * (2 if unit == "days" else 1):
                return self(f"age.{unit}", n=int(seconds // size))
        return self("age.seconds", n=max(int(seconds), 0))

    def problem(self, problem: Problem, place: str) -> tuple[str, str]:
        """(what is so, what to do next), in the daemon's words where it had some."""
        key = f"problem.{problem.code}"
        if problem.message is not None or key not in self._table:
            return problem.message or problem.code, problem.hint or ""
        return self(key, place=place, detail=problem.detail or ""), self(f"{key}.next")


def byte_size(size: int) -> str:
    """Of memory: GiB with a decimal below 10."""
    gib = size / 2**30
    return f"{gib:.0f}" if gib >= 9.95 else f"{gib:.1f}"
