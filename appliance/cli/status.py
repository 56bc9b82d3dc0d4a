"""``r1box status`` and ``r1box top``: how the running box does, on one page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from appliance.cli.box_client import BoxClient, Key, Url
from appliance.cli.output import context, size
from appliance.cli.watching import show_page

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

EXIT_NOT_WELL = 3
_STYLES = {"ready": "green", "failed": "bold red", "starting": "yellow"}
_OFFLOAD = {"VERIFIED": "green", "DEGRADED": "bold yellow", "CPU": "yellow"}
_MARKS = {"error": "[bold red]x[/]", "warning": "[yellow]![/]", "info": "[dim]i[/]"}
_MOST_REQUESTS = 200

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON; with --watch a line for each look.")]
Watch = Annotated[bool, typer.Option("--watch", help="Look again every two seconds until Ctrl-C.")]


def status_command(as_json: AsJson = False, watch: Watch = False, url: Url = None, key: Key = None) -> None:
    """Show models, seats, cards and issues of the running box. Ends with 3 when it does not serve or has an error."""
    client = BoxClient(url, key)

    def read() -> dict[str, Any]:
        return _status(client)

    told = show_page(read, _page, as_json=as_json, watch=watch)
    if not told["serving"] or any(issue["severity"] == "error" for issue in told["issues"]):
        raise typer.Exit(EXIT_NOT_WELL)


def top_command(as_json: AsJson = False, watch: Watch = False, url: Url = None, key: Key = None) -> None:
    """Show who is answered and who waits now, and how busy the cards are."""
    client = BoxClient(url, key)

    def read() -> dict[str, Any]:
        return {
            **_serving(client),
            **client.get(f"/api/admin/requests/live?limit={_MOST_REQUESTS}"),
            **_machine(client),
        }

    show_page(read, _busy, as_json=as_json, watch=watch)


def _status(client: BoxClient) -> dict[str, Any]:
    models = client.get("/api/admin/models")["models"]
    return {
        "serving": any(model["state"] == "ready" for model in models),
        "models": models,
        **_serving(client),
        **_machine(client),
        "issues": client.get("/api/admin/issues")["issues"],
    }


def _serving(client: BoxClient) -> dict[str, Any]:
    told = client.get("/api/admin/serving/history?seconds=60&points=1")
    return {"tokens_per_s": told["now_tokens_per_s"]}


def _machine(client: BoxClient) -> dict[str, Any]:
    told = client.get(f"/api/admin/telemetry?since={1 << 53}")
    return {"devices": told["devices"], "host": told["host"]}


def _page(told: dict[str, Any]) -> RenderableType:
    from rich.console import Group

    parts: list[RenderableType] = [_models(told["models"]), _rate(told), "", _devices(told)]
    for issue in told["issues"]:
        parts.append(f"{_MARKS[issue['severity']]} {escape(issue['message'])}")
        if issue["hint"]:
            parts.append(f"  Next: {escape(issue['hint'])}")
    if not told["issues"]:
        parts.append("[green]Nothing needs attention.[/]")
    return Group(*parts)


def _busy(told: dict[str, Any]) -> RenderableType:
    from rich.console import Group

    head = f"{told['running']} answered, {told['waiting']} waiting. {_rate(told)}"
    return Group(head, "", _requests(told["requests"]), "", _devices(told))


def _models(models: list[dict[str, Any]]) -> Table:
    table = _table("", "Model", "Form", "State", "Seats", "Running", "Waiting", "Offload")
    for one in models:
        seats = "" if one["seats"] is None else f"{one['seats']} x {context(one['context_tokens'])}"
        word = one["offload"] or ""
        state = f"[{_STYLES.get(one['state'], 'dim')}]{one['state']}[/]"
        if one["state"] == "starting" and one["load_fraction"] is not None:
            state += f" {one['load_fraction']:.0%}"
        counts = ("", "") if one["seats"] is None else (str(one["running"]), str(one["waiting"]))
        offload = f"[{_OFFLOAD.get(word, 'dim')}]{word}[/]" if word else ""
        name, form = escape(one["name"]), escape(one["quantization"])
        table.add_row("*" if one["default"] else "", name, form, state, seats, *counts, offload)
        if one["error"]:
            table.add_row("", f"[red]{escape(one['error'])}[/]")
    return table


def _requests(requests: list[dict[str, Any]]) -> Table:
    table = _table("State", "Key", "Model", "Thinking", "Answer", "tok/s", "Age", "Waits")
    for one in requests:
        written = one["generated_tokens"] - one["thinking_tokens"]
        queued = one["state"] == "queued"
        wait = "" if one["wait_s"] is None else f", {one['wait_s']:.0f} s"
        table.add_row(
            one["state"],
            escape(one["name"]),
            escape(one["model"]),
            "-" if queued else f"{one['thinking_tokens']:,}",
            "-" if queued else f"{written:,}",
            "-" if one["tokens_per_s"] is None else f"{one['tokens_per_s']:.1f}",
            f"{one['age_s']:.0f} s",
            f"no. {one['position']}{wait}" if queued else "",
        )
    return table


def _devices(told: dict[str, Any]) -> Table:
    table = _table("Card", "Chip", "Memory", "Use", "Temp", "Power", "Health")
    for one in told["devices"]:
        health = one["health"] if one["state"] == "present" else f"[bold red]{one['state']}[/]"
        table.add_row(
            escape(one["key"]),
            escape(one["chip"] or one["name"] or ""),
            _memory(one),
            _figure(one["utilization_percent"], "%"),
            _figure(one["temperature_celsius"], "C"),
            _figure(one["power_watts"], "W"),
            health,
        )
    host = told["host"]
    if host is not None:
        percent, heat = _figure(host["cpu_percent"], "%"), _figure(host["cpu_temperature_celsius"], "C")
        table.add_row("host", "", _memory(host), percent, heat, "", f"disk {size(host['disk_free_bytes'])} free")
    return table


def _rate(told: dict[str, Any]) -> str:
    rate = told["tokens_per_s"]
    return "Speed not measured yet." if rate is None else f"{rate:.1f} tokens per second."


def _memory(one: dict[str, Any]) -> str:
    return f"{size(one['memory_used_bytes'])} / {size(one['memory_total_bytes'])}"


def _figure(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.0f}{unit}"


def _table(*names: str) -> Table:
    from rich.table import Table

    right = {"Running", "Waiting", "Thinking", "Answer", "tok/s", "Age", "Use", "Temp", "Power"}
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for name in names:
        table.add_column(name, justify="right" if name in right else "left")
    return table
