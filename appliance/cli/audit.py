"""``r1box audit``: who did what on this box."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from appliance.cli.accounts import console, open_accounts, read_moment
from appliance.cli.output import print_json, stdout
from appliance.errors import AppError

app = typer.Typer(help="List, export and verify the audit log.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Action = Annotated[str | None, typer.Option(help="One action (key.create), or a family (key.).")]
Since = Annotated[str | None, typer.Option(help="From this moment on: 2026-11-22, or with a time.")]


class AuditBroken(AppError):
    """The chain does not hold."""

    code = "audit_broken"
    template = "The audit log is not whole: {problem}."
    hint_template = "Keep the database as it is, and compare it with exports and backups."


class NoAuditFile(AppError):
    """An export that cannot be read."""

    code = "audit_file_unreadable"
    template = "{path} cannot be read as an audit export: {reason}."


@app.command("list")
def list_rows(
    action: Action = None,
    since: Since = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000)] = 50,
    as_json: AsJson = False,
) -> None:
    """Show the newest rows, the newest last."""
    from dataclasses import asdict

    from appliance.security.audit import AuditFilter

    with open_accounts() as accounts:
        records = accounts.audit.list(AuditFilter(action=action, since=read_moment(since)), limit=limit)[::-1]
    if as_json:
        rows = [{**asdict(record), "details": json.loads(record.details)} for record in records]
        print_json({"schema": 1, "rows": rows})
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table("No.", "When", "Who", "From", "What", "Whom", "Details", box=None, header_style="bold")
    for record in records:
        who = f"{record.actor_kind} {record.actor_name}".strip()
        details = "" if record.details == "{}" else record.details
        cells = (record.seq, record.at, who, record.address or "-", record.action, record.target or "-", details)
        table.add_row(*[escape(str(cell)) for cell in cells])
    stdout().print(table)


@app.command("export")
def export(
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write; without it standard output.")] = None,
    action: Action = None,
    since: Since = None,
) -> None:
    """Write the rows as JSON Lines, the oldest first. A whole export can be verified elsewhere."""
    from appliance.security.audit import AuditFilter

    with open_accounts() as accounts:
        accounts.audit.record(console(), "audit.export")
        lines = accounts.audit.export(AuditFilter(action=action, since=read_moment(since)))
        if out is None:
            sys.stdout.writelines(lines)
            return
        temporary = out.with_name(f".{out.name}.part")
        with temporary.open("w", encoding="ascii") as file:
            file.writelines(lines)
        temporary.replace(out)


@app.command("verify")
def verify(
    file: Annotated[Path | None, typer.Argument(help="An export; without it this box's log.")] = None,
    known_hash: Annotated[str | None, typer.Option("--hash", help="A hash noted earlier, which must be in it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check that no row was changed, removed, put in or moved."""
    from dataclasses import asdict

    from appliance.security.audit import from_line
    from appliance.security.audit_chain import verify_chain

    if file is None:
        with open_accounts() as accounts:
            verdict = accounts.audit.verify(known_hash=known_hash)
    else:
        try:
            with file.open(encoding="utf-8") as lines:
                verdict = verify_chain((from_line(line) for line in lines), None, known_hash=known_hash)
        except (OSError, ValueError) as error:
            raise NoAuditFile(path=file, reason=str(error)) from error
    if as_json:
        print_json({"schema": 1, "whole": verdict.is_whole, **asdict(verdict)})
    if not verdict.is_whole:
        raise AuditBroken(problem=verdict.problem)
    if not as_json:
        typer.echo(f"{verdict.rows} rows, whole. Hash of the last one (note it elsewhere): {verdict.head_hash}")
