"""``r1box models ps|load|unload|activate``: what the running box has loaded, through its API."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from appliance.cli.box_client import BoxClient, Key, Url
from appliance.cli.output import context, print_json, size, stdout

ModelId = Annotated[str, typer.Argument(help="Id of a model of the store.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``r1box models``."""
    app.command("ps")(ps)
    app.command("load")(load)
    app.command("unload")(unload)
    app.command("activate")(activate)


def ps(url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """Show which models the running box has loaded."""
    found = BoxClient(url, key).get("/api/admin/models")
    if as_json:
        print_json({"schema": 1, **found})
        return
    loaded = [model for model in found["models"] if model["state"] != "installed"]
    if not loaded:
        typer.echo("No model is loaded.")
        return
    from rich.table import Table

    table = Table("Model", "State", "Where", "Seats", "Memory", "Offload", "Busy", box=None, header_style="bold")
    for model in loaded:
        table.add_row(*_cells(model))
    stdout().print(table)


def load(
    model: ModelId,
    swap: Annotated[bool, typer.Option("--swap/--no-swap", help="Whether others may leave to make room.")] = True,
    pin: Annotated[bool, typer.Option("--pin", help="Keep it from leaving for others until the daemon ends.")] = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Load a model into the running box, beside the others or in the place of one."""
    _said(BoxClient(url, key).post(f"/api/admin/models/{model}/load", {"swap": swap, "pin": pin}))


def unload(
    model: ModelId,
    drain_timeout_s: Annotated[float, typer.Option(help="Seconds that running answers may go on.")] = 60.0,
    url: Url = None,
    key: Key = None,
) -> None:
    """End a model of the running box and give its memory back."""
    _said(BoxClient(url, key).post(f"/api/admin/models/{model}/unload", {"drain_timeout_s": drain_timeout_s}))


def activate(model: ModelId, url: Url = None, key: Key = None) -> None:
    """Make a model the default of the running box, now and for its next start."""
    _said(BoxClient(url, key).post(f"/api/admin/models/{model}/activate"))


def _said(model: dict[str, Any]) -> None:
    where = ", ".join(model["devices"]) or "the processor"
    seats = "" if model["seats"] is None else f", {model['seats']} x {context(model['context_tokens'])} on {where}"
    typer.echo(f"{model['id']}: {model['state']}{seats}{', the default' if model['default'] else ''}")


def _cells(model: dict[str, Any]) -> list[str]:
    name = model["id"] + (" (default)" if model["default"] else " (pinned)" if model["pinned"] else "")
    state = model["state"]
    if model["load_fraction"] is not None:
        state += f" {model['load_fraction']:.0%}"
    seats = "-" if model["seats"] is None else f"{model['seats']} x {context(model['context_tokens'])}"
    busy = f"{model['running']} + {model['waiting']}" if model["waiting"] else str(model["running"])
    where = "-" if model["seats"] is None else ", ".join(model["devices"]) or "processor"
    return [name, state, where, seats, size(model["planned_bytes"]), model["offload"] or "-", busy]
