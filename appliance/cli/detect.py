"""``r1box detect``: what this machine has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from appliance.cli.output import size, stdout

if TYPE_CHECKING:
    from drivers.types import Device, HardwareSnapshot

_BAR_CELLS = 10
_MARKS = {"error": "[bold red]x[/]", "warning": "[bold yellow]![/]", "info": "[bold blue]i[/]"}
_HEALTH_COLOURS = {"ok": "green", "warning": "yellow", "alarm": "red", "critical": "bold red", "unknown": "dim"}


def detect_command(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Find the host's processor, memory and disks and every accelerator card, and say what is wrong with them."""
    from drivers.probe import default_probes, detect
    from drivers.snapshot_json import to_json

    snapshot = detect(default_probes())
    if as_json:
        typer.echo(to_json(snapshot))
        return
    print_snapshot(snapshot)


def print_snapshot(snapshot: HardwareSnapshot) -> None:
    """Host line, table of devices, findings."""
    console = stdout()
    host = snapshot.host
    parts = [
        host.cpu_model or "unknown processor",
        f"{host.cpu_cores} cores" if host.cpu_cores else None,
        f"{size(host.memory_total_bytes)} ({size(host.memory_available_bytes)} available)",
    ]
    largest = max(host.disks, key=lambda disk: disk.free_bytes, default=None)
    if largest is not None:
        parts.append(f"{largest.mount_point} {size(largest.free_bytes)} free")
    console.print("[bold]Host[/]   " + escape(" · ".join(part for part in parts if part)))
    if snapshot.devices:
        console.print(_device_table(snapshot.devices))
    else:
        console.print("No accelerator card answers. Models run on the processor.")
    for finding in snapshot.findings:
        console.print(f"\n{_MARKS[finding.severity.value]} {escape(finding.message)}")
        if finding.hint:
            console.print(f"  Next: {escape(finding.hint)}")


def _device_table(devices: tuple[Device, ...]) -> Table:
    table = Table("Card", "Device", "Chip", "Memory", "Use", "Temp", "Power", "Health", box=None, header_style="bold")
    for device in devices:
        table.add_row(
            "-" if device.card_id is None else str(device.card_id),
            "-" if device.index is None else str(device.index),
            escape(device.chip or device.name),
            _memory(device),
            _value(device.utilization_percent, "%"),
            _value(device.temperature_celsius, "°C"),
            _value(device.power_watts, "W"),
            f"[{_HEALTH_COLOURS[device.health.value]}]{device.health.value}[/]",
        )
    return table


def _memory(device: Device) -> str:
    total, free = device.memory_total_bytes, device.memory_free_bytes
    if not total:
        return "-"
    if free is None:
        return size(total)
    used = total - free
    cells = round(_BAR_CELLS * used / total)
    shared = " shared with the host" if device.unified_memory else ""
    return f"{'█' * cells}{'░' * (_BAR_CELLS - cells)} {used / 1024**3:.1f} / {size(total)}{shared}"


def _value(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.0f} {unit}"
