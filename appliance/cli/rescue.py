"""``r1box rescue``: what is wrong with a box whose daemon is down, and the ways back. The console's Rescue screen runs
these commands; each prints one JSON document with ``--json``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliance.cli.output import print_json, size, stdout
from appliance.errors import AppError

if TYPE_CHECKING:
    from appliance.rescue.look import Surroundings

app = typer.Typer(help="When the box is down: what is wrong, and the ways back.", no_args_is_help=True)

_ROLLBACK_S = 300.0

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class RescueRefused(AppError):
    """It cannot be done here, by this account or on this machine."""

    code = "rescue_refused"
    http_status = 403
    template = "This cannot be done here: {reason}."


@app.command("look")
def look_command(as_json: AsJson = False) -> None:
    """Say what is wrong: the service, the database, the disks, the settings, the end of the log. Changes nothing."""
    from appliance.rescue.look import look

    report = look(_surroundings())
    if as_json:
        typer.echo(report.model_dump_json())
        return
    console = stdout()
    if not report.findings:
        console.print("Nothing is wrong that can be seen from here.")
    for one in report.findings:
        console.print(f"{one.severity.upper():<8} {one.message}", markup=False)
        if one.hint:
            console.print(f"         {one.hint}", markup=False)
    console.print(f"Possible here: {', '.join(report.acts)}")
    for act, reason in report.why_not.items():
        console.print(f"  not {act}: {reason}", markup=False)


@app.command("restart")
def restart(
    safe: Annotated[bool, typer.Option("--safe", help="In safe mode: without a model.")] = False,
    as_json: AsJson = False,
) -> None:
    """Restart the service by systemd; without --safe safe mode ends."""
    from appliance.rescue.safe_mode import set_safe_mode
    from appliance.rescue.systemd import is_there, read_unit
    from appliance.rescue.systemd import restart as restart_unit
    from appliance.settings import load_settings

    unit = read_unit()
    if not is_there(unit):
        raise RescueRefused(reason=f"systemd has no {unit.name}; start the box by hand: r1box serve")
    set_safe_mode(load_settings().state_dir, on=safe)
    restart_unit()
    _done("The box is started" + (", in safe mode: without a model." if safe else "."), as_json=as_json)


@app.command("rollback")
def rollback(
    confirm: Annotated[str | None, typer.Option(help="The word 'rollback', for scripts; asked for otherwise.")] = None,
    as_json: AsJson = False,
) -> None:
    """Start the machine again from its other system, the one from before the update; as root."""
    from appliance.errors import NotConfirmed
    from appliance.rescue.systemd import run_tool

    program = _installer()
    if program is None or not _has_update():
        raise RescueRefused(reason="this box has no other system to go back to")
    if (confirm or typer.prompt("Type rollback to go on", default="", show_default=False)) != "rollback":
        raise NotConfirmed("rollback")
    run_tool([program, "update", "rollback", "--restart"], _ROLLBACK_S)
    _done("The machine restarts with its other system.", as_json=as_json)


@app.command("safe-mode")
def safe_mode(
    state: Annotated[str, typer.Argument(metavar="on|off")],
    as_json: AsJson = False,
) -> None:
    """Have the starts to come be without a model, or with it again."""
    from appliance.rescue.safe_mode import set_safe_mode
    from appliance.settings import load_settings

    if state not in ("on", "off"):
        raise typer.BadParameter("say on or off")
    set_safe_mode(load_settings().state_dir, on=state == "on")
    told = "The next start is without a model." if state == "on" else "The next start loads the model."
    _done(told, as_json=as_json)


@app.command("log")
def log(
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=10_000)] = 200,
    as_json: AsJson = False,
) -> None:
    """Show the end of the log, from the journal or the state folder, without secrets."""
    from appliance.rescue.look import last_lines
    from appliance.settings import load_settings

    found, where = last_lines(load_settings().state_dir, lines)
    if as_json:
        print_json({"schema": 1, "from": where, "lines": list(found)})
        return
    console = stdout()
    for line in found:
        console.print(_plain(line), markup=False)
    if not found:
        console.print("There is no log to be had here.")


@app.command("password")
def password(
    name: Annotated[str, typer.Argument(help="Name of an administrator.")],
    password_stdin: Annotated[bool, typer.Option("--password-stdin", help="Read it from standard input.")] = False,
    as_json: AsJson = False,
) -> None:
    """Give an administrator a new password: as root, at the box's own screen or serial line."""
    from appliance.cli.accounts import console, open_accounts
    from appliance.cli.users import PasswordsDiffer
    from appliance.rescue.console import on_the_box

    refusal = on_the_box()
    if refusal is not None:
        raise RescueRefused(reason=refusal)
    if password_stdin:
        given = sys.stdin.readline().rstrip("\r\n")
    else:
        given = typer.prompt("Password", hide_input=True)
        if given != typer.prompt("The same again", hide_input=True):
            raise PasswordsDiffer
    with open_accounts() as accounts:
        record = accounts.users.set_password(name, given, must_change=False, actor=console())
    _done(f"{record.name} has a new password; all sessions of that person have ended.", as_json=as_json)


@app.command("bundle")
def bundle(
    to: Annotated[Path, typer.Option(help="Folder to write to, such as a stick.")] = Path(),
    without_cards: Annotated[
        bool, typer.Option("--without-cards", help="Do not ask the cards: a driver may hang.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a support bundle: log, settings, versions, what is wrong; without secrets, with a list of what is in it."""
    from importlib.metadata import version

    from appliance.backup.errors import BackupTargetUnusable
    from appliance.rescue.bundle import LOG_LINES, BundleOrder, write_bundle
    from appliance.rescue.look import last_lines, look

    folder = to.absolute()
    if not folder.is_dir():
        raise BackupTargetUnusable(path=folder, reason="there is no such folder")
    around = _surroundings()
    settings = around.settings
    order = BundleOrder(
        settings=settings,
        version=version("r1box"),
        report=look(around).model_dump(mode="json", exclude={"log"}),
        log=last_lines(settings.state_dir, LOG_LINES)[0],
        doctor=None if without_cards else _doctor(settings),
    )
    made = write_bundle(order, folder)
    if as_json:
        typer.echo(made.model_dump_json())
        return
    console = stdout()
    console.print(f"{made.path}  {size(made.size_bytes)}", markup=False)
    for one in made.files:
        console.print(f"  {one.name:<16} {size(one.size_bytes):>10}  {one.about}", markup=False)
    console.print(f"{made.redacted} places that looked like secrets were blotted out. Read it before you send it.")


def _surroundings() -> Surroundings:
    from importlib.metadata import version

    from appliance.backup.service import Backups
    from appliance.jobs.folders import AllowedFolders
    from appliance.paths import default_admin_socket
    from appliance.rescue.look import Surroundings
    from appliance.settings import Settings, load_settings

    problem: AppError | None = None
    try:
        settings = load_settings()
    except AppError as error:
        # Of a box whose settings cannot be read the usual places are looked at all the same.
        problem, settings = error, Settings.model_construct()
    return Surroundings(
        settings=settings,
        settings_problem=problem,
        backups=Backups(settings, version=version("r1box")),
        folders=AllowedFolders(settings.job_folders).now(),
        socket=_socket(settings.admin_socket or default_admin_socket(settings.state_dir)),
        has_update=_has_update(),
    )


def _socket(own: Path) -> Path:
    from appliance.cli.box_client import SERVICE_SOCKET

    return own if own.exists() or not SERVICE_SOCKET.exists() else SERVICE_SOCKET


def _has_update() -> bool:
    """Whether this machine runs from one of two systems, and the program that changes them is here."""
    from drivers.slots import booted_slot, kernel_arguments

    return booted_slot(kernel_arguments()) is not None and _installer() is not None


def _installer() -> str | None:
    """``r1box-install``: beside this program, else where the system has its programs."""
    import shutil

    from drivers.command import minimal_environment

    beside = Path(sys.argv[0]).absolute().parent / "r1box-install"
    return str(beside) if beside.is_file() else shutil.which("r1box-install", path=minimal_environment()["PATH"])


def _doctor(settings: Any) -> Any:
    def examine() -> dict[str, Any]:
        from appliance.jobs.examine import examine as look_at_cards
        from drivers.probe import default_probes, detect

        return look_at_cards(detect(default_probes()), settings.backends_dir)

    return examine


def _done(message: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"message": message})
    else:
        typer.echo(message)


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)
