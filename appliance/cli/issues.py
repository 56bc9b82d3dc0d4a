"""``r1box issues``: what is wrong with the running box, and its fix-ups, through its API."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.markup import escape

from appliance.cli.box_client import BoxClient, Key, Url
from appliance.cli.output import print_json, stdout
from appliance.cli.watching import show_page

_MARKS = {"error": "[bold red]✗[/]", "warning": "[yellow]![/]", "info": "[dim]i[/]"}


def issues_command(
    fix: Annotated[str | None, typer.Option(help="ISSUE/FIXUP: apply a fix-up that an issue offers.")] = None,
    url: Url = None,
    key: Key = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; with --watch a line for each look.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every two seconds until Ctrl-C.")] = False,
) -> None:
    """Show what is wrong with the running box. Ends with 3 when something is an error."""
    client = BoxClient(url, key)
    if fix is not None:
        issue, _, name = fix.rpartition("/")
        done = client.post(f"/api/admin/issues/{issue}/fixups/{name}")
        if not as_json:
            stdout().print(escape(done["message"]))
        found = done
    elif watch:
        # The daemon looks by itself; somebody who watches must not have it look all the time.
        def read() -> dict[str, Any]:
            return dict(client.get("/api/admin/issues"))

        found = show_page(read, lambda told: "\n".join(_lines(told["issues"])), as_json=as_json, watch=True)
        as_json = False
    else:
        found = client.post("/api/admin/issues/check")
    if as_json:
        print_json({"schema": 1, **found})
    elif not watch:
        for line in _lines(found["issues"]):
            stdout().print(line)
    if any(issue["severity"] == "error" for issue in found["issues"]):
        raise typer.Exit(3)


def _lines(issues: list[dict[str, Any]]) -> Iterator[str]:
    if not issues:
        yield "Nothing needs attention."
    for issue in issues:
        yield f"{_MARKS[issue['severity']]} {escape(issue['message'])}  [dim]{_age(issue['since'])}[/]"
        if issue["hint"]:
            yield f"  Next: {escape(issue['hint'])}"
        for button in issue["fixups"]:
            command = f"r1box issues --fix {issue['id']}/{button['name']}"
            yield f"  {escape(button['label'])}: {escape(command)}"


def _age(since: str) -> str:
    minutes = int((datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds() // 60)
    if minutes < 60:
        return f"since {max(minutes, 0)} min"
    return f"since {minutes // 60} h" if minutes < 48 * 60 else f"since {minutes // 1440} days"
