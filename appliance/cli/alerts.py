"""``r1box alerts``: webhooks of the running box: how they do, and a test."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape

from appliance.cli.box_client import BoxClient, Key, Url
from appliance.cli.output import print_json, stdout

app = typer.Typer(name="alerts", help="Webhooks that hear of issues.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_command(url: Url = None, key: Key = None, as_json: Json = False) -> None:
    """Show the receivers of alerts and how they do."""
    found = BoxClient(url, key).get("/api/admin/alerts")
    if as_json:
        print_json({"schema": 1, **found})
        return
    console = stdout()
    if not found["targets"]:
        console.print("There are no receivers. r1box settings set alert_urls https://... names them.")
        return
    for one in found["targets"]:
        console.print(f"[bold]{escape(one['target'])}[/]  {_how(one)}")
    console.print(f"From severity {found['severity']} on, {'signed' if found['signed'] else 'not signed'}.")


@app.command("test")
def try_command(url: Url = None, key: Key = None, as_json: Json = False) -> None:
    """Post a test to every receiver. Ends with 3 when one does not take it."""
    results = BoxClient(url, key).post("/api/admin/alerts/test")["results"]
    if as_json:
        print_json({"schema": 1, "results": results})
    elif not results:
        typer.echo("There are no receivers. r1box settings set alert_urls https://... names them.")
    else:
        for one in results:
            said = f"took it ({one['status']})" if one["delivered"] else f"did not take it: {one['problem']}"
            mark = "[green]✓[/]" if one["delivered"] else "[bold red]✗[/]"
            stdout().print(f"{mark} {escape(one['target'])} {escape(said)}")
    if any(not one["delivered"] for one in results):
        raise typer.Exit(3)


def _how(one: dict[str, Any]) -> str:
    parts = [f"{one['delivered']} delivered"]
    parts += [f"{one[name]} {label}" for name, label in _COUNTS if one[name]]
    if one["last_error"]:
        parts.append(f"[red]{escape(one['last_error'])}[/]")
    return ", ".join(parts)


_COUNTS = (("waiting", "waiting"), ("given_up", "given up"), ("dropped", "dropped"))
