"""Cells of the ``npu-smi`` table: which fields a header cell names, and which values a data cell gives them.

Kept apart from the table so that a new column word is one line here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias


class Field(Enum):
    """A column by its meaning; ``OTHER`` is a column whose word is not known: its value is skipped."""

    NPU = "npu"
    NAME = "name"
    CHIP = "chip"
    DEVICE = "device"
    PHY_ID = "phy-id"
    HEALTH = "health"
    BUS = "bus-id"
    POWER = "power"
    TEMPERATURE = "temp"
    HUGEPAGES = "hugepages"
    UTILIZATION = "utilization"
    DDR = "ddr"
    HBM = "hbm"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Pair:
    """``used / total``, in bytes where the header gives a unit of memory; ``None`` where the tool prints no number."""

    used: int | None
    total: int | None


Value: TypeAlias = "int | float | str | Pair | None"

_LABELS: tuple[tuple[str, Field], ...] = (
    ("npu util", Field.UTILIZATION),
    ("npu utilization", Field.UTILIZATION),
    ("npu id", Field.NPU),
    ("npu", Field.NPU),
    ("name", Field.NAME),
    ("chip id", Field.CHIP),
    ("chip", Field.CHIP),
    ("device", Field.DEVICE),
    ("phy-id", Field.PHY_ID),
    ("health", Field.HEALTH),
    ("bus-id", Field.BUS),
    ("power", Field.POWER),
    ("temp", Field.TEMPERATURE),
    ("hugepages-usage", Field.HUGEPAGES),
    ("aicore", Field.UTILIZATION),
    ("memory-usage", Field.DDR),
    ("ddr-usage", Field.DDR),
    ("hbm-usage", Field.HBM),
)
"""Words of the header, longer ones before their beginnings; a unit in brackets may follow."""

_PAIR_FIELDS = frozenset({Field.DDR, Field.HBM, Field.HUGEPAGES})
_UNIT_BYTES = {"kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30}
"""The tool's MB are 1024*1024 bytes: a 64 GB card prints 65536."""
_EXPECTED_UNITS: dict[Field, frozenset[str]] = {
    Field.POWER: frozenset({"w"}),
    Field.TEMPERATURE: frozenset({"c"}),
    Field.UTILIZATION: frozenset({"%"}),
    Field.DDR: frozenset(_UNIT_BYTES),
    Field.HBM: frozenset(_UNIT_BYTES),
}
_GAP = re.compile(r"\s{2,}|\t")
_UNIT = re.compile(r"\s?\(([^()]*)\)")
_NUMBER_OR_NONE = r"(?:\d{1,12}|NA|N/A|-)"
_VALUE = re.compile(rf"({_NUMBER_OR_NONE})\s*/\s*({_NUMBER_OR_NONE})(?=\s|$)|(\S+)", re.ASCII)
_INTEGER = re.compile(r"\d{1,9}", re.ASCII)
_DECIMAL = re.compile(r"-?\d{1,9}(?:\.\d{1,6})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Column:
    """A named value of a cell; ``unit`` is the lower-case word in the header's brackets."""

    field: Field
    unit: str | None


def is_unknown(text: str) -> bool:
    """Whether the tool says that it has no value here."""
    return text.upper() in {"NA", "N/A", "-", ""}


def header_columns(cell: str) -> list[Column]:
    """Columns that a header cell names, in order. An unknown label runs to its unit or to a gap of two blanks."""
    columns: list[Column] = []
    rest = cell.strip()
    while rest:
        column, length = _known(rest) or _unknown(rest)
        columns.append(column)
        rest = rest[length:].lstrip()
    return columns


def _known(text: str) -> tuple[Column, int] | None:
    lowered = text.lower()
    for words, field in _LABELS:
        pattern = r"\s".join(re.escape(word) for word in words.split())
        match = re.match(pattern + r"(?![\w-])", lowered)
        if match is not None:
            unit = _UNIT.match(lowered, match.end())
            return Column(field, unit[1].strip() if unit else None), unit.end() if unit else match.end()
    return None


def _unknown(text: str) -> tuple[Column, int]:
    gap = _GAP.search(text)
    unit = _UNIT.search(text)
    end = min([match.end() for match in (gap, unit) if match is not None], default=len(text))
    return Column(Field.OTHER, unit[1].lower() if unit is not None and unit.end() == end else None), end


def match_cell(columns: list[Column], cell: str) -> dict[Field, Value] | None:
    """Values of a cell by field; ``None`` when they do not fit the header (then nothing of the cell is used)."""
    words = [(match[1], match[2], match[3]) for match in _VALUE.finditer(cell)]
    if columns and columns[-1].field is Field.NAME and len(words) > len(columns):
        # A name may have blanks ("Ascend 910B3"): it takes the rest of its cell.
        last = len(columns) - 1
        words = [*words[:last], (None, None, " ".join(word[2] or "/" for word in words[last:]))]
    if len(words) != len(columns):
        return None
    values: dict[Field, Value] = {}
    for column, (used, total, word) in zip(columns, words, strict=True):
        if column.field is Field.OTHER:
            continue
        value = _pair(column, used, total) if word is None else _scalar(column, word)
        if value is _MISFIT:
            return None
        values[column.field] = None if isinstance(value, _Misfit) else value
    return values


class _Misfit(Enum):
    MISFIT = 1


_MISFIT = _Misfit.MISFIT


def _pair(column: Column, used: str | None, total: str | None) -> Pair | _Misfit:
    if column.field not in _PAIR_FIELDS or used is None or total is None:
        return _MISFIT
    scale = _UNIT_BYTES.get(column.unit or "") if column.field in _EXPECTED_UNITS else 1
    if scale is None:
        return Pair(None, None)
    return Pair(*(None if is_unknown(word) else int(word) * scale for word in (used, total)))


def _scalar(column: Column, word: str) -> Value | _Misfit:
    if column.field in {Field.NAME, Field.HEALTH}:
        return word
    if is_unknown(word):
        return None
    if column.field in _PAIR_FIELDS:
        return _MISFIT
    if column.field is Field.BUS:
        return word
    expected = _EXPECTED_UNITS.get(column.field)
    if expected is None:
        return int(word) if _INTEGER.fullmatch(word) else _MISFIT
    if column.unit not in expected:
        return None
    return float(word) if _DECIMAL.fullmatch(word) else _MISFIT
