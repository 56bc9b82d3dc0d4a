"""``r1box backup``: make, look into and restore backups. Works beside a running daemon, and without one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliance.cli.output import copy_progress, print_json, size, stderr, stdout

if TYPE_CHECKING:
    from appliance.backup.service import Backups

app = typer.Typer(help="Make, check and restore backups of users, keys, chats and settings.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
FromStdin = Annotated[bool, typer.Option("--passphrase-stdin", help="Read the passphrase from standard input.")]
File = Annotated[Path, typer.Argument(help="A backup, or the name of one in the box's folder.")]
WORD = "restore"


@app.command("create")
def create(
    to: Annotated[Path | None, typer.Option(help="Folder to write to, such as a stick. Default: backup_dir.")] = None,
    passphrase_stdin: FromStdin = False,
    nightly: Annotated[
        bool, typer.Option("--nightly", help="As the timer does: with the passphrase that is set, old ones go.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a backup of this box, sealed with a passphrase, and read it back."""
    from appliance.backup.errors import BackupTargetUnusable
    from appliance.cli.accounts import noted

    with _backups() as backups:
        if nightly:
            _nightly(backups, as_json=as_json)
            return
        passphrase = _new_passphrase(backups, passphrase_stdin)
        target = None if to is None else to.absolute()
        if target is not None and not target.is_dir():
            raise BackupTargetUnusable(path=target, reason="there is no such folder")
        with _steps(quiet=as_json) as steps:
            made = backups.create(to=target, passphrase=passphrase, steps=steps)
        noted("backup.create", made.path.name)
    if as_json:
        print_json({"schema": 1, "path": str(made.path), "size_bytes": made.size_bytes})
        return
    counts = made.manifest.counts or {}
    has = ", ".join(f"{count:,} {word}" for word, count in counts.items())
    typer.echo(f"{made.path}  {size(made.size_bytes)}, {has}. It was read back and is whole.")
    typer.echo("Models are not in it; without the passphrase nobody can read it, you neither.")


@app.command("list")
def list_command(as_json: AsJson = False) -> None:
    """Show the backups in the box's folder."""
    with _backups() as backups:
        found = backups.list()
        folder, keep, has = backups.folder, backups.keep, backups.has_passphrase
    if as_json:
        rows = [
            {
                "path": str(one.path),
                "size_bytes": one.size_bytes,
                "created_at": one.created_at,
                "version": one.version,
                "host": one.host,
                "label": one.label,
                "problem": one.problem,
            }
            for one in found
        ]
        print_json({"schema": 1, "folder": str(folder), "keep": keep, "has_passphrase": has, "backups": rows})
        return
    if found:
        from rich.markup import escape
        from rich.table import Table

        table = Table("When", "What", "Host", "Version", "Size", "File", box=None, header_style="bold")
        for one in found:
            cells = (one.created_at, one.label, one.host, one.version, size(one.size_bytes), one.path.name)
            table.add_row(*[escape(str(cell or "-")) for cell in cells])
        stdout().print(table)
    else:
        typer.echo(f"There are no backups in {folder}.")
    if not has:
        typer.echo("None is made at night: no passphrase is set. Set one: r1box backup passphrase")


@app.command("show")
def show(file: File, passphrase_stdin: FromStdin = False, as_json: AsJson = False) -> None:
    """Read a backup whole, check it, and tell what is in it. Changes nothing."""
    with _backups() as backups:
        path = _path(backups, file)
        with _steps(quiet=as_json) as steps:
            opened = backups.check(path, _given_passphrase(backups, path, passphrase_stdin), steps)
    manifest = opened.manifest
    if as_json:
        files = [{"name": one.name, "size_bytes": one.size_bytes, "sha256": one.sha256} for one in manifest.files]
        print_json(
            {
                "schema": 1,
                "path": str(path),
                "whole": True,
                "created_at": manifest.created_at,
                "version": manifest.version,
                "host": manifest.host,
                "label": opened.envelope.facts["label"],
                "revision": manifest.revision,
                "counts": dict(manifest.counts or {}),
                "models": list(manifest.models),
                "files": files,
            }
        )
        return
    lines = [f"{path} is whole.", f"  made        {manifest.created_at} on {manifest.host}, R1 Box {manifest.version}"]
    lines += [f"  {word:<11} {count:,}" for word, count in (manifest.counts or {}).items()]
    lines += [f"  models      {', '.join(manifest.models) or 'none'} (not in it)"]
    lines += [f"  file        {one.name}  {size(one.size_bytes)}" for one in manifest.files]
    console = stdout()
    for line in lines:
        console.print(line, markup=False)


@app.command("restore")
def restore(
    file: File,
    passphrase_stdin: FromStdin = False,
    confirm: Annotated[str | None, typer.Option(help=f"The word '{WORD}', for scripts; asked for otherwise.")] = None,
    as_json: AsJson = False,
) -> None:
    """Put a backup in the place of this box's state. It is checked whole before anything changes, and the old state
    stays until the box has come up with the new one."""
    from appliance.backup.pending import finish_pending, waits
    from appliance.cli.accounts import console
    from appliance.cli.state import remove_all_models
    from appliance.errors import NotConfirmed
    from appliance.settings import load_settings

    with _backups() as backups:
        path = _path(backups, file)
        passphrase = _given_passphrase(backups, path, passphrase_stdin)
        if not as_json:
            typer.echo(f"Users, keys, chats and settings of this box will be those of {path.name}; all log in anew.")
        if (confirm or typer.prompt(f"Type {WORD} to go on", default="", show_default=False)) != WORD:
            raise NotConfirmed(WORD)
        with _steps(quiet=as_json) as steps:
            staged = backups.stage(path, passphrase, console(), steps)
    settings = load_settings()
    finish_pending(settings.state_dir, lambda: remove_all_models(settings))
    waiting = waits(settings.state_dir) and not ask_for_restart()
    if as_json:
        print_json({"schema": 1, **staged.facts, "waits_for_restart": waiting})
        return
    if waiting:
        typer.echo("It is checked and takes effect when the box restarts: systemctl restart r1box")
    else:
        typer.echo(f"Restored: {path.name}, of {staged.manifest.created_at}.")
    for name in staged.settings_left_out:
        typer.echo(f"  not taken over: the setting {name}, which this box does not take")
    if staged.manifest.models:
        typer.echo(
            f"  models the box had then: {', '.join(staged.manifest.models)} (r1box models list shows those here)"
        )


@app.command("remove")
def remove(name: Annotated[str, typer.Argument(help="Name of a backup in the box's folder.")]) -> None:
    """Remove a backup of the box's folder."""
    from appliance.cli.accounts import noted

    with _backups() as backups:
        backups.remove(name)
    noted("backup.remove", name)
    typer.echo(f"{name} is removed.")


@app.command("passphrase")
def passphrase_command(
    passphrase_stdin: FromStdin = False,
    forget: Annotated[bool, typer.Option("--forget", help="Make no more backups at night.")] = False,
) -> None:
    """Set the passphrase that backups are sealed with from now on, every night too."""
    from appliance.cli.accounts import noted

    with _backups() as backups:
        if forget:
            had = backups.forget_passphrase()
            noted("backup.passphrase_forget")
            typer.echo("No backups are made at night any more." if had else "There was none.")
            return
        backups.set_passphrase(_typed_twice(passphrase_stdin))
    noted("backup.passphrase")
    typer.echo("It is set: a backup is made every night. Keep the passphrase where the box is not.")


def ask_for_restart() -> bool:
    """Have the running daemon of this machine restart; whether it was reached."""
    from appliance.cli.box_client import BoxClient, admin_socket
    from appliance.errors import AppError

    if admin_socket() is None:
        return False
    try:
        BoxClient(None, None).post("/api/admin/restart")
    except AppError as error:
        stderr().print(f"The box could not be asked to restart: {error.message}", markup=False)
        return False
    return True


@contextmanager
def _backups() -> Iterator[Backups]:
    from importlib.metadata import version

    from appliance.backup.service import Backups
    from appliance.paths import prepare_state
    from appliance.settings import load_settings
    from models.errors import ModelError
    from models.model_store import ModelStore

    settings = load_settings()
    prepare_state(settings.state_dir)

    def models() -> list[str]:
        try:
            return [one.id for one in ModelStore(settings.models_dir).list().models]
        except ModelError:
            return []

    yield Backups(settings, version=version("r1box"), models=models)


def _nightly(backups: Backups, *, as_json: bool) -> None:
    if not backups.has_passphrase:
        # The timer runs on every box; that nobody has set a passphrase is no failure.
        typer.echo("No backup: no passphrase is set. Set one: r1box backup passphrase")
        return
    done = backups.nightly()
    if as_json:
        print_json({"schema": 1, "path": str(done.created.path), "removed": list(done.removed)})
        return
    typer.echo(f"{done.created.path}  {size(done.created.size_bytes)}")
    for name in done.removed:
        typer.echo(f"removed {name}")


def _path(backups: Backups, file: Path) -> Path:
    """A path, or the name of one in the box's folder."""
    return file.absolute() if file.exists() or file.name != str(file) else backups.named(file.name)


def _new_passphrase(backups: Backups, from_stdin: bool) -> str | None:
    if not from_stdin and backups.has_passphrase:
        return None
    return _typed_twice(from_stdin)


def _typed_twice(from_stdin: bool) -> str:
    from appliance.cli.users import PasswordsDiffer

    if from_stdin:
        return _line()
    first: str = typer.prompt("Passphrase", hide_input=True)
    if first != typer.prompt("The same again", hide_input=True):
        raise PasswordsDiffer
    return first


def _given_passphrase(backups: Backups, path: Path, from_stdin: bool) -> str | None:
    """None where the box's own key opens it."""
    from appliance.backup.folder import read_header
    from appliance.backup.key import load_key
    from appliance.errors import AppError

    if from_stdin:
        return _line()
    own = load_key(backups.state_dir)
    try:
        header = read_header(path)
    except (AppError, OSError):
        return None  # the check that follows says what is wrong
    if own is not None and (own.salt, own.log2_n) == (header.salt, header.log2_n):
        return None
    given: str = typer.prompt("Passphrase of the backup", hide_input=True)
    return given


def _line() -> str:
    return sys.stdin.readline().rstrip("\r\n")


@contextmanager
def _steps(*, quiet: bool) -> Iterator[Any]:
    with copy_progress("Backup", quiet=quiet) as update:
        yield _Bar(update)


class _Bar:
    """Steps on a terminal."""

    def __init__(self, update: Any) -> None:
        self._update = update

    def phase(self, name: str) -> None:
        """The bar tells it by beginning anew."""

    def bytes_done(self, done_bytes: int, total_bytes: int) -> None:
        """Further."""
        self._update(done_bytes, total_bytes)
