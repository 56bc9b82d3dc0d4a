"""What an Ascend chip's fault code means and what to do about it: the table in ``ascend_faults.toml``.

Codes are eight hex digits with their leading zeros; the driver gives numbers, and npu-smi prints them as ``%04X``.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from importlib import resources
from types import MappingProxyType

from drivers.errors import printable
from drivers.types import DeviceFault, Severity

CURRENT_SENSOR = "80E3A203"
"""Boards with the 310B report it for years while they work: never a reason by itself to call one dead."""

_FILE = "ascend_faults.toml"
_CODE = re.compile(r"(?:0x)?([0-9a-f]{1,8})", re.IGNORECASE | re.ASCII)
_MAX_TEXT = 240


class FaultClass(StrEnum):
    """What has to be done, gravest first."""

    SEPARATE = "separate"
    PRE_SEPARATE = "pre_separate"
    RESET = "reset"
    RESET_WHEN_IDLE = "reset_when_idle"
    RESTART_SERVICE = "restart_service"
    REPEAT_REQUEST = "repeat_request"
    WATCH = "watch"
    NONE = "none"


_ACTIONS: Mapping[FaultClass, tuple[str, Severity]] = {
    FaultClass.SEPARATE: (
        "Take the card out of use and have it replaced: this does not go away.",
        Severity.ERROR,
    ),
    FaultClass.PRE_SEPARATE: (
        "It still works. Start nothing new on the card and plan its replacement.",
        Severity.WARNING,
    ),
    FaultClass.RESET: (
        "Stop what runs on the card and reset it (npu-smi set -t reset), or power the box off and on.",
        Severity.ERROR,
    ),
    FaultClass.RESET_WHEN_IDLE: (
        "Reset the card (npu-smi set -t reset) as soon as nothing runs on it.",
        Severity.WARNING,
    ),
    FaultClass.RESTART_SERVICE: ("Restart the program that uses the card.", Severity.WARNING),
    FaultClass.REPEAT_REQUEST: (
        "Send the request again; if the code stays, restart the program that uses the card.",
        Severity.WARNING,
    ),
    FaultClass.WATCH: ("The card is slowed or weakened. Watch it, and check cooling and cables.", Severity.WARNING),
    FaultClass.NONE: ("Nothing has to be done.", Severity.INFO),
}


@dataclass(frozen=True, slots=True)
class FaultTable:
    """The data file: class of each code, and our words for some."""

    classes: Mapping[str, FaultClass]
    meanings: Mapping[str, str]


@lru_cache(maxsize=1)
def fault_table() -> FaultTable:
    """Read the data file, once."""
    values = tomllib.loads(resources.files("drivers").joinpath(_FILE).read_text(encoding="utf-8"))
    classes = {code: FaultClass(word) for word, codes in values["classes"].items() for code in codes.split()}
    return FaultTable(MappingProxyType(classes), MappingProxyType(values["meanings"]))


def code_text(code: int) -> str:
    """The code as eight hex digits in capitals."""
    return f"{code & 0xFFFFFFFF:08X}"


def parse_code(text: str) -> str | None:
    """A printed code (``80E3A203``, ``0x4E00``) as eight hex digits; ``None`` when it is none."""
    match = _CODE.fullmatch(text.strip())
    return None if match is None else match[1].upper().zfill(8)


def fault(code: str, text: str | None = None) -> DeviceFault:
    """What is known of a code of eight hex digits; ``text`` is what the driver itself says of it.

    A code that the table lacks has no action: how grave it is the device's health tells.
    """
    table = fault_table()
    said = " ".join(printable(" ".join((text or "").split()))[:_MAX_TEXT].split())
    meaning = table.meanings.get(code) or (said or None)
    known = table.classes.get(code)
    if known is None:
        return DeviceFault(code, meaning)
    action, severity = _ACTIONS[known]
    return DeviceFault(code, meaning, action, severity)


def faults(codes: Iterable[str], texts: Mapping[str, str]) -> tuple[DeviceFault, ...]:
    """Each code once, the gravest first. ``texts`` are the driver's own words by code."""
    grave = [Severity.ERROR, Severity.WARNING, Severity.INFO]
    found = [fault(code, texts.get(code)) for code in dict.fromkeys(codes)]
    return tuple(sorted(found, key=lambda one: grave.index(one.severity)))
