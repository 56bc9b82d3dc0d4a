"""``r1box issues``: what is wrong with the running box, and its fix-ups, through its API."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.markup import escape

from appliance.cli.box_client import BoxClient, Key, Url
from appliance.cli.output import print_json, stdout

_MARKS = {"error": "[bold red]✗[/]", "warning": "[yellow]![/]", "info": "[dim]i[/]"}


def issues_command(
    fix: Annotated[str | None, typer.Option(help="ISSUE/FIXUP: apply a fix-up that an issue offers.")] = None,
    url: Url = None,
    key: Key = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what is wrong with the running box. Ends with 3 when something is an error."""
    client = BoxClient(url, key)
    if fix is not None:
        issue, _, name = fix.rpartition("/")
        done = client.post(f"/api/admin/issues/{issue}/fixups/{name}")
        if not as_json:
            stdout().print(escape(done["message"]))
        found = done
    else:
        found = client.post("/api/admin/issues/check")
    if as_json:
        print_json({"schema": 1, **found})
    else:
        _show(found["issues"])
    if any(issue["severity"] == "error" for issue in found["issues"]):
        raise typer.Exit(3)


def _show(issues: list[dict[str, Any]]) -> None:
    console = stdout()
    if not issues:
        console.print("Nothing needs attention.")
    for issue in issues:
        console.print(f"{_MARKS[issue['severity']]} {escape(issue['message'])}  [dim]{_age(issue['since'])}[/]")
        if issue["hint"]:
            console.print(f"  Next: {escape(issue['hint'])}")
        for button in issue["fixups"]:
            command = f"r1box issues --fix {issue['id']}/{button['name']}"
            console.print(f"  {escape(button['label'])}: {escape(command)}")


def _age(since: str) -> str:
    minutes = int((datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds() // 60)
    if minutes < 60:
        return f"since {max(minutes, 0)} min"
    return f"since {minutes // 60} h" if minutes < 48 * 60 else f"since {minutes // 1440} days"
