"""``r1box usage``: tokens and requests by key, user, model and day."""

from __future__ import annotations

import sys
from datetime import date
from typing import Annotated

import typer

from appliance.cli.accounts import BadMoment
from appliance.cli.output import print_json, stdout
from appliance.cli.users import BadChoice


def usage_command(
    since: Annotated[str | None, typer.Option(help="First day (UTC): 2026-11-01.")] = None,
    until: Annotated[str | None, typer.Option(help="Last day (UTC).")] = None,
    by: Annotated[
        list[str] | None, typer.Option("--by", help="day, key, user or model; may be repeated. Default: key and day.")
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what was used, with prompt, cached, thinking and answer tokens apart."""
    from dataclasses import asdict

    from appliance.paths import prepare_state
    from appliance.settings import load_settings
    from appliance.store.database import open_database
    from appliance.usage.report import GROUPS, UsageFilter, UsageReport, to_csv

    for name in by or ():
        if name not in GROUPS:
            raise BadChoice(what="--by", given=name, choices=", ".join(GROUPS))
    database = open_database(prepare_state(load_settings().state_dir).database)
    try:
        rows = UsageReport(database).rows(UsageFilter(since=_day(since), until=_day(until)), by or ("day", "key"))
    finally:
        database.dispose()
    if as_csv:
        sys.stdout.write(to_csv(rows))
        return
    if as_json:
        items = [
            {**asdict(row), "day": row.day and row.day.isoformat(), "total_tokens": row.total_tokens} for row in rows
        ]
        print_json({"schema": 1, "usage": items})
        return
    from rich.table import Table

    titles = ("Day", "Who", "Model", "Requests", "Errors", "Prompt", "Cached", "Thinking", "Answer", "Seconds")
    table = Table(*titles, box=None, header_style="bold")
    for row in rows:
        person = row.user_name or (f"user {row.user_id}" if row.user_id is not None else None)
        who = " / ".join(dict.fromkeys(one for one in (person, row.name) if one)) or "-"
        counts = (
            row.requests,
            row.errors,
            row.prompt_tokens,
            row.cached_tokens,
            row.thinking_tokens,
            row.answer_tokens,
        )
        day = "-" if row.day is None else row.day.isoformat()
        table.add_row(day, who, row.model or "-", *[f"{count:,}" for count in counts], f"{row.duration_s:,.1f}")
    stdout().print(table)


def _day(text: str | None) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError as error:
        raise BadMoment(text=text) from error
