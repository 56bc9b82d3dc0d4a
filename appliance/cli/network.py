"""``r1box network``: the machine's address, name and time servers; a change is tried and taken back unless confirmed.

Over the running box's API, or, when it does not run, by the helper itself: on the worst day the network is what has to
be mended first.
"""

from __future__ import annotations

import json
import select
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from appliance.cli.box_client import BoxClient, Key, Url, admin_socket
from appliance.cli.output import print_json, stdout

if TYPE_CHECKING:
    from rich.console import RenderableType

app = typer.Typer(no_args_is_help=True, help="Show and change the machine's network: address, DNS, time servers, name.")

WARNINGS = {
    "no_gateway": "Without a gateway the box reaches its own network alone.",
    "no_dns": "Without a name server no name can be looked up; the box does not need any to serve.",
    "many_dns": "Programs ask the first three name servers and no more.",
    "same_network": "Another card of this machine is in the same network; answers may leave by either.",
}
_NAMES = {
    "mode": "Address from",
    "addresses": "Address",
    "gateways": "Gateway",
    "dns": "Name servers",
    "ntp": "Time servers",
    "hostname": "Host name",
}
_ENDS = {
    "confirmed": "was confirmed",
    "rolled_back": "was taken back",
    "expired": "was taken back, because nobody confirmed it in time",
    "failed": "could not be put in force",
}
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("show")
def show_command(as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """Show cards, addresses, name and time servers, and a change that is on trial."""
    found = _Place(url, key).show()
    if as_json:
        print_json({"schema": 1, **found})
    else:
        stdout().print(page(found))


@app.command("set")
def set_command(
    interface: Annotated[str | None, typer.Option(help="The network card, when there are several.")] = None,
    dhcp: Annotated[bool, typer.Option("--dhcp", help="The network gives the address.")] = False,
    address: Annotated[list[str] | None, typer.Option(help="Address with prefix length: 10.0.4.17/24.")] = None,
    gateway: Annotated[list[str] | None, typer.Option(help="The router's address; an empty one means none.")] = None,
    dns: Annotated[list[str] | None, typer.Option(help="A name server's address; an empty one means none.")] = None,
    ntp: Annotated[list[str] | None, typer.Option(help="A time server; an empty one means the built-in ones.")] = None,
    hostname: Annotated[str | None, typer.Option(help="The machine's name.")] = None,
    seconds: Annotated[int, typer.Option(min=15, max=900, help="How long it is tried without a confirmation.")] = 120,
    preview: Annotated[bool, typer.Option("--preview", help="Show what would change, and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Try it without asking first.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Change the network. It is in force at once and taken back unless you confirm it: a wrong address locks nobody
    out."""
    change = {
        "interface": interface,
        "mode": "dhcp" if dhcp else "static" if address else None,
        "addresses": _given(address),
        "gateways": _given(gateway),
        "dns": _given(dns),
        "ntp": _given(ntp),
        "hostname": hostname,
    }
    change = {name: value for name, value in change.items() if value is not None}
    place = _Place(url, key)
    told = place.preview(change)
    if preview:
        if as_json:
            print_json({"schema": 1, **told})
        else:
            _print_preview(told)
            for one in told["writes"]:
                typer.echo(f"\n{one.rstrip()}")
        return
    if not as_json:
        _print_preview(told)
    if not yes:
        typer.confirm(f"Try this for {seconds} seconds?", abort=True)
    status = place.begin(change, seconds)
    if as_json:
        print_json({"schema": 1, **status})
        return
    _ask_to_confirm(place, status["trial"])


@app.command("confirm")
def confirm_command(as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """Keep the change that is on trial."""
    place = _Place(url, key)
    trial = place.show()["trial"]
    _end(place.confirm("" if trial is None else trial["id"]), as_json)


@app.command("rollback")
def rollback_command(as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """Take the change that is on trial back now."""
    _end(_Place(url, key).roll_back(), as_json)


@app.command("helper", hidden=True)
def helper_command(
    socket: Annotated[Path | None, typer.Option(help="Listen here; without it on systemd's socket.")] = None,
    record: Annotated[Path, typer.Option(help="File of the trial that goes on.")] = Path(
        "/run/r1box-system/trial.json"
    ),
) -> None:
    """Carry out changes as root: r1box-system.service."""
    from appliance.logs import configure_logging
    from appliance.network.helper import run_helper

    configure_logging("info")
    run_helper(record=record, path=socket)


class _Place:
    """The running box; without one this machine, by the helper."""

    def __init__(self, url: str | None, key: str | None) -> None:
        self._client = BoxClient(url, key) if url or key or admin_socket() is not None else None

    def show(self) -> dict[str, Any]:
        if self._client is not None:
            found: dict[str, Any] = self._client.get("/api/admin/network")
            return found
        return self._own(self._service().read())

    def preview(self, change: dict[str, Any]) -> dict[str, Any]:
        if self._client is not None:
            found: dict[str, Any] = self._client.post("/api/admin/network/preview", change)
            return found
        return self._run("preview", _change(change))

    def begin(self, change: dict[str, Any], seconds: int) -> dict[str, Any]:
        if self._client is not None:
            body: dict[str, object] = {"change": change, "seconds": seconds}
            found: dict[str, Any] = self._client.post("/api/admin/network/trial", body)
            return found
        return self._run("begin", _change(change), seconds)

    def confirm(self, trial_id: str) -> dict[str, Any]:
        if self._client is not None:
            found: dict[str, Any] = self._client.post("/api/admin/network/trial/confirm", {"id": trial_id or "none"})
            return found
        return self._run("confirm", trial_id or "none")

    def roll_back(self) -> dict[str, Any]:
        if self._client is not None:
            found: dict[str, Any] = self._client.delete("/api/admin/network/trial")
            return found
        return self._run("roll_back")

    @staticmethod
    def _service() -> Any:
        from appliance.network.service import NetworkService
        from appliance.settings import load_settings

        return NetworkService(load_settings().system_socket)

    def _run(self, name: str, *arguments: Any) -> dict[str, Any]:
        import asyncio

        return self._own(asyncio.run(getattr(self._service(), name)(*arguments)))

    @staticmethod
    def _own(value: Any) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(value.model_dump_json())
        return found


def _change(values: dict[str, Any]) -> Any:
    from appliance.api.validation import parse_body
    from appliance.schemas.network import NetworkChange

    return parse_body(NetworkChange, json.dumps(values).encode())


def _given(values: list[str] | None) -> list[str] | None:
    """What was named; an empty one alone means none at all."""
    return None if values is None else [part for value in values for part in value.split(",") if part]


def _ask_to_confirm(place: _Place, trial: dict[str, Any] | None) -> None:
    """Count down while nobody has said anything; without a terminal say how it is done."""
    if trial is None:
        return
    if trial["gateway_answers"] is False:
        typer.echo("The gateway does not answer.")
    seconds = int(trial["seconds_left"])
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        typer.echo(f"On trial for {seconds} seconds. Keep it with: r1box network confirm")
        return
    ends_s = time.monotonic() + seconds
    answer = ""
    while (left_s := ends_s - time.monotonic()) > 0:
        sys.stdout.write(f"\rIn force. Type yes to keep it, no to take it back ({left_s:.0f} s left): ")
        sys.stdout.flush()
        if select.select([sys.stdin], [], [], min(1.0, left_s))[0]:
            answer = sys.stdin.readline().strip().lower()
            if answer in ("yes", "no", "y", "n"):
                break
    if answer.startswith("y"):
        _end(place.confirm(trial["id"]), as_json=False)
    elif answer.startswith("n"):
        _end(place.roll_back(), as_json=False)
    else:
        typer.echo("\nNobody confirmed it: it is taken back.")
        raise typer.Exit(1)


def _end(status: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json({"schema": 1, **status})
        return
    last = status["last"]
    if last is not None:
        typer.echo(f"The change {_ENDS[last['outcome']]}.")


def _print_preview(told: dict[str, Any]) -> None:
    console = stdout()
    interface = told["change"].get("interface")
    if interface:
        console.print(f"[bold]{escape(interface)}[/]")
    for line in told["lines"]:
        console.print(f"  {_NAMES.get(line['what'], line['what']):<14} {escape(_words(line['before']))}"
                      f"  ->  [bold]{escape(_words(line['after']))}[/]")  # fmt: skip
    for one in told["warnings"]:
        console.print(f"[yellow]![/] {escape(WARNINGS.get(one, one))}")


def page(found: dict[str, Any]) -> RenderableType:
    """Everything on one page."""
    from rich.console import Group
    from rich.table import Table

    cards = Table("Card", "State", "Address from", "Address", "Gateway", "Name servers", "Kept by", box=None,
                  header_style="bold")  # fmt: skip
    for one in found["interfaces"]:
        state = "no cable" if one["carrier"] is False else "up" if one["up"] else "down"
        speed = "" if one["speed_mbps"] is None else f" {one['speed_mbps']} Mbit/s"
        lists = (one["addresses"], one["gateways"], one["dns"])
        cells = [
            one["name"],
            state + speed,
            one["mode"] or "-",
            *(_words(part) for part in lists),
            one["manager"] or "-",
        ]
        cards.add_row(*(escape(cell) for cell in cells))
    clock = found["clock"]
    kept = {True: "in step", False: "not in step", None: "unknown"}[clock["synchronized"]]
    rest = [
        f"Host name     {found['hostname']}",
        f"Name servers  {_words(found['dns'])}",
        f"Time          {clock['now'][:19]} UTC, zone {clock['zone'] or '-'}, {kept}",
        f"Time servers  {_words(clock['servers'])}",
    ]
    notes = []
    if found["trial"] is not None:
        changes = "; ".join(f"{_NAMES[line['what']]} {_words(line['after'])}" for line in found["trial"]["lines"])
        left = int(found["trial"]["seconds_left"])
        notes.append(f"[bold yellow]On trial, {left} s left:[/] {escape(changes)}. Keep it with: r1box network confirm")
    elif found["last"] is not None:
        notes.append(f"The last change {_ENDS[found['last']['outcome']]}.")
    if found["problem"]:
        notes.append(f"[yellow]![/] {escape(found['problem'])} {escape(found['hint'] or '')}")
    return Group(cards, "", *(escape(line) for line in rest), *notes)


def _words(values: list[str]) -> str:
    return ", ".join(values) or "-"
