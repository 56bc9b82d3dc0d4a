"""``r1box keys``: API keys of this box."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from appliance.cli.output import print_json, stdout

if TYPE_CHECKING:
    from appliance.security.keys import KeyRecord, KeyRepository

app = typer.Typer(help="Create, list and revoke API keys.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Who or what uses the key, for example nurse-app.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("create")
def create(
    name: Name,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the key alone, for scripts.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it. It is stored as a hash: nothing can show it again."""
    with _repository() as keys:
        created = keys.create(name)
    if quiet:
        typer.echo(created.secret)
    elif as_json:
        print_json({"schema": 1, **_row(created.record), "key": created.secret})
    else:
        console = stdout()
        console.print(f"API key of [bold]{name}[/], shown this once:\n")
        console.print(f"  {created.secret}\n")
        console.print("Send it as: Authorization: Bearer KEY")


@app.command("list")
def list_keys(
    everything: Annotated[bool, typer.Option("--all", help="Revoked ones too.")] = False, as_json: AsJson = False
) -> None:
    """Show the keys, without their secrets."""
    with _repository() as keys:
        records = keys.list(include_revoked=everything)
    if as_json:
        print_json({"schema": 1, "keys": [_row(record) for record in records]})
        return
    if not records:
        typer.echo("No API keys yet. Make one with: r1box keys create NAME")
        return
    from rich.table import Table

    table = Table("Name", "Begins with", "Created", "Last used", "Revoked", box=None, header_style="bold")
    for record in records:
        row = _row(record)
        shown = [str(row[name] or "-") for name in ("name", "prefix", "created_at", "last_used_at", "revoked_at")]
        table.add_row(*shown)
    stdout().print(table)


@app.command("revoke")
def revoke(name: Name) -> None:
    """End a key. A running daemon refuses it from the next request on."""
    with _repository() as keys:
        record = keys.revoke(name)
    typer.echo(f"The key of {record.name} ({record.prefix}...) is revoked.")


@contextmanager
def _repository() -> Iterator[KeyRepository]:
    from appliance.paths import prepare_state
    from appliance.security.keys import KeyRepository
    from appliance.settings import load_settings
    from appliance.store.database import open_database

    database = open_database(prepare_state(load_settings().state_dir).database)
    try:
        yield KeyRepository(database)
    finally:
        database.dispose()


def _row(record: KeyRecord) -> dict[str, str | int | None]:
    def time(value: datetime | None) -> str | None:
        return None if value is None else value.isoformat(timespec="minutes")

    return {
        "name": record.name,
        "prefix": record.prefix,
        "created_at": time(record.created_at),
        "last_used_at": time(record.last_used_at),
        "revoked_at": time(record.revoked_at),
    }
