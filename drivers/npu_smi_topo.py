"""Pure parser of ``npu-smi info -t topo``: the way between each two chips, by the words of its rows and columns.

Rows are called ``NPU0`` or, on A3, ``Phy-ID12``; newer tools add columns and rows of network cards (``NIC0``) and the
CPUs near a chip. Words: hicann/driver, npu_info_print_ext.c. Columns are taken by their names, and a row counts only
when it has ``X`` under its own: then it is neither cut nor shifted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from drivers.types import LinkKind

MAX_LINES = 4096

_NAME = re.compile(r"(?:NPU|Phy-ID)(\d{1,5})", re.ASCII)
_OTHER = re.compile(r"NIC\d{1,5}", re.ASCII)
_SELF = "X"
_UNKNOWN = "NA"
_WORDS: Mapping[str, LinkKind] = {
    "SYS": LinkKind.SYS,
    "PHB": LinkKind.PHB,
    "PIX": LinkKind.PIX,
    "PXB": LinkKind.PXB,
    "HCCS": LinkKind.HCCS,
    "HCCS_SW": LinkKind.HCCS_SW,
    "SIO": LinkKind.SIO,
    "UB": LinkKind.UB,
}


def parse_topo(text: str) -> dict[tuple[int, int], LinkKind]:
    """(number, number) -> how they reach each other, both ways round; the numbers are those of the nodes. Never raises.

    A pair that is told differently by its two rows, or by one of them only, is left out. A text that does not end with
    the end of a line was cut: its last line is not read.
    """
    lines = text.splitlines()[:MAX_LINES]
    if text and not text.endswith(("\n", "\r")):
        lines = lines[:-1]
    columns: list[str] = []
    told: dict[tuple[str, str], str] = {}
    repeated: set[str] = set()
    for line in lines:
        words = line.split()
        header = _header(words)
        if header is not None:
            columns, told, repeated = header, {}, set()
        elif columns and words and words[0] in columns and _NAME.fullmatch(words[0]):
            cells = words[1 : 1 + len(columns)]
            known = len(cells) == len(columns) and all(cell in _WORDS or cell in (_SELF, _UNKNOWN) for cell in cells)
            by_name = dict(zip(columns, cells, strict=False))
            if not known or [name for name, cell in by_name.items() if cell == _SELF] != [words[0]]:
                continue
            if any(row == words[0] for row, _ in told):
                repeated.add(words[0])
            told.update({(words[0], name): cell for name, cell in by_name.items()})
    ways: dict[tuple[int, int], LinkKind] = {}
    for (row, column), word in told.items():
        kind = _WORDS.get(word)
        ends = _NAME.fullmatch(row), _NAME.fullmatch(column)
        if kind is None or ends[0] is None or ends[1] is None or {row, column} & repeated:
            continue
        if told.get((column, row)) == word:
            ways[int(ends[0][1]), int(ends[1][1])] = kind
    return ways


def _header(words: list[str]) -> list[str] | None:
    """Names of the columns when the words are a header: nothing but names, then perhaps ``CPU Affinity``."""
    names = words[:-2] if words[-2:] == ["CPU", "Affinity"] else words
    if not names or not all(_NAME.fullmatch(name) or _OTHER.fullmatch(name) for name in names):
        return None
    if len(set(names)) != len(names) or not any(_NAME.fullmatch(name) for name in names):
        return None
    return names
