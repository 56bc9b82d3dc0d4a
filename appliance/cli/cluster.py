"""``r1box cluster``: several boxes as one."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliance.cli.accounts import noted
from appliance.cli.box_client import BoxClient, Key, Url
from appliance.cli.output import print_json, stdout

if TYPE_CHECKING:
    from appliance.cluster.book import ClusterBook

DEFAULT_PORT = 8470

app = typer.Typer(help="Several boxes as one: a model over all of them, a chat through any.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str | None, typer.Option(help="This box's name among them. Default: the host's name.")]


@app.command("init")
def init(
    address: Annotated[str, typer.Option(help="IP address of this box on the link between the boxes.")],
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port for the other boxes, and nobody else.")] = (
        DEFAULT_PORT
    ),
    name: Name = None,
    as_json: AsJson = False,
) -> None:
    """Begin a cluster: this box leads it. A running daemon listens for the others from now on."""
    record = _book().begin(name or _own_name(), _checked(address), port)
    noted("cluster.init", record.id, address=record.address, port=port)
    if as_json:
        print_json({"schema": 1, "id": record.id, "name": record.name, "address": record.address, "port": port})
        return
    screen = stdout()
    screen.print(f"This box, [bold]{record.name}[/], leads the cluster {record.id} at {record.address} port {port}.")
    screen.print("Let another one in:  r1box cluster invite")


@app.command("invite")
def invite(
    minutes: Annotated[float, typer.Option(min=0.1, max=1440.0, help="How long the token is good.")] = 15.0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the token alone, for scripts.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a token with which one box may join, once."""
    made = _book().invite(minutes * 60)
    noted("cluster.invite", made.id, minutes=minutes)
    if quiet:
        typer.echo(made.token)
    elif as_json:
        print_json({"schema": 1, "token": made.token, "minutes": minutes})
    else:
        screen = stdout()
        screen.print(f"On the other box, within the next {minutes:g} minutes:\n")
        screen.print(f"  r1box cluster join {made.token}", markup=False)
        screen.print("\nWhoever has the token may join: carry it as you would a password.")


@app.command("join")
def join(
    token: Annotated[str, typer.Argument(help="What r1box cluster invite printed on the leading box.")],
    name: Name = None,
    address: Annotated[
        str | None, typer.Option(help="IP address of this box on the link. Default: the one it reaches the leader by.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Join a cluster. The leading box's daemon must run; it is checked against the token before anything is sent."""
    import asyncio

    from appliance.cluster.invitation import read_token
    from appliance.cluster.leader_client import join as join_cluster
    from appliance.paths import prepare_state

    book = _book()
    prepare_state(book.folder.parent)
    own = None if address is None else _checked(address)
    record = asyncio.run(join_cluster(book, read_token(token), name or _own_name(), own))
    noted("cluster.join", record.id, leader=record.leader, address=record.address)
    if as_json:
        print_json({"schema": 1, "id": record.id, "name": record.name, "leader": record.leader})
        return
    stdout().print(f"This box is [bold]{record.name}[/] of the cluster {record.id}, which {record.leader} leads.")


@app.command("leave")
def leave(
    force: Annotated[bool, typer.Option("--force", help="For the leading box: end the cluster for all.")] = False,
) -> None:
    """Leave the cluster and forget its keys. API keys, people and models stay."""
    import asyncio

    from appliance.cluster.leader_client import say_goodbye

    book = _book()
    record = book.here()
    problem = None if record.leads else asyncio.run(say_goodbye(book, record))
    book.leave(force=force)
    noted("cluster.leave", record.id)
    typer.echo(f"This box has left the cluster {record.id}.")
    if problem is not None:
        typer.echo(f"The leading box was not told ({problem}). There: r1box cluster remove {record.name}", err=True)


@app.command("remove")
def remove(name: Annotated[str, typer.Argument(help="The box to take out.")]) -> None:
    """Take a box out, on the leading box. It is refused from this moment on; what it is being answered ends."""
    _book().remove(name)
    noted("cluster.remove", name)
    typer.echo(f"{name} is out of the cluster.")


@app.command("use")
def use(
    model: Annotated[str | None, typer.Argument(help="Id of a model in safetensors that every box has.")] = None,
    off: Annotated[bool, typer.Option("--off", help="Serve nothing together any more.")] = False,
) -> None:
    """Say, on the leading box, which model all boxes serve together. Running daemons load it when all are there."""
    from appliance.cluster.errors import NotForBoxes
    from appliance.settings import load_settings
    from models.model_store import ModelStore
    from models.store_types import ModelFormat

    if (model is None) is not off:
        raise typer.BadParameter("give the id of a model, or --off")
    book = _book()
    book.led()
    if model is not None:
        found = ModelStore(load_settings().models_dir).get(model)
        if found.format is not ModelFormat.SAFETENSORS:
            raise NotForBoxes(model=found.id, format=found.format.value)
        model = found.id
    book.serve_together(model)
    noted("cluster.use", model or "off")
    typer.echo("Nothing is served together any more." if model is None else f"All boxes are to serve {model} together.")


@app.command("status")
def status(as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """Show the boxes, and the model that they serve together, as the running box sees them."""
    told = BoxClient(url, key).get("/api/admin/cluster")
    if as_json:
        print_json({"schema": 1, **told})
        return
    if told["role"] == "none":
        typer.echo("This box belongs to no cluster. Begin one with: r1box cluster init --address ADDRESS")
        return
    _show(told)


def _show(told: dict[str, Any]) -> None:
    from rich.markup import escape
    from rich.table import Table

    screen = stdout()
    screen.print(f"Cluster [bold]{told['id']}[/], led by {told['leader']} at {told['address']} port {told['port']}")
    if told["problem"]:
        screen.print(f"[bold red]{escape(told['problem'])}[/]")
    table = Table("Box", "", "State", "Address", "Cards", "Model", "Part", box=None, header_style="bold")
    for box in told["boxes"]:
        style = {"here": "green", "away": "bold red"}.get(box["state"], "yellow")
        rank = "-" if box["rank"] is None else f"rank {box['rank']}, {box['part'] or '-'}"
        table.add_row(
            box["name"] + (" (this one)" if box["is_this"] else ""),
            "leads" if box["role"] == "leader" else "",
            f"[{style}]{box['state']}[/]",
            box["address"] or "-",
            "-" if box["devices"] is None else _cards(box["devices"]),
            box["model"] or "-",
            rank,
        )
    screen.print(table)
    if told["model"] is None:
        screen.print("No model is served together.")
        return
    screen.print(f"Model [bold]{escape(told['model'])}[/]: {told['run']}", end="")
    screen.print("" if told["cause"] is None else f" ({escape(told['cause'])})")
    if told["plan"]:
        screen.print(f"  {escape(told['plan'])}")


def _cards(names: list[str]) -> str:
    kinds = {name: names.count(name) for name in names}
    return ", ".join(f"{count} x {name}" for name, count in kinds.items()) or "none"


def _book() -> ClusterBook:
    from appliance.cluster.book import ClusterBook, folder_of
    from appliance.settings import load_settings

    return ClusterBook(folder_of(load_settings().state_dir))


def _own_name() -> str:
    """The host's name as far as a box may be called that."""
    plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in socket.gethostname().partition(".")[0].lower())
    return plain.strip("-")[:63] or "box"


def _checked(address: str) -> str:
    """An address that this machine has. Raises BadAddress."""
    import ipaddress

    from appliance.cluster.errors import BadAddress

    try:
        plain = str(ipaddress.ip_address(address.strip()))
        family = socket.AF_INET6 if ":" in plain else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((plain, 0))
    except ValueError as error:
        raise BadAddress(address=address[:80], reason="it is no IP address") from error
    except OSError as error:
        raise BadAddress(address=address, reason=(error.strerror or "it cannot be bound").lower()) from error
    if ipaddress.ip_address(plain).is_unspecified:
        raise BadAddress(address=address, reason="the other boxes have to reach exactly one address")
    return plain
