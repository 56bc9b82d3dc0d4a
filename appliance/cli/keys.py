"""``r1box keys``: API keys of this box."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliance.cli.accounts import console, open_accounts, read_moment, shown_time
from appliance.cli.output import print_json, stdout
from appliance.cli.users import BadChoice

if TYPE_CHECKING:
    from appliance.security.keys import KeyRecord
    from appliance.security.roles import Permission

app = typer.Typer(help="Create, list, change and revoke API keys.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Who or what uses the key, for example nurse-app.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Scopes = Annotated[
    list[str] | None,
    typer.Option("--scope", help="inference (the default), metrics, admin:read ... or all; may be repeated."),
]
Owner = Annotated[str | None, typer.Option(help="User the key belongs to; it never may more than they.")]
Expires = Annotated[str | None, typer.Option(help="When it ends: 2027-01-31, or 30d from now.")]
Models = Annotated[list[str] | None, typer.Option("--model", help="Only this model; may be repeated.")]
PerMinute = Annotated[int | None, typer.Option("--requests-per-minute", help="Most requests in a minute.")]
TokensPerMinute = Annotated[int | None, typer.Option(help="Most tokens in a minute, prompt and answer.")]
TokensPerDay = Annotated[int | None, typer.Option(help="Most tokens in a day (UTC), thinking included.")]
Batch = Annotated[bool, typer.Option("--batch", help="Its requests go behind those that people wait for.")]
FreeSampling = Annotated[bool, typer.Option("--free-sampling", help="Temperatures outside of R1's band are taken.")]
Reasoning = Annotated[
    str | None,
    typer.Option("--reasoning", help="Where the thought goes: reasoning_content, reasoning, both, inline, hidden."),
]


@app.command("create")
def create(
    name: Name,
    scope: Scopes = None,
    owner: Owner = None,
    expires: Expires = None,
    model: Models = None,
    requests_per_minute: PerMinute = None,
    tokens_per_minute: TokensPerMinute = None,
    tokens_per_day: TokensPerDay = None,
    batch: Batch = False,
    free_sampling: FreeSampling = False,
    reasoning: Reasoning = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the key alone, for scripts.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it. It is stored as a hash: nothing can show it again."""
    from appliance.security.identity import KeyPriority, Policy
    from appliance.security.keys import Grant

    policy = Policy(
        models=tuple(model) if model else None,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        tokens_per_day=tokens_per_day,
        priority=KeyPriority.BATCH if batch else KeyPriority.INTERACTIVE,
        may_override_sampling=free_sampling,
        reasoning_format=_reasoning(reasoning),
    )
    with open_accounts() as accounts:
        user_id = None if owner is None else accounts.users.get(owner).id
        grant = Grant(scopes=_scopes(scope), user_id=user_id, expires_at=read_moment(expires), policy=policy)
        created = accounts.keys.create(name, grant, actor=console())
    if quiet:
        typer.echo(created.secret)
    elif as_json:
        print_json({"schema": 1, **_row(created.record), "key": created.secret})
    else:
        screen = stdout()
        screen.print(f"API key of [bold]{name}[/], shown this once:\n")
        screen.print(f"  {created.secret}\n")
        screen.print(f"It may: {', '.join(_row(created.record)['scopes'])}")
        screen.print("Send it as: Authorization: Bearer KEY")


@app.command("list")
def list_keys(
    everything: Annotated[bool, typer.Option("--all", help="Revoked ones too.")] = False, as_json: AsJson = False
) -> None:
    """Show the keys, without their secrets."""
    with open_accounts() as accounts:
        records = accounts.keys.list(include_revoked=everything)
    if as_json:
        print_json({"schema": 1, "keys": [_row(record) for record in records]})
        return
    if not records:
        typer.echo("No API keys yet. Make one with: r1box keys create NAME")
        return
    from rich.table import Table

    names = ("name", "prefix", "user_name", "scopes", "created_at", "last_used_at", "expires_at", "revoked_at")
    titles = ("Name", "Begins with", "Owner", "Scopes", "Created", "Last used", "Expires", "Revoked")
    table = Table(*titles, box=None, header_style="bold")
    for record in records:
        row = _row(record)
        cells = (" ".join(row[name]) if name == "scopes" else row[name] for name in names)
        table.add_row(*[str(cell or "-") for cell in cells])
    stdout().print(table)


@app.command("revoke")
def revoke(name: Name) -> None:
    """End a key. A running daemon refuses it from the next request on."""
    with open_accounts() as accounts:
        record = accounts.keys.revoke(name, actor=console())
    typer.echo(f"The key of {record.name} ({record.prefix}...) is revoked.")


def _scopes(given: list[str] | None) -> frozenset[Permission]:
    from appliance.security.roles import EVERYTHING, Permission

    known = {permission.value: permission for permission in Permission}
    if given is None:
        return frozenset((Permission.INFERENCE,))
    for name in given:
        if name != "all" and name not in known:
            raise BadChoice(what="A scope", given=name, choices=", ".join([*known, "all"]))
    return EVERYTHING if "all" in given else frozenset(known[name] for name in given)


def _reasoning(given: str | None) -> str | None:
    from appliance.serving.types import ReasoningFormat

    if given is not None and given not in [one.value for one in ReasoningFormat]:
        raise BadChoice(what="--reasoning", given=given, choices=", ".join(ReasoningFormat))
    return given


def _row(record: KeyRecord) -> dict[str, Any]:
    policy = record.policy
    return {
        "id": record.id,
        "name": record.name,
        "prefix": record.prefix,
        "user_name": record.user_name,
        "scopes": sorted(scope.value for scope in record.scopes),
        "models": None if policy.models is None else list(policy.models),
        "requests_per_minute": policy.requests_per_minute,
        "tokens_per_minute": policy.tokens_per_minute,
        "tokens_per_day": policy.tokens_per_day,
        "priority": policy.priority.value,
        "may_override_sampling": policy.may_override_sampling,
        "reasoning_format": policy.reasoning_format,
        "created_at": shown_time(record.created_at),
        "last_used_at": shown_time(record.last_used_at),
        "expires_at": shown_time(record.expires_at),
        "revoked_at": shown_time(record.revoked_at),
    }
