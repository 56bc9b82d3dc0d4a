"""``r1box-install update``: for root on an installed box, also when the service does not run."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from drivers.slots import Slots
from installer.errors import InstallRefused
from installer.executor import run_command
from installer.update.door import serve
from installer.update.rauc import Rauc
from installer.update.work import Updater, judge_bundle

REJECTED = 10
"""RAUC: a hook that ends with 10 or more refuses the bundle, and its last line on stderr is the reason."""

app = typer.Typer(
    help="Update this box, see its two systems, go back to the earlier one.", no_args_is_help=True, add_completion=False
)

Restart = Annotated[bool, typer.Option("--restart", help="Restart the machine afterwards.")]


@app.command()
def status(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show both systems: which one runs, which one is started next, their versions."""
    slots = Rauc().slots()
    typer.echo(json.dumps(asdict(slots), indent=2) if as_json else slots_text(slots))


@app.command()
def install(
    file: Annotated[Path, typer.Argument(help="The update, a file *.raucb.")], restart: Restart = False
) -> None:
    """Write an update into the system that does not run. The running one is not touched."""
    updater = _updater()
    shown = ""

    def report(phase: str, fraction: float | None) -> None:
        nonlocal shown
        text = phase if fraction is None else f"{fraction:4.0%}  {phase}"
        if text != shown:
            shown = text
            typer.echo(text)

    done = updater.install(file.absolute(), report)
    typer.echo(f"R1 Box {done.version} is in slot {done.slot} and is started next.")
    _then(updater, restart)


@app.command()
def rollback(restart: Restart = False) -> None:
    """Have the other system started next: the one from before the last update."""
    updater = _updater()
    done = updater.roll_back()
    typer.echo(f"Slot {done.slot} (R1 Box {done.version or 'of an unknown version'}) is started next.")
    _then(updater, restart)


@app.command(hidden=True)
def judge(folder: Annotated[Path, typer.Argument(help="The content of a bundle.")]) -> None:
    """What a bundle's hook asks: would this update break the cards here? Ends with 10 and the reason when it would."""
    problems = judge_bundle(folder)
    if problems:
        typer.echo(" ".join(problems), err=True)
        sys.exit(REJECTED)


@app.command("serve", hidden=True)
def serve_door() -> None:
    """The door for the daemon, started by systemd for a connection."""
    if not serve(_updater(), sys.stdin, sys.stdout):
        sys.exit(1)


def slots_text(slots: Slots) -> str:
    """The slots for reading."""
    lines = []
    for one in slots.slots:
        words = ["runs now"] if one.booted else []
        words += ["is started next"] if one.name == slots.next else []
        words.append("good" if one.good else "holds no system that may be started")
        if one.tried and one.good:
            words.append("not proved yet" if one.booted else "was tried and did not serve")
        lines.append(f"{one.name}  {one.version or 'unknown version':20} {', '.join(words)}")
    if slots.fell_back is not None:
        lines.append(f"The system in slot {slots.fell_back} did not serve; this one was started instead.")
    if slots.rescue:
        lines.append("Neither system has proved itself: this start is a rescue.")
    return "\n".join(lines)


def _updater() -> Updater:
    if os.geteuid() != 0:
        raise InstallRefused("machine_unfit", "Updating needs root.", "Run it with sudo.")
    return Updater(Rauc(), run_command)


def _then(updater: Updater, restart: bool) -> None:
    if restart:
        updater.restart()
    else:
        typer.echo("It begins with the next restart: systemctl reboot")
