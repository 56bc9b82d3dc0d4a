"""``r1box detect``: what this machine has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from appliance.cli.output import can_show, stdout, waiting_note

if TYPE_CHECKING:
    from drivers.types import HardwareSnapshot


def detect_command(
    machine: Annotated[
        Path | None,
        typer.Option(help="Show another machine: a file that 'r1box detect --json' printed there."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    as_schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of --json.")] = False,
) -> None:
    """Find the host's processor, memory and disks and every accelerator card, and say what is wrong with them."""
    if as_schema:
        from drivers.snapshot_schema import schema_json

        typer.echo(schema_json(), nl=False)
        return
    snapshot = _detected() if machine is None else read_snapshot(machine)
    if as_json:
        _print_json(snapshot)
        return
    print_snapshot(snapshot)


def read_snapshot(machine: Path) -> HardwareSnapshot:
    """The machine that a file describes. Raises ``UnreadableFile`` and ``drivers.snapshot_json.SnapshotError``."""
    from appliance.errors import UnreadableFile
    from drivers.snapshot_json import MAX_TEXT_BYTES, from_json

    try:
        with machine.open("rb") as file:
            return from_json(file.read(MAX_TEXT_BYTES + 1))
    except OSError as error:
        raise UnreadableFile(path=str(machine), reason=(error.strerror or str(error)).lower()) from error


def print_snapshot(snapshot: HardwareSnapshot, console: Console | None = None) -> None:
    """Host, devices, findings and broken layers; as wide as the terminal, and what is piped as wide as it is."""
    from appliance.cli.detect_rows import ASCII, EVERY_SIGN, UNICODE
    from appliance.cli.detect_view import snapshot_lines
    from drivers.vendors import VENDORS

    console = stdout() if console is None else console
    lines = snapshot_lines(
        snapshot,
        width=console.width if console.is_terminal else None,
        glyphs=UNICODE if can_show(console, EVERY_SIGN) else ASCII,
        labels={vendor.name: vendor.label for vendor in VENDORS},
    )
    for line in lines:
        line.rstrip()
        if not can_show(console, line.plain):
            line.plain = line.plain.encode(console.encoding, "replace").decode(console.encoding)
        console.print(line)


def _detected() -> HardwareSnapshot:
    from drivers.probe import default_probes, detect

    with waiting_note("Asking the cards' drivers; one that hangs is given up after a while"):
        return detect(default_probes())


def _print_json(snapshot: HardwareSnapshot) -> None:
    from drivers.snapshot_json import to_dict, to_json

    text = to_json(snapshot)
    # The same document in escapes where the output has no letters beyond its own.
    typer.echo(text if can_show(stdout(), text) else json.dumps(to_dict(snapshot), indent=2))
