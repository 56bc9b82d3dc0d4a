"""``r1box-install``: checks an answer file, shows disks and plan, and carries a plan out.

Exit codes: 0 done, 1 a step failed, 2 refused before anything was changed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from drivers.errors import DriverError
from drivers.slots import kernel_arguments, read_environment
from installer.actions import Unmount, to_json
from installer.answers import Answers, DiskMatch, read_answers
from installer.answers_schema import schema_text
from installer.apply import carry_out
from installer.auto import Log, Machine, run_unattended
from installer.drivers_bundle import read_drivers_bundle
from installer.errors import InstallFailed, InstallRefused
from installer.executor import DryRun, SystemExecutor, device_paths, find_disk, run_command
from installer.facts import Facts, gather, read_image
from installer.installation import installation_id
from installer.inventory import BlockDevice, contents, disk_words, parse_inventory, read_inventory
from installer.journal import JOURNAL_NAME, Journal, open_journal, start_journal
from installer.matching import check_consent, judge
from installer.plan import WIPE, Plan, make_plan
from installer.slot import PROBE_POLL_S, BoxProbe, prove_slot
from installer.stages import STAGES
from installer.target import KEYS, ROOT, target_of
from installer.update.cli import app as update_app
from installer.update.errors import UpdateRefused

FAILED, REFUSED = 1, 2
LOCK = Path("/run/r1box-install.lock")
STICK_POLL_S = 3.0

app = typer.Typer(
    help="Install R1 Box on a disk of this machine, from an answer file.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)

app.add_typer(update_app, name="update")

AnswerFile = Annotated[Path, typer.Argument(help="The answer file, TOML.", metavar="ANSWERS")]
Inventory = Annotated[
    Path | None,
    typer.Option(help="Disks of another machine: what lsblk --json --bytes --output-all printed there."),
]
Stick = Annotated[Path | None, typer.Option(help="Folder of the mounted stick, when it is not found by its label.")]
Medium = Annotated[Path | None, typer.Option(help="Folder of the installer's medium, when not started from it.")]
JournalFile = Annotated[
    Path | None, typer.Option(help="Where it is noted what was done. Default: on the stick with the answers.")
]
Unattended = Annotated[bool, typer.Option(help="At the end do what [finish] of the answers says.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def validate(answers: AnswerFile) -> None:
    """Check an answer file. Looks at no disk; works on any machine."""
    read = read_answers(answers)
    typer.echo(f"{answers} can be used.")
    if read.disk.wipe is None:
        typer.echo("It does not say wipe: the installation will ask for the disk's serial or a kernel argument.")


@app.command()
def schema() -> None:
    """Print the JSON Schema of the answer file."""
    typer.echo(schema_text(), nl=False)


@app.command("match-disks")
def match_disks(
    answers: Annotated[Path | None, typer.Argument(help="The answer file; without it all disks are shown.")] = None,
    inventory: Inventory = None,
    as_json: Json = False,
) -> None:
    """Show every disk, what is on it, and which of them [disk.match] means. Exit code 0 when it is exactly one."""
    devices = _devices(inventory)
    read = None if answers is None else read_answers(answers)
    wanted = DiskMatch(path="*") if read is None else read.disk.match
    judged = judge(devices, wanted)
    if as_json:
        rows = [
            {"path": item.disk.path, "serial": item.disk.serial, "wwn": item.disk.wwn, "model": item.disk.model,
             "size_bytes": item.disk.size_bytes, "transport": item.disk.transport, "matches": item.matches,
             "does_not_fit": list(item.misses), "left_out": item.left_out, "held": item.held,
             "contents": list(contents(item.disk))} for item in judged
        ]  # fmt: skip
        typer.echo(json.dumps(rows, indent=2))
    else:
        for item in judged:
            mark = "*" if read is not None and item.matches else " "
            typer.echo(f"{mark} {disk_words(item.disk)}")
            for line in contents(item.disk):
                typer.echo(f"      {line}")
            if item.left_out:
                typer.echo(f"    never installed on: {item.left_out}")
            elif item.misses:
                typer.echo(f"    does not fit: {', '.join(item.misses)}")
            elif item.held:
                typer.echo(f"    cannot be wiped now: {item.held}")
        if not judged:
            typer.echo("This machine shows no disk.")
    if read is not None:
        target_of(gather(devices), read)


@app.command("plan")
def show_plan(
    answers: AnswerFile,
    inventory: Inventory = None,
    stick: Stick = None,
    medium: Medium = None,
    as_json: Json = False,
) -> None:
    """Show every step of the installation. Changes nothing and needs no consent."""
    read = read_answers(answers)
    plan = make_plan(facts_for(read, _devices(inventory), stick, medium), read)
    typer.echo(plan_json(plan) if as_json else plan_text(plan))


@app.command()
def apply(
    answers: AnswerFile,
    wipe: Annotated[str | None, typer.Option(help="Serial number of the disk: the consent to wipe it.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Go through every step and do none.")] = False,
    stick: Stick = None,
    medium: Medium = None,
    journal: JournalFile = None,
    unattended: Unattended = False,
) -> None:
    """Install. Wipes the disk, once its serial was given; what was done is noted so that resume can go on."""
    read = read_answers(answers)
    devices = _devices(None)
    facts = facts_for(read, devices, stick, medium)
    plan = make_plan(facts, read)
    if not plan.steps:
        typer.echo(plan_text(plan))
        return
    if dry_run:
        dry = DryRun(typer.echo)
        for step in plan.steps:
            dry.execute(step.action)
        return
    check_consent(plan.target.disk, [read.disk.wipe, wipe, facts.argument(WIPE)])
    _demand_root()
    with locked():
        noted = start_journal(_journal_path(journal, facts), plan)
        _install(noted, plan.target.disk, read if unattended else None)


@app.command()
def resume(
    answers: Annotated[Path | None, typer.Argument(help="The answer file, to make sure that it is the same.")] = None,
    stick: Stick = None,
    medium: Medium = None,
    journal: JournalFile = None,
    unattended: Unattended = False,
) -> None:
    """Go on with an installation that a power cut or an error stopped."""
    _demand_root()
    with locked():
        SystemExecutor({}, read_inventory, Path(ROOT)).execute(Unmount(str(ROOT)))
        devices = _devices(None)
        read = None if answers is None else read_answers(answers)
        facts = gather(devices, stick=stick) if read is None else facts_for(read, devices, stick, medium)
        wanted = None if read is None else installation_id(facts, read)
        noted = open_journal(_journal_path(journal, facts), wanted)
        disk = find_disk(devices, noted.identity, noted.size_bytes)
        _install(noted, disk, read if unattended else None)


@app.command()
def auto() -> None:
    """What the live medium does by itself: wait for the stick with the answers, install, write the log back to it."""
    _demand_root()
    machine = Machine(read_inventory, lambda answers, devices, stick: facts_for(answers, devices, stick), run_command)
    log = Log(lambda text: typer.echo(text))
    with locked():
        run_command(("udevadm", "settle", "--timeout=60"), 90.0, (0, 1))
        after = run_unattended(machine, log, lambda: time.sleep(STICK_POLL_S))
    if after == "failed":
        sys.exit(FAILED)
    _then(after)


@app.command("prove-slot")
def prove_slot_command() -> None:
    """On an installed box: wait until it serves, then take this system as a good one. Exit code 1 when it does not."""
    _demand_root()
    with BoxProbe() as probe:
        prove_slot(
            kernel_arguments(), probe, run_command, typer.echo, lambda: time.sleep(PROBE_POLL_S), read_environment()
        )


def _install(noted: Journal, disk: BlockDevice, finish: Answers | None) -> None:
    """Carries out what is left and does what ``finish`` says at the end. Raises InstallFailed."""
    executor = SystemExecutor(device_paths(disk), read_inventory, Path(ROOT))
    try:
        carry_out(noted, executor, typer.echo)
    except InstallFailed:
        with contextlib.suppress(InstallFailed):
            executor.execute(Unmount(str(ROOT)))
        if finish is not None:
            _then(finish.finish.on_error)
        raise
    typer.echo("R1 Box is installed.")
    if finish is not None:
        _then(finish.finish.on_success)


def _then(what: str) -> None:
    if what != "stay":
        run_command(["systemctl", what], 60.0, (0,))


def _demand_root() -> None:
    if os.geteuid() != 0:
        raise InstallRefused("machine_unfit", "Installing needs root.", "Run it with sudo.")


@contextlib.contextmanager
def locked(path: Path = LOCK) -> Iterator[None]:
    """Two installations at once would write to one disk. Raises InstallRefused (``machine_unfit``)."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InstallRefused("machine_unfit", "Another r1box-install is at work.", "Wait for its end.") from error
        yield


def _journal_path(given: Path | None, facts: Facts) -> Path:
    """On the stick: the machine's own memory forgets it with the power."""
    return given or (facts.stick or Path("/run/r1box")) / JOURNAL_NAME


def _devices(inventory: Path | None) -> tuple[BlockDevice, ...]:
    if inventory is None:
        return read_inventory()
    try:
        return parse_inventory(inventory.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InstallRefused("inventory_unreadable", f"{inventory} cannot be read.", "Check its name.") from error


def facts_for(
    answers: Answers, devices: tuple[BlockDevice, ...], stick: Path | None = None, medium: Path | None = None
) -> Facts:
    """This machine's facts with what these answers need from the stick. Raises InstallRefused."""
    wanted = answers.accelerator.bundle
    bundles = (*answers.models.bundles, *((wanted,) if wanted else ()))
    facts = gather(devices, bundles=bundles, stick=stick, image=None if medium is None else read_image(medium))
    if wanted is None or answers.accelerator.vendor == "none" or facts.stick is None or wanted not in facts.carried:
        return facts
    return facts.with_drivers(read_drivers_bundle(facts.stick / wanted, Path(KEYS)))


def plan_text(plan: Plan) -> str:
    """The plan for reading: what is lost first, then every step."""
    disk = plan.target.disk
    if not plan.steps:
        return f"{disk_words(disk)} has this installation already; nothing to do."
    lines = [f"Install on {disk_words(disk)}", "", "What is on it now, and will be lost:"]
    kept = ' except the partition "models"' if plan.target.keeps_models else ""
    lines[-1] = f"What is on it now, and will be lost{kept}:"
    lines += [f"  {line}" for line in contents(disk)]
    number = 0
    for stage in STAGES:
        steps = [step for step in plan.steps if step.stage == stage.name]
        if not steps:
            continue
        lines += ["", stage.title]
        for step in steps:
            number += 1
            lines.append(f"  {number:3} {'!' if step.action.destroys else ' '} {step.action.describe()}")
    lines += [
        "",
        f"@disk is {disk.path}, @1 to @6 its partitions. Steps with ! destroy what was there.",
        f"Plan {plan.hash}",
    ]
    return "\n".join(lines)


def plan_json(plan: Plan) -> str:
    """The plan for programs; secrets of the answers are in it."""
    steps = [{"stage": step.stage, **to_json(step.action)} for step in plan.steps]
    disk = plan.target.disk
    return json.dumps(
        {"hash": plan.hash, "disk": disk.path, "identity": plan.target.identity, "steps": steps}, indent=2
    )


def main() -> None:
    """Entry point. Errors are told in two lines, without a traceback."""
    try:
        app()
    except DriverError as error:
        typer.echo(f"r1box-install: {error.message}", err=True)
        if error.hint:
            typer.echo(f"  {error.hint}", err=True)
        sys.exit(REFUSED if isinstance(error, InstallRefused | UpdateRefused) else FAILED)


if __name__ == "__main__":
    main()
