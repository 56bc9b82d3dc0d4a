"""``r1box doctor``: the way from the slot to the engine as a checklist, with a fix for each break.

Changes nothing and needs no network. Exit codes (docs/troubleshooting.md): 0, or ``EXIT_CANNOT_SERVE``.
"""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from appliance.cli.output import can_show, print_json, stdout, waiting_note

if TYPE_CHECKING:
    from appliance.cli.doctor_view import Marks
    from drivers.compute_types import ComputeResult
    from drivers.doctor_types import DoctorReport, EngineFacts
    from drivers.types import HardwareSnapshot, Software

EXIT_CANNOT_SERVE = 3
"""The machine has cards and cannot serve from them (with ``--require-cards``: or has none)."""
SERVICE_USER = "r1box"

app = typer.Typer(invoke_without_command=True)

Machine = Annotated[
    Path | None,
    typer.Option(help="Judge another machine: a file that 'r1box detect --json' printed there.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback(invoke_without_command=True)
def doctor_command(
    context: typer.Context,
    as_json: AsJson = False,
    machine: Machine = None,
    vendor: Annotated[
        list[str] | None, typer.Option(help="Only this vendor (nvidia, ascend), there or not. Repeatable.")
    ] = None,
    fix: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Print only the commands for the breaks of one layer or code, or 'all'. Runs nothing.",
        ),
    ] = None,
    compute: Annotated[
        bool, typer.Option("--compute", help="Let each card compute and check the result. Takes memory and minutes.")
    ] = False,
    venv: Annotated[
        Path | None,
        typer.Option(help="Look for torch and vLLM in this virtual environment.", show_default=False),
    ] = None,
    require_cards: Annotated[bool, typer.Option("--require-cards", help="A machine without a card fails too.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Every known pair of versions.")] = False,
) -> None:
    """Check the way from the cards to the engine and say how to fix each break. 'doctor card ID' shows one card."""
    if context.invoked_subcommand is not None:
        return
    from drivers.vendors import VENDORS

    labels = {one.name: one.label for one in VENDORS}
    for name in vendor or ():
        if name not in labels:
            raise typer.BadParameter(f"no such vendor: {name}; known are {', '.join(labels)}", param_hint="--vendor")
    if machine is not None and (compute or venv is not None):
        raise typer.BadParameter("--compute and --venv look at this machine, not at another", param_hint="--machine")
    if machine is None and venv is None:
        venv = _engine_environment()
    report = _examine(machine, labels, vendor or [], compute=compute, venv=venv)
    if fix is not None:
        _print_fixes(report, fix)
        return
    if as_json:
        from drivers.doctor_json import report_to_dict

        print_json(report_to_dict(report))
    else:
        from appliance.cli.doctor_view import report_lines

        console = stdout()
        width = console.width if console.is_terminal else None
        _print(report_lines(report, marks=_marks(), width=width, everything=everything))
    if not report.serves_from_cards and (report.has_cards or require_cards):
        raise typer.Exit(EXIT_CANNOT_SERVE)


@app.command("card")
def card_command(
    wanted: Annotated[
        str, typer.Argument(metavar="ID", help="Card id, device key (ascend:32768.0), PCI address, UUID or index.")
    ],
    as_json: AsJson = False,
    machine: Machine = None,
) -> None:
    """Show everything that is known of one card: memory, faults, links, programs, and what is wrong with it."""
    from appliance.cli.doctor_card import card_lines
    from drivers.doctor import find_devices
    from drivers.errors import DriverError, printable
    from drivers.snapshot_json import to_dict

    snapshot = _snapshot(machine)
    devices = find_devices(snapshot, wanted)
    if not devices:
        known = ", ".join(device.key for device in snapshot.devices) or "none"
        message = f"There is no card {printable(wanted[:60])!r} here."
        raise DriverError("device_unknown", message, f"Devices here: {known}.", http_status=404)
    if as_json:
        keys = {device.key for device in devices}
        values = to_dict(snapshot)
        chosen = [one for one, device in zip(values["devices"], snapshot.devices, strict=True) if device in devices]
        findings = [one for one in values["findings"] if one["device"] in keys]
        print_json({"schema": 1, "devices": chosen, "findings": findings})
        return
    for number, device in enumerate(devices):
        _print([*([""] if number else []), *card_lines(device, snapshot, marks=_marks())])


def _examine(
    machine: Path | None, labels: dict[str, str], asked: list[str], *, compute: bool, venv: Path | None
) -> DoctorReport:
    from drivers.doctor import diagnose
    from drivers.doctor_types import EngineFacts
    from drivers.nodes import in_container
    from drivers.requirements import load_requirements

    snapshot = _snapshot(machine)
    results: tuple[ComputeResult, ...] | None = None
    installed: tuple[Software, ...] = ()
    # Of another machine nothing is known but what its file says.
    engine = EngineFacts("llama.cpp")
    if machine is None:
        installed, engine = _installed(venv)
        if compute:
            results = _compute(snapshot, venv)
    return diagnose(
        snapshot,
        installed,
        engine,
        load_requirements(),
        labels=labels,
        asked=tuple(dict.fromkeys(asked)),
        user=_service_user(),
        in_container=machine is None and in_container(Path("/")),
        compute=results,
    )


def _snapshot(machine: Path | None) -> HardwareSnapshot:
    from appliance.errors import UnreadableFile
    from drivers.probe import default_probes, detect
    from drivers.snapshot_json import from_json

    if machine is None:
        with waiting_note("Asking the cards"):
            return detect(default_probes())
    try:
        return from_json(machine.read_bytes())
    except OSError as error:
        raise UnreadableFile(path=str(machine), reason=(error.strerror or str(error)).lower()) from error


def _installed(venv: Path | None) -> tuple[tuple[Software, ...], EngineFacts]:
    """Engines and packages of this program, and with ``venv`` those there instead of our own torch and vLLM."""
    from appliance.model_setup import engine_vendors
    from appliance.settings import load_settings
    from drivers.doctor_types import EngineFacts
    from drivers.software import llama_folders, read_llama_cuda, read_python

    backends_dir = load_settings().backends_dir
    own = read_python()
    llama = next((one for one in own if one.name == "llama-cpp-python"), None)
    cuda = read_llama_cuda((*llama_folders(), *(() if backends_dir is None else (backends_dir,))))
    others = own if venv is None else (*((llama,) if llama else ()), *read_python(_site_packages(venv)))
    vendors = frozenset(str(one) for one in engine_vendors(backends_dir))
    engine = EngineFacts("llama.cpp", None if llama is None else llama.version, vendors)
    return (*others, *((cuda,) if cuda else ())), engine


def _engine_environment() -> Path | None:
    """The environment of the big engine, where the settings name one: its versions are what has to go together."""
    from appliance.settings import load_settings

    python = load_settings().engine_python
    return None if python is None else python.parent.parent


def _site_packages(venv: Path) -> Path:
    found = sorted(venv.glob("lib/python3*/site-packages"))
    if not found:
        raise typer.BadParameter(
            f"{venv} is no virtual environment: no lib/python3*/site-packages", param_hint="--venv"
        )
    return found[0]


def _compute(snapshot: HardwareSnapshot, venv: Path | None) -> tuple[ComputeResult, ...]:
    from appliance.settings import load_settings
    from drivers.compute import run_compute_checks

    # A frozen program is no Python that could import torch: the system's may.
    own = "/usr/bin/python3" if getattr(sys, "frozen", False) else sys.executable
    python = own if venv is None else str(venv / "bin" / "python")
    with waiting_note("The cards compute"):
        return run_compute_checks(snapshot, backends_dir=load_settings().backends_dir, torch_python=python)


def _service_user() -> str:
    """Who runs the daemon: root asks for the service's user, anybody else for himself."""
    if os.geteuid() == 0:
        return SERVICE_USER
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return SERVICE_USER


def _print_fixes(report: DoctorReport, wanted: str) -> None:
    from appliance.cli.doctor_view import fix_lines, layer_names
    from drivers.types import Layer

    wanted = wanted.lower()
    lines = list(fix_lines(report, wanted))
    if not lines:
        known = {layer.value for layer in Layer} | {"all", "cards", "cann", "cuda"}
        if wanted not in known:
            there = sorted(
                {name for one in report.vendors for b in one.breaks for name in (*layer_names(one, b), b.code)}
            )
            shown = ", ".join(there) or "none: nothing is broken"
            raise typer.BadParameter(f"nothing is called {wanted}; breaks there are {shown}", param_hint="--fix")
        _print([f"# Nothing to fix: {wanted}"])
        return
    _print(["# Commands to run by hand; r1box has changed nothing.", *lines[:-1]])


def _marks() -> Marks:
    from appliance.cli.doctor_view import SIGNS, WORDS

    return SIGNS if can_show(stdout(), "✓✗…") else WORDS


def _print(lines: Iterable[str]) -> None:
    """Lines with their marks in colour where the terminal has colours; what its encoding lacks becomes ``?``."""
    console = stdout()
    for line in lines:
        text = Text(line.encode(console.encoding, "replace").decode(console.encoding))
        text.highlight_regex(r"(?<!\S)(✗|FAIL)(?!\S)", "bold red")
        text.highlight_regex(r"(?<!\S)(✓|ok)(?!\S)", "green")
        text.highlight_regex(r"^(!|\?)(?= )|(?<!\S)(…|wait)(?!\S)", "bold yellow")
        text.highlight_regex(r"^\s*\[r1box .*\]$", "dim")
        console.print(text)
