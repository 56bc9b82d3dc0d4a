"""Version numbers of drivers, CANN, CUDA and Python packages, put into one order.

The makers write them differently: ``550.54.15``, ``25.3.rc1``, ``24.1.rc1.b030`` (a build of that candidate),
``8.2.RC1.alpha002`` (before that candidate), ``8.0.0.beta1``, ``2.7.1.post8``, ``2.5.1.post1.dev20250619``,
``2.9.0+cu128`` (what stands behind ``+`` says how it was built and is no part of the order).
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field

MAX_LENGTH = 100
_RELEASE = re.compile(r"[vV]?([0-9]+(?:\.[0-9]+)*)")
_TOKEN = re.compile(r"[A-Za-z]+|[0-9]+")
_BEFORE = {"dev": 0, "a": 1, "alpha": 1, "b": 2, "beta": 2, "c": 3, "rc": 3, "pre": 3, "preview": 3}
_END = (4, 0, "")
_BUILD, _POST, _NUMBER = 5, 6, 7
_BUILD_DIGITS = 3
"""``b030`` is a build number of Huawei's, ``b1`` a beta of Python's: told apart by the number of digits."""


@functools.total_ordering
@dataclass(frozen=True, slots=True, eq=False)
class Version:
    """A version that can be compared; ``text`` is as it was found, ``release`` its leading numbers.

    Versions that differ in trailing zeros of the release, letter case or the part behind ``+`` are equal.
    """

    text: str
    release: tuple[int, ...]
    suffix: tuple[tuple[int, int, str], ...] = field(default=(_END,))

    @property
    def _key(self) -> tuple[tuple[int, ...], bool, int, tuple[tuple[int, int, str], ...]]:
        significant = self.release
        while significant and significant[-1] == 0:
            significant = significant[:-1]
        # Huawei's 8.0.RC3 comes before its 8.0.0.beta1: a preview of the shorter number is the earlier one.
        preview = self.suffix[0] < _END
        return significant, not preview, len(self.release) if preview else 0, self.suffix

    def __eq__(self, other: object) -> bool:
        return self._key == other._key if isinstance(other, Version) else NotImplemented

    def __lt__(self, other: Version) -> bool:
        return self._key < other._key

    def __hash__(self) -> int:
        return hash(self._key)


def parse_version(text: str) -> Version | None:
    """The version that ``text`` begins with, ``None`` when it does not begin with a number. Never raises."""
    text = text.strip()
    public = text.partition("+")[0]
    start = _RELEASE.match(public)
    if start is None or len(text) > MAX_LENGTH:
        return None
    release = tuple(int(number) for number in start[1].split("."))
    return Version(text, release, _suffix(public[start.end() :]))


def _suffix(text: str) -> tuple[tuple[int, int, str], ...]:
    """What follows the release: a word with its number each, in an order in which the end of the version stands after
    every preview and before every build, post release and further number."""
    found: list[tuple[int, int, str]] = []
    tokens = _TOKEN.findall(text)
    while tokens:
        word = tokens.pop(0).lower()
        if word.isdigit():
            found.append((_NUMBER, int(word), ""))
            continue
        digits = tokens.pop(0) if tokens and tokens[0].isdigit() else ""
        number = int(digits) if digits else 0
        if word == "post":
            found.append((_POST, number, ""))
        elif word in _BEFORE and not (word == "b" and len(digits) >= _BUILD_DIGITS):
            found.append((_BEFORE[word], number, ""))
        else:
            found.append((_BUILD, number, word))
    return (*found, _END)


@dataclass(frozen=True, slots=True)
class VersionRange:
    """One specification: ``8.5.0`` (this one), ``25.2.*`` (all that begin so), ``>=12.0,<13`` (between).

    ``lowest`` and ``highest`` are the versions it names as its bounds, ``None`` where it is open.
    """

    text: str
    lowest: Version | None
    highest: Version | None
    includes_highest: bool = True
    prefix: tuple[int, ...] | None = None

    @property
    def is_minimum(self) -> bool:
        """Whether it asks for a version or any later one."""
        return self.lowest is not None and self.highest is None

    def contains(self, version: Version) -> bool:
        """Whether ``version`` meets the specification."""
        if self.prefix is not None:
            return version.release[: len(self.prefix)] == self.prefix
        if self.lowest is not None and version < self.lowest:
            return False
        if self.highest is None:
            return True
        return version <= self.highest if self.includes_highest else version < self.highest


def parse_range(text: str) -> VersionRange | None:
    """Read a specification; ``None`` when it is none of the three forms. Never raises."""
    if text.endswith(".*"):
        version = parse_version(text[:-2])
        if version is None or version.suffix != (_END,):
            return None
        return VersionRange(text, version, version, prefix=version.release)
    lowest: Version | None = None
    highest: Version | None = None
    includes_highest = True
    for part in text.split(","):
        operator = next((sign for sign in (">=", "<=", "<") if part.strip().startswith(sign)), "")
        version = parse_version(part.strip()[len(operator) :])
        if version is None:
            return None
        if operator in (">=", ""):
            lowest = version
        if operator in ("<=", "<", ""):
            highest, includes_highest = version, operator != "<"
    return VersionRange(text, lowest, highest, includes_highest)
