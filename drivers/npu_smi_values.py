"""Pure parser of ``npu-smi info -t <type>``: text in, values by chip out.

The tool prints ``label : value`` lines. Labels differ by version (``Temperature (C)``, ``NPU Temperature (C)``), and
``Chip ID`` stands before its block (``-t common``) or after it (``usages``, ``temp``, ``power``, ``ecc``); the board's
controller has a block of its own (``Chip Name : mcu``). Blocks are told by blank lines and by where ``Chip ID`` stands
in them; what cannot be given to a chip for certain is left out. Words: hicann/driver, npu_info_print.c.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from drivers.ascend_faults import parse_code
from drivers.npu_smi_cells import is_unknown
from drivers.pci import normalize_address
from drivers.types import Health, MemoryErrors

MAX_LINES = 4096

_LINE = re.compile(r"^\s*(?P<label>[A-Za-z][^:]*?)?\s*:\s?(?P<value>.*)$")
_UNIT = re.compile(r"\s*\(([^()]*)\)$")
_DECIMAL = re.compile(r"-?\d{1,12}(?:\.\d{1,6})?", re.ASCII)
_MB = 1 << 20
_HEALTH = {
    "ok": Health.OK,
    "warning": Health.WARNING,
    "alarm": Health.ALARM,
    "critical": Health.CRITICAL,
}


@dataclass(frozen=True, slots=True)
class ChipValues:
    """What one answer tells of one chip; everything else is ``None``. ``fault_codes`` are eight hex digits each
    (``None``: not told, empty: none), ``fault_text`` the tool's words for them."""

    chip_id: int | None = None
    memory_kind: str | None = None
    memory_total_bytes: int | None = None
    utilization_percent: float | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None
    clock_mhz: int | None = None
    firmware_version: str | None = None
    pci_address: str | None = None
    health: Health | None = None
    fault_codes: tuple[str, ...] | None = None
    fault_texts: tuple[str, ...] = ()
    memory_errors: MemoryErrors | None = None
    compatible: bool | None = None


@dataclass(frozen=True, slots=True)
class CardValues:
    """One answer. ``card_id`` is the tool's ``NPU ID`` where it prints one; ``board_power_watts`` what the board's
    controller measures. ``cut``: the last line was not whole and was left out."""

    card_id: int | None = None
    chips: tuple[ChipValues, ...] = ()
    board_power_watts: float | None = None
    cut: bool = False


@dataclass
class _Block:
    """Lines that belong together, by label in small letters without its unit. A label that comes twice with different
    values tells nothing."""

    values: dict[str, list[str]] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)

    def add(self, label: str, value: str) -> None:
        unit = _UNIT.search(label)
        name = " ".join(_UNIT.sub("", label).lower().split())
        told = self.values.get(name)
        word = (unit[1].strip().lower() if unit else "", value)
        if told is not None and (self.units.get(name, ""), told[0]) != word:
            self.values[name] = ["NA"]
            return
        self.values[name] = [value]
        self.units[name] = word[0]

    def text(self, *names: str) -> str | None:
        """The first of the names that has a value."""
        for name in names:
            value = self.values.get(name)
            if value is not None and not is_unknown(value[0]):
                return value[0]
        return None

    def number(self, names: Iterable[str], unit: str, low: float, high: float) -> float | None:
        """The first of the names with that unit and a number between the bounds."""
        for name in names:
            value = self.values.get(name)
            if value is None or self.units.get(name, "") != unit or not _DECIMAL.fullmatch(value[0]):
                continue
            number = float(value[0])
            return number if low <= number <= high else None
        return None

    def count(self, *names: str, unit: str = "", high: int = (1 << 31)) -> int | None:
        number = self.number(names, unit, 0, high)
        return int(number) if number is not None and number == int(number) else None


def parse_values(text: str) -> CardValues:
    """Read one answer of ``npu-smi info -t ... -i N [-c N]``. Never raises.

    A text that does not end with the end of a line was cut: its last line may be half a number and is not read.
    """
    lines = text.splitlines()[:MAX_LINES]
    cut = bool(text) and not text.endswith(("\n", "\r"))
    if cut:
        lines = lines[:-1]
    card_id: int | None = None
    chips: list[ChipValues] = []
    board_power: float | None = None
    ids: set[int | None] = set()
    numbered = False
    for block in _blocks(lines):
        found = block.count("npu id")
        if found is not None:
            if card_id is not None and card_id != found:
                # Answers of two questions in one text: whose values are whose cannot be told.
                return CardValues(cut=cut)
            card_id = found
        if block.values.keys() <= {"npu id", "chip count"}:
            # A head of its own: then every block has the number of its chip, and one without it is cut.
            numbered |= "chip count" in block.values
            continue
        if (block.text("chip name") or "").lower() == "mcu":
            # With a chip's number in it the blank line between the two is lost: whose power it is cannot be told.
            board_power = None if "chip id" in block.values else _power(block)
            continue
        values = _chip(block)
        if values == ChipValues(values.chip_id) or (numbered and values.chip_id is None):
            continue
        ids.add(values.chip_id)
        chips.append(values)
    doubled = {values.chip_id for values in chips if sum(other.chip_id == values.chip_id for other in chips) > 1}
    chips = [values for values in chips if values.chip_id not in doubled]
    if len(ids) > 1:
        # Blocks of several chips, and one without a number: it cannot be told which chip that is.
        chips = [values for values in chips if values.chip_id is not None]
    return CardValues(card_id, tuple(chips), board_power, cut)


def chip_of(values: CardValues, card_id: int, chip_id: int | None, *, alone: bool) -> ChipValues | None:
    """What an answer tells of a chip; ``None`` when nothing for certain.

    ``alone``: the question was about this chip only, or its card has no other; then values without a number are its.
    """
    if values.card_id is not None and values.card_id != card_id:
        return None
    for one in values.chips:
        if one.chip_id is not None and one.chip_id == (chip_id or 0):
            return one
    return values.chips[0] if alone and len(values.chips) == 1 and values.chips[0].chip_id is None else None


def _blocks(lines: Sequence[str]) -> list[_Block]:
    """Paragraphs, each split again where the ``Chip ID`` of another chip begins or ends."""
    blocks: list[_Block] = []
    paragraph: list[tuple[str, str]] = []
    for line in [*lines, ""]:
        if not line.strip():
            blocks += _split(paragraph)
            paragraph = []
            continue
        match = _LINE.match(line)
        if match is None:
            if paragraph and paragraph[-1][0].lower() == "error information":
                paragraph[-1] = (paragraph[-1][0], f"{paragraph[-1][1]} {line.strip()}")
            continue
        label, value = (match["label"] or "").strip(), match["value"].strip()
        if label:
            paragraph.append((label, value))
        elif blocks and not paragraph and "error information" in blocks[-1].values:
            # The second and later words for error codes stand in paragraphs of their own, without a label.
            blocks[-1].values["error information"].append(value)
        elif paragraph and paragraph[-1][0].lower() == "error information":
            paragraph[-1] = (paragraph[-1][0], f"{paragraph[-1][1]}\n{value}")
    return blocks


def _split(paragraph: list[tuple[str, str]]) -> list[_Block]:
    """Blocks of one paragraph; nothing of one that names two chips and neither begins nor ends with one."""
    places = [place for place, (label, _) in enumerate(paragraph) if label.lower() == "chip id"]
    heads = sum(label.lower() in ("npu id", "chip count") for label, _ in paragraph)
    if len(places) < 2:
        parts = [paragraph] if paragraph else []
    elif places[0] <= heads and all(label.lower() in ("npu id", "chip count") for label, _ in paragraph[: places[0]]):
        ends = [*places[1:], len(paragraph)]
        parts = [paragraph[start:end] for start, end in zip(places, ends, strict=True)]
        parts[0] = paragraph[: ends[0]]
    elif places[-1] == len(paragraph) - 1:
        starts = [0, *(place + 1 for place in places[:-1])]
        parts = [paragraph[start : place + 1] for start, place in zip(starts, places, strict=True)]
    else:
        parts = []
    blocks = []
    for part in parts:
        block = _Block()
        for label, value in part:
            if label.lower() == "error information":
                block.values["error information"] = value.split("\n")
            else:
                block.add(label, value)
        blocks.append(block)
    return blocks


def _chip(block: _Block) -> ChipValues:
    kind, total = _memory(block)
    codes = _codes(block)
    return ChipValues(
        chip_id=block.count("chip id", high=64),
        memory_kind=kind,
        memory_total_bytes=total,
        utilization_percent=block.number(("aicore usage rate", "npu utilization"), "%", 0, 100),
        temperature_celsius=block.number(("npu temperature", "temperature"), "c", -60, 200),
        power_watts=_power(block),
        clock_mhz=block.count("aicore curfreq", unit="mhz", high=100_000),
        firmware_version=block.text("firmware version"),
        pci_address=normalize_address(block.text("pcie bus info") or ""),
        health=_HEALTH.get((block.text("health status", "health") or "").lower()),
        fault_codes=codes,
        fault_texts=tuple(word for word in block.values.get("error information", []) if codes and not is_unknown(word)),
        memory_errors=_memory_errors(block, "hbm") or _memory_errors(block, "ddr"),
        compatible={"ok": True, "nok": False}.get((block.text("compatibility") or "").lower()),
    )


def _power(block: _Block) -> float | None:
    """0.0 is what a broken sensor prints (310B4, 80E3A203); a chip that answers draws power."""
    return block.number(("npu real-time power", "power"), "w", 0, 100_000) or None


def _memory(block: _Block) -> tuple[str | None, int | None]:
    """HBM when there is any, else DDR (on 310 and 310B it is called "Memory")."""
    for kind, names in (("hbm", ("hbm capacity",)), ("ddr", ("ddr capacity", "memory capacity"))):
        total = block.count(*names, unit="mb", high=1 << 30)
        if total:
            return kind, total * _MB
    return None, None


def _codes(block: _Block) -> tuple[str, ...] | None:
    value = block.values.get("error code")
    if value is None:
        return None
    if value[0].upper() in ("NA", "N/A"):
        # "NA" is also what a chip without faults prints; only beside a health it says that there are none.
        return () if block.text("health status", "health") else None
    codes = [parse_code(word) for word in value[0].split()]
    return tuple(code for code in codes if code is not None) if codes and None not in codes else None


def _memory_errors(block: _Block, memory: str) -> MemoryErrors | None:
    single, double = (block.count(f"{memory} {bits} bit error count") for bits in ("single", "double"))
    total_single, total_double = (
        block.count(f"{memory} {bits} bit aggregate total err cnt") for bits in ("single", "double")
    )
    pages = [block.count(f"{memory} {bits} bit isolated pages count") for bits in ("single", "double")]
    if single is None and double is None and total_single is None and total_double is None:
        return None
    retired = sum(page for page in pages if page is not None) if None not in pages else None
    return MemoryErrors(single, double, total_single, total_double, retired_pages=retired)
