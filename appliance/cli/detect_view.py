"""A snapshot as lines for people: host, table of devices, findings, layers. Pure: values in, lines out.

Names, messages and faults come from drivers, tools and files of other machines: they are shown without control
characters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from appliance.cli.detect_rows import NO_ANSWER, UNICODE, Glyphs, Row, clean, device_rows
from appliance.cli.output import GIB, size
from drivers.types import Finding, HardwareSnapshot, Host, LayerReport, LayerState, Severity

_BAR_CELLS = 10
_WIDE_BAR_CELLS = 20
_WIDE_COLUMNS = 120
_SHORTEST_BAR = 4
_SHORTEST_CHIP = 8
_GAP = "  "
_MANY_GIB = 64
"""From here on tenths of a GiB tell nothing."""
_TITLE_CELLS = 7


_STATE_STYLES = {LayerState.OK: "green", LayerState.BROKEN: "bold red", LayerState.WAITING: "yellow"}
_HEALTH_STYLES = {"OK": "green", "warning": "yellow", "alarm": "red", "critical": "bold red", "unknown": "dim"}
_SEVERITIES = (Severity.ERROR, Severity.WARNING, Severity.INFO)
_SEVERITY_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "bold yellow", Severity.INFO: "bold blue"}
_HEADER = Row("Card", "Device", "Chip", None, "Memory", "Use", "Temp", "Power", "Health")


def snapshot_lines(
    snapshot: HardwareSnapshot, *, width: int | None, glyphs: Glyphs = UNICODE, labels: Mapping[str, str] | None = None
) -> list[Text]:
    """All lines, none longer than ``width`` columns as far as their words allow (``None``: as long as they are).

    ``labels`` are the vendors' names by their ``Device.vendor``.
    """
    labels = labels or {}
    lines = list(_pieces("Host", _host(snapshot.host), width, glyphs))
    lines += _pieces("Stack", _stack(snapshot, labels), width, glyphs, style="dim")
    if snapshot.devices:
        lines += _table(device_rows(snapshot.devices, glyphs), width, glyphs)
    if not any(device.layers.library not in NO_ANSWER for device in snapshot.devices):
        none = "No card answers." if _cards_seen(snapshot) else "No accelerator card was found."
        lines += _wrapped(Text(), f"{none} Models run on the processor.", width)
    for severity in _SEVERITIES:
        for finding in snapshot.findings:
            if finding.severity is severity:
                lines += _finding(finding, width, glyphs)
    lines += _layers(snapshot, width, glyphs, labels)
    return lines


def _cards_seen(snapshot: HardwareSnapshot) -> bool:
    reached = (LayerState.OK, LayerState.WAITING)
    return bool(snapshot.devices) or any(one.layer == "pci" and one.state in reached for one in snapshot.layers)


def _host(host: Host) -> list[str]:
    parts = [clean(host.cpu_model) if host.cpu_model else "unknown processor"]
    if host.cpu_cores:
        parts.append(f"{host.cpu_cores} core{'s' if host.cpu_cores > 1 else ''}")
    if host.memory_total_bytes is not None:
        digits = 0 if host.memory_total_bytes >= _MANY_GIB * GIB else 1
        free = host.memory_available_bytes
        told = "" if free is None else f" ({free / GIB:,.{digits}f} free)"
        parts.append(f"{host.memory_total_bytes / GIB:,.{digits}f} GiB{told}")
    largest = max(host.disks, key=lambda disk: disk.free_bytes, default=None)
    if largest is not None:
        free_tib = largest.free_bytes / GIB / 1024
        words = f"{free_tib:,.1f} TiB" if free_tib >= 1 else size(largest.free_bytes)
        parts.append(f"{clean(largest.mount_point)} {words} free")
    return parts


def _stack(snapshot: HardwareSnapshot, labels: Mapping[str, str]) -> list[str]:
    """Installed parts by name; without them the drivers that the devices name."""
    named = [f"{one.name} {one.version}" for one in snapshot.software]
    if not named:
        drivers = [(device.vendor, device.driver_version) for device in snapshot.devices if device.driver_version]
        named = [f"{labels.get(vendor, vendor)} driver {version}" for vendor, version in dict.fromkeys(drivers)]
    return [clean(name) for name in named]


def _pieces(title: str, parts: Sequence[str], width: int | None, glyphs: Glyphs, style: str = "") -> Iterator[Text]:
    """``Host   a · b · c``, going on below the first part where a line is full."""
    if not parts:
        return
    line = Text.assemble((f"{title:<{_TITLE_CELLS}}", "bold"), (parts[0], style))
    for part in parts[1:]:
        if width is not None and line.cell_len + len(glyphs.between) + cell_len(part) > width:
            yield line
            line = Text(" " * _TITLE_CELLS)
        else:
            line.append(glyphs.between, style)
        line.append(part, style)
    yield line


def _table(rows: Iterator[Row], width: int | None, glyphs: Glyphs) -> Iterator[Text]:
    """Header and rows. Where a line would be too long the bar gets shorter, then the chip's name; details that do not
    fit beside the health stand below."""
    table = [_HEADER, *rows]
    widest = {
        name: max(cell_len(getattr(row, name)) for row in table)
        for name in ("card", "device", "chip", "memory", "use", "temperature", "power", "health")
    }
    bar = _WIDE_BAR_CELLS if width is not None and width >= _WIDE_COLUMNS else _BAR_CELLS
    if not any(row.used is not None for row in table):
        bar = 0
    # beside a bar the memory's words are right-aligned, so that their column is that of the rows with a bar
    words = max((cell_len(row.memory) for row in table if row.used is not None), default=0)
    if width is not None:
        others = sum(widest[name] for name in widest if name != "memory") + len(_GAP) * (len(widest) - 1)
        while bar > _SHORTEST_BAR and others + max(bar + 1 + words, widest["memory"]) > width:
            bar -= 1
        excess = others + max(bar + 1 + words, widest["memory"]) - width
        if excess > 0:
            widest["chip"] = max(_SHORTEST_CHIP, widest["chip"] - excess)
    widest["memory"] = max(widest["memory"], bar + 1 + words if bar else 0)
    for row in table:
        yield from _table_row(row, widest, bar, width, glyphs)


def _table_row(row: Row, widest: Mapping[str, int], bar: int, width: int | None, glyphs: Glyphs) -> Iterator[Text]:
    style = "bold" if row is _HEADER else "dim" if row.dim else ""
    line = Text(style=style)
    for name in ("card", "device", "chip"):
        line.append(_padded(getattr(row, name), widest[name], glyphs) + _GAP)
    indent = line.cell_len - widest["chip"] - len(_GAP)
    if row.used is not None:
        full = max(round(bar * row.used), 1 if row.used >= 0.01 else 0)
        line.append(glyphs.full * full, "cyan")
        line.append(glyphs.empty * (bar - full), "dim")
        line.append(" " + row.memory.rjust(widest["memory"] - bar - 1) + _GAP)
    else:
        # under the bars' numbers; a device without an answer has none, and its words begin the column
        right = bar and not row.dim and row is not _HEADER
        line.append((row.memory.rjust if right else row.memory.ljust)(widest["memory"]) + _GAP)
    for name in ("use", "temperature", "power"):
        line.append(getattr(row, name).rjust(widest[name]) + _GAP)
    line.append(row.health, _HEALTH_STYLES.get(row.health, ""))
    details = glyphs.between.join(row.details)
    if not details:
        yield line
    elif width is None or line.cell_len + len(glyphs.between) + cell_len(details) <= width:
        line.append(glyphs.between + details)
        yield line
    else:
        yield line
        yield from _wrapped(Text(" " * indent), details, width)


def _padded(text: str, columns: int, glyphs: Glyphs) -> str:
    """Cut with a sign that says so, or filled up."""
    if cell_len(text) > columns:
        return set_cell_size(text, columns - 1) + glyphs.cut
    return set_cell_size(text, columns)


def _finding(finding: Finding, width: int | None, glyphs: Glyphs) -> Iterator[Text]:
    mark = {Severity.ERROR: glyphs.error, Severity.WARNING: "!", Severity.INFO: "i"}[finding.severity]
    yield Text()
    yield from _wrapped(Text.assemble((f"{mark} ", _SEVERITY_STYLES[finding.severity])), clean(finding.message), width)
    if finding.hint:
        yield from _wrapped(Text("  Next: "), clean(finding.hint), width)


def _layers(snapshot: HardwareSnapshot, width: int | None, glyphs: Glyphs, labels: Mapping[str, str]) -> Iterator[Text]:
    """One line for each vendor with a broken layer, and where to go from here."""
    broken = [one.vendor for one in snapshot.layers if one.state in (LayerState.BROKEN, LayerState.WAITING)]
    vendors = list(dict.fromkeys(broken))
    if not vendors and not any(finding.severity is Severity.ERROR for finding in snapshot.findings):
        return
    yield Text()
    for vendor in vendors:
        line = Text.assemble((f"{labels.get(vendor, clean(vendor)):<{_TITLE_CELLS - 1}} ", "bold"))
        for number, report in enumerate(one for one in snapshot.layers if _is_step_of(one, vendor)):
            piece = _layer(report, glyphs)
            if number and width is not None and line.cell_len + 3 + piece.cell_len > width:
                yield line
                line = Text(" " * _TITLE_CELLS)
            elif number:
                line.append("   ")
            line.append_text(piece)
        yield line
    yield from _wrapped(
        Text(), "r1box doctor goes from the PCI bus to the engine and says what mends each step.", width
    )


def _is_step_of(report: LayerReport, vendor: str) -> bool:
    return report.vendor == vendor and report.state is not LayerState.NOT_NEEDED


def _layer(report: LayerReport, glyphs: Glyphs) -> Text:
    name = "PCI" if report.layer == "pci" else report.layer.value
    piece = Text.assemble(f"{name} ", (glyphs.states[report.state], _STATE_STYLES.get(report.state, "")))
    return piece.append(f" {clean(report.detail)}") if report.detail else piece


def _wrapped(first: Text, text: str, width: int | None) -> Iterator[Text]:
    """``text`` behind ``first``, going on below its own beginning; a word is never cut."""
    line, indent = first, first.cell_len
    begun = False
    for word in text.split(" "):
        if begun and width is not None and line.cell_len + 1 + cell_len(word) > width:
            yield line
            line, begun = Text(" " * indent), False
        line.append(f" {word}" if begun else word)
        begun = True
    yield line
