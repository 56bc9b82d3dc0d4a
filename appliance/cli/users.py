"""``r1box users``: the people who may log in. Works beside a running daemon, and without one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliance.cli.accounts import console, open_accounts, shown_time
from appliance.cli.output import print_json, stdout
from appliance.errors import AppError

if TYPE_CHECKING:
    from appliance.security.users import UserRecord

app = typer.Typer(help="Create, list and change the people who may log in.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name of the user, for example li.wei.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RoleOption = Annotated[str, typer.Option(help="viewer, user, operator or admin.")]
LanguageOption = Annotated[str | None, typer.Option(help="en or zh.")]
LimitOption = Annotated[int | None, typer.Option(min=0, help="Of all their keys and sessions together; 0 is none.")]
FromStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]


class BadChoice(AppError):
    """A word that is none of those that are possible."""

    code = "bad_choice"
    template = "{what} may be {choices}, not '{given}'."


class PasswordsDiffer(AppError):
    """The password was typed in two ways."""

    code = "passwords_differ"
    template = "The two passwords differ; nothing was changed."


class AlreadySetUp(AppError):
    """The setup token is gone."""

    code = "already_set_up"
    template = "This box has an administrator; there is no setup token any more."
    hint_template = "A forgotten password: r1box users reset NAME"


@app.command("create")
def create(
    name: Name,
    role: RoleOption = "user",
    language: LanguageOption = None,
    password_stdin: FromStdin = False,
    as_json: AsJson = False,
) -> None:
    """Make a user. The password is asked for and never shown."""
    from appliance.security.roles import Role

    chosen = Role(_choice("role", role, [one.value for one in Role]))
    with open_accounts() as accounts:
        record = accounts.users.create(
            name, chosen, _password(password_stdin), language=_language(language) or "en", actor=console()
        )
        accounts.ensure_setup_token()
    if as_json:
        print_json({"schema": 1, **_row(record)})
    else:
        typer.echo(f"{record.name} may log in as {record.role.value}.")


@app.command("list")
def list_users(as_json: AsJson = False) -> None:
    """Show the users."""
    with open_accounts() as accounts:
        records = accounts.users.list()
    if as_json:
        print_json({"schema": 1, "users": [_row(record) for record in records]})
        return
    if not records:
        typer.echo("No users yet. Make the first administrator with: r1box users create NAME --role admin")
        return
    from rich.table import Table

    table = Table("Name", "Role", "Language", "Last login", "Disabled", box=None, header_style="bold")
    for record in records:
        row = _row(record)
        table.add_row(*[str(row[name] or "-") for name in ("name", "role", "language", "last_login_at", "disabled_at")])
    stdout().print(table)


@app.command("change")
def change(
    name: Name,
    role: Annotated[str | None, typer.Option(help="viewer, user, operator or admin.")] = None,
    language: LanguageOption = None,
    requests_per_minute: LimitOption = None,
    tokens_per_minute: LimitOption = None,
    tokens_per_day: LimitOption = None,
) -> None:
    """Give a user another role or language, or limits for all their keys and sessions together."""
    from appliance.security.person import LIMITS
    from appliance.security.roles import Role

    chosen = None if role is None else Role(_choice("role", role, [one.value for one in Role]))
    with open_accounts() as accounts:
        limits = {
            option: given or None  # 0 is none
            for option, given in (
                ("requests_per_minute", requests_per_minute),
                ("tokens_per_minute", tokens_per_minute),
                ("tokens_per_day", tokens_per_day),
            )
            if given is not None
        }
        record = accounts.users.change(name, role=chosen, language=_language(language), limits=limits, actor=console())
        accounts.ensure_setup_token()
    told = [f"{getattr(record.limits, one):,} {one.replace('_', ' ')}" for one in LIMITS if getattr(record.limits, one)]
    limited = f" At most {', '.join(told)}." if told else ""
    typer.echo(f"{record.name} is {record.role.value}, with the language {record.language}.{limited}")


@app.command("disable")
def disable(name: Name) -> None:
    """Keep a user out: sessions end, and so do the user's keys while it lasts."""
    with open_accounts() as accounts:
        record = accounts.users.change(name, disabled=True, actor=console())
    typer.echo(f"{record.name} is disabled.")


@app.command("enable")
def enable(name: Name) -> None:
    """Let a disabled user in again."""
    with open_accounts() as accounts:
        record = accounts.users.change(name, disabled=False, actor=console())
    typer.echo(f"{record.name} may log in again.")


@app.command("reset")
def reset(
    name: Name,
    password_stdin: FromStdin = False,
    keep: Annotated[bool, typer.Option("--keep", help="It need not be changed at the next login.")] = False,
) -> None:
    """Give a user a new password, when the old one is forgotten. All sessions of the user end."""
    with open_accounts() as accounts:
        accounts.users.get(name)
        record = accounts.users.set_password(name, _password(password_stdin), must_change=not keep, actor=console())
        accounts.ensure_setup_token()
    typer.echo(f"{record.name} has a new password" + ("." if keep else ", to be changed at the next login."))


@app.command("logout")
def logout(name: Name) -> None:
    """End all sessions of a user."""
    with open_accounts() as accounts:
        ended = accounts.sessions.end_all(accounts.users.get(name).id, actor=console())
    typer.echo(f"Ended: {ended}")


@app.command("setup-token")
def setup_token() -> None:
    """Print the token with which the first administrator is made on the chat page."""
    with open_accounts() as accounts:
        token = accounts.ensure_setup_token()
    if token is None:
        raise AlreadySetUp
    typer.echo(token)


def _password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    first: str = typer.prompt("Password", hide_input=True)
    if first != typer.prompt("The same again", hide_input=True):
        raise PasswordsDiffer
    return first


def _choice(what: str, given: str, choices: list[str]) -> str:
    if given not in choices:
        raise BadChoice(what=what, given=given, choices=", ".join(choices))
    return given


def _language(given: str | None) -> str | None:
    from appliance.security.users import LANGUAGES

    return None if given is None else _choice("language", given, list(LANGUAGES))


def _row(record: UserRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "name": record.name,
        "role": record.role.value,
        "language": record.language,
        "has_password": record.has_password,
        "must_change_password": record.must_change_password,
        "created_at": shown_time(record.created_at),
        "last_login_at": shown_time(record.last_login_at),
        "disabled_at": shown_time(record.disabled_at),
        "requests_per_minute": record.limits.requests_per_minute,
        "tokens_per_minute": record.limits.tokens_per_minute,
        "tokens_per_day": record.limits.tokens_per_day,
    }
