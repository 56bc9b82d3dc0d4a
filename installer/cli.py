"""``r1box-install``: checks an answer file, shows disks and plan, and carries a plan out.

Exit codes: 0 done, 1 a step failed, 2 refused before anything was changed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from drivers.errors import DriverError
from installer.actions import to_json
from installer.answers import Answers, DiskMatch, read_answers
from installer.answers_schema import schema_text
from installer.drivers_bundle import read_drivers_bundle
from installer.errors import InstallRefused
from installer.facts import Facts, gather, read_image
from installer.inventory import BlockDevice, contents, disk_words, parse_inventory, read_inventory
from installer.matching import judge
from installer.plan import Plan, make_plan
from installer.stages import STAGES
from installer.target import target_of

FAILED, REFUSED = 1, 2
KEYS_FOLDER = Path("/usr/lib/r1box/trusted-keys")

app = typer.Typer(
    help="Install R1 Box on a disk of this machine, from an answer file.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)

AnswerFile = Annotated[Path, typer.Argument(help="The answer file, TOML.", metavar="ANSWERS")]
Inventory = Annotated[
    Path | None,
    typer.Option(help="Disks of another machine: what lsblk --json --bytes --output-all printed there."),
]
Stick = Annotated[Path | None, typer.Option(help="Folder of the mounted stick, when it is not found by its label.")]
Medium = Annotated[Path | None, typer.Option(help="Folder of the installer's medium, when not started from it.")]
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
    return facts.with_drivers(read_drivers_bundle(facts.stick / wanted, KEYS_FOLDER))


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
        sys.exit(REFUSED if isinstance(error, InstallRefused) else FAILED)


if __name__ == "__main__":
    main()
