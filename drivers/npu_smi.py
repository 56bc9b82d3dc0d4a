"""Pure parser of ``npu-smi info``: text in, devices and findings out.

The table changed its width and columns in every second release, so nothing here counts characters: cells are split at
``|`` and their values are named by the words of the two header lines. Layouts met so far (widths 80 to 116): 310, 310B
and 310P (``Chip Device``, one memory pair), 910A/B (two pairs, the last is HBM), A3 (``Chip Phy-ID``), 950 (``NPU ID |
Name`` in two cells, ``NPU Util(%)``), and 21.0.x without the huge-pages column. Words: the npu-smi source of
hicann/driver (``npu_info_print.c``). What does not fit the header is a finding and stays unknown; it is never guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from drivers.npu_smi_cells import Column, Field, Pair, Value, header_columns, is_unknown, match_cell
from drivers.pci import normalize_address
from drivers.types import Device, Finding, Health, Severity, Vendor

SOURCE = "ascend"
MAX_LINES = 4096
"""A box of 64 chips prints under 500 lines; more is not this tool's output."""

_BANNER = re.compile(r"\bnpu-smi\s+(\S+)\s+Version:\s*(\S+)")
_RETURN_CODE = re.compile(r"\bret is (-\d{1,9})\b")
_CHIP = re.compile(r"(?:Ascend\s*)?((?:310|910|950)[A-Z0-9_]*(?:-\d{1,2})?)", re.IGNORECASE)
_HEALTH_WORDS = {
    "ok": Health.OK,
    "warning": Health.WARNING,
    "alarm": Health.ALARM,
    "critical": Health.CRITICAL,
    "unknown": Health.UNKNOWN,
}


@dataclass(frozen=True, slots=True)
class NpuInfo:
    """What one ``npu-smi info`` says. ``error_code`` is DCMI's return code when the tool could not start."""

    devices: tuple[Device, ...] = ()
    findings: tuple[Finding, ...] = ()
    driver_version: str | None = None
    error_code: int | None = None


@dataclass
class _Table:
    """The device table while it is read: its header, the first line of a device, and what was found."""

    first: list[list[Column]] | None = None
    second: list[list[Column]] | None = None
    waiting: list[str] | None = None
    skipping: bool = False
    devices: list[Device] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def say(self, code: str, message: str, device: str | None = None) -> None:
        hint = "Run npu-smi info by hand; if it reads well there, send its output to the developers."
        self.findings.append(Finding(code, message, hint, Severity.WARNING, SOURCE, device))


def parse_info(text: str) -> NpuInfo:
    """Parse the whole output of ``npu-smi info`` (stdout; stderr may be appended). Never raises.

    Memory is in bytes (the tool's MB are 1024*1024), free = total - used. ``index`` is the tool's ``Device`` or
    ``Phy-ID``; layouts without such a column leave it unknown (``parse_map`` tells it).
    """
    table = _Table()
    driver_version: str | None = None
    lines = text.splitlines()
    if len(lines) > MAX_LINES:
        table.say("output_too_long", f"npu-smi printed {len(lines)} lines; only the first {MAX_LINES} were read.")
    for line in lines[:MAX_LINES]:
        stripped = line.strip()
        banner = _BANNER.search(stripped)
        if banner is not None:
            driver_version = driver_version or banner[2].rstrip("|")
        elif stripped.startswith("|"):
            _row(table, stripped)
        elif stripped.startswith("+"):
            _end_of_device(table)
        elif "may not be completely installed" in stripped:
            message = "npu-smi warns that the driver package may not be completely installed."
            hint = "Install the driver package again to its end, then the firmware, and reboot."
            table.findings.append(Finding("driver_incomplete", message, hint, Severity.WARNING, SOURCE))
    _end_of_device(table)
    code = _RETURN_CODE.search(text[:65536])
    error_code = int(code[1]) if code is not None else None
    if table.first is None and error_code is None and text.strip() and "no NPU card" not in text:
        table.say("output_not_understood", f"The output of npu-smi info has no table of devices: {_quote(text)}.")
    devices = tuple(_with_driver(device, driver_version) for device in table.devices)
    return NpuInfo(devices, tuple(table.findings), driver_version, error_code)


@dataclass(frozen=True, slots=True)
class MappedChip:
    """One line of ``npu-smi info -m``. ``phy_id`` is the number of the node, told on A3 and 950 only."""

    card_id: int
    chip_id: int
    logic_id: int | None = None
    phy_id: int | None = None

    @property
    def number(self) -> int | None:
        """What selects the chip: ``Chip Logic ID`` and on the 950, which has none, ``Chip Phy-ID``."""
        return self.phy_id if self.logic_id is None else self.logic_id


def parse_chips(text: str) -> tuple[MappedChip, ...]:
    """The chips of ``npu-smi info -m``, those of which the numbers are whole. Never raises.

    Lines of the board's controller (``Mcu``, ``-``) are left out, and a chip that is listed twice differently as well.
    A text that does not end with the end of a line was cut: its last line is not read.
    """
    columns: list[str] | None = None
    found: dict[tuple[int, int], MappedChip] = {}
    unsure: set[tuple[int, int]] = set()
    lines = text.splitlines()[:MAX_LINES]
    for line in lines if text.endswith(("\n", "\r")) else lines[:-1]:
        words = re.split(r"\s{2,}|\t", line.strip())
        if "NPU ID" in words and "Chip ID" in words:
            columns = words
            continue
        if columns is None or not len(columns) - 1 <= len(words) <= len(columns):
            continue
        row = dict(zip(columns, words, strict=False))
        card_id, chip_id = _number(row.get("NPU ID")), _number(row.get("Chip ID"))
        if card_id is None or chip_id is None:
            continue
        chip = MappedChip(card_id, chip_id, _number(row.get("Chip Logic ID")), _number(row.get("Chip Phy-ID")))
        if found.setdefault((card_id, chip_id), chip) != chip:
            unsure.add((card_id, chip_id))
    return tuple(chip for key, chip in found.items() if key not in unsure and chip.number is not None)


def parse_map(text: str) -> dict[tuple[int, int], int]:
    """(NPU id, chip id) -> number that selects the chip, from ``npu-smi info -m``. Never raises."""
    chips = parse_chips(text)
    return {(chip.card_id, chip.chip_id): chip.number for chip in chips if chip.number is not None}


def parse_list(text: str) -> dict[int, int | None]:
    """NPU id -> number of its chips (``None``: not told, as on the 950), from ``npu-smi info -l``. Never raises.

    Nothing when the cards listed are not as many as the list says itself: then it is cut.
    """
    total: int | None = None
    cards: dict[int, int | None] = {}
    last: int | None = None
    for line in text.splitlines()[:MAX_LINES]:
        label, _, value = (part.strip() for part in line.partition(":"))
        number = _number(value)
        if label in ("Total Count", "Card Count"):
            total = number
        elif label == "NPU ID":
            last = number
            if number is not None:
                cards[number] = None
        elif label == "Chip Count" and last is not None:
            cards[last] = number
    return cards if total == len(cards) and text.endswith(("\n", "\r")) else {}


def _number(word: str | None) -> int | None:
    return int(word) if word is not None and word.isascii() and word.isdigit() and len(word) <= 9 else None


def chip_name(name: str, *, has_phy_id: bool = False) -> str | None:
    """Short name of the chip (``910B3``, ``310P3``, ``910C``, ``950PR``); ``None`` for a name of another form.

    All A3 cards are printed as plain ``Ascend910``; only their layout, with its ``Phy-ID``, tells them apart. Newer
    tools print ``Ascend910_93xx`` there.
    """
    match = _CHIP.fullmatch(name)
    if match is None:
        return None
    chip = match[1].upper()
    if chip.startswith("910_93") or (chip == "910" and has_phy_id):
        return "910C"
    # 910ProA, 910ProB, 910PremiumA: bins of the first generation.
    return "910A" if chip.startswith(("910PRO", "910PREMIUM")) else chip


def _row(table: _Table, line: str) -> None:
    """Take one line between bars: a header, the first or second line of a device, or one of another table."""
    if not line.endswith("|") or len(line) < 2:
        # Cut inside a number it would read as another number.
        _end_of_device(table)
        if table.first is not None and not table.skipping:
            table.say("row_cut", f"A line of npu-smi is cut off: {_quote(line)}.")
        return
    cells = [cell.strip() for cell in line[1:-1].split("|")]
    joined = " ".join(cells).lower()
    if "process id" in joined or "process name" in joined:
        _end_of_device(table)
        table.skipping = True
    elif joined.startswith("npu") and "name" in joined and "health" in joined:
        _end_of_device(table)
        table.first, table.second, table.skipping = [header_columns(cell) for cell in cells], None, False
    elif table.skipping or table.first is None or joined.startswith("no running process"):
        return
    elif table.second is None:
        if "bus-id" in joined:
            table.second = [header_columns(cell) for cell in cells]
        else:
            table.say(
                "header_not_understood", f"The table of npu-smi has no Bus-Id line in its header: {_quote(line)}."
            )
            table.skipping = True
    elif table.waiting is None:
        table.waiting = cells
    else:
        first, table.waiting = table.waiting, None
        _device(table, first, cells)


def _end_of_device(table: _Table) -> None:
    if table.waiting is not None:
        table.say("row_cut", f"A device of npu-smi has only its first line: {_quote(' | '.join(table.waiting))}.")
        table.waiting = None


def _device(table: _Table, first: list[str], second: list[str]) -> None:
    """Read the two lines of one device and add it, or say why not."""
    if table.first is None or table.second is None:
        return
    values: dict[Field, Value] = {}
    unread: list[str] = []
    for header, cells in ((table.first, first), (table.second, second)):
        if len(header) != len(cells):
            table.say("row_garbled", f"A line of npu-smi does not fit its header: {_quote(' | '.join(cells))}.")
            return
        for fields, cell in zip(header, cells, strict=True):
            matched = match_cell(fields, cell)
            if matched is None:
                unread.append(cell)
            else:
                values.update(matched)
    card_id, name = values.get(Field.NPU), values.get(Field.NAME)
    health, known_health = _health(values.get(Field.HEALTH))
    bus, known_bus = _bus(values.get(Field.BUS))
    chip_id = values.get(Field.CHIP)
    if not isinstance(card_id, int) or not isinstance(name, str) or not known_health or not known_bus:
        table.say("row_garbled", f"A device of npu-smi could not be read: {_quote(' | '.join(first + second))}.")
        return
    named = {column.field for cell in table.second for column in cell}
    if Field.CHIP in named and not isinstance(chip_id, int):
        table.say("row_garbled", f"A device of npu-smi has no chip number: {_quote(' | '.join(first + second))}.")
        return
    chip = chip_name(name, has_phy_id=Field.PHY_ID in named)
    index = values.get(Field.DEVICE, values.get(Field.PHY_ID))
    kind, total, used = _memory(values)
    utilization = _within(values.get(Field.UTILIZATION), 0, 100)
    device = Device(
        vendor=Vendor.ASCEND,
        index=index if isinstance(index, int) else None,
        name=f"Ascend {chip}" if chip else name,
        chip=chip,
        card_id=card_id,
        chip_id=chip_id if isinstance(chip_id, int) else None,
        pci_address=bus,
        memory_kind=kind,
        memory_total_bytes=total,
        memory_free_bytes=None if total is None or used is None else total - used,
        health=health,
        utilization_percent=utilization,
        temperature_celsius=_within(values.get(Field.TEMPERATURE), -60, 200),
        # 0.0 is what a broken sensor prints (310B4, error code 80E3A203); a chip that answers draws power.
        power_watts=_within(values.get(Field.POWER), 0, 100_000) or None,
        node=f"/dev/davinci{phy_id}" if isinstance(phy_id := values.get(Field.PHY_ID), int) else None,
    )
    if any(other.key == device.key for other in table.devices):
        table.say("row_repeated", f"npu-smi lists {device.key} twice; the first is kept.", device.key)
        return
    table.devices.append(device)
    if unread:
        table.say("row_garbled", f"Parts of {device.key} could not be read: {_quote(' | '.join(unread))}.", device.key)
    if total is None:
        table.say("memory_unknown", f"npu-smi tells no memory for {device.key}; no model is planned on it.", device.key)


def _health(value: Value) -> tuple[Health, bool]:
    """(health, is a health at all). An unknown single word is a new state of the tool: health unknown."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z]+", value):
        return Health.UNKNOWN, isinstance(value, str) and is_unknown(value)
    return _HEALTH_WORDS.get(value.lower(), Health.UNKNOWN), True


def _bus(value: Value) -> tuple[str | None, bool]:
    """(address, is a bus id at all). ``NA``: 310B in system-on-chip mode, 950 on UB servers."""
    if value is None:
        return None, True
    address = normalize_address(value) if isinstance(value, str) else None
    return address, address is not None


def _memory(values: dict[Field, Value]) -> tuple[str | None, int | None, int | None]:
    """(kind, total bytes, used bytes): HBM when the table has it and it is not zero, else DDR.

    910B, A3 and 950 force the first pair to ``0 / 0``; on 910A it is the small DDR beside the HBM that models use.
    """
    for kind, name in (("hbm", Field.HBM), ("ddr", Field.DDR)):
        pair = values.get(name)
        if isinstance(pair, Pair) and pair.total and pair.used is not None and pair.used <= pair.total:
            return kind, pair.total, pair.used
        if isinstance(pair, Pair) and pair.total:
            return None, None, None
    return None, None, None


def _within(value: Value, low: float, high: float) -> float | None:
    return float(value) if isinstance(value, int | float) and low <= value <= high else None


def _with_driver(device: Device, version: str | None) -> Device:
    return replace(device, driver_version=version)


def _quote(text: str) -> str:
    short = " ".join(text.split())
    return repr(short if len(short) <= 160 else short[:157] + "...")
