"""What the commands about users, keys and the audit log share: the database and who works with it."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from appliance.errors import AppError

if TYPE_CHECKING:
    from appliance.security.accounts import Accounts
    from appliance.security.identity import Actor


class BadMoment(AppError):
    """A moment on the command line that cannot be read."""

    code = "bad_moment"
    template = "'{text}' is no moment."
    hint_template = "Write 2027-01-31, 2027-01-31T18:00, or a time from now such as 30d or 12h."


@contextmanager
def open_accounts() -> Iterator[Accounts]:
    """The accounts in the state folder's database, which a daemon may use at the same time."""
    from appliance.backup.in_use import in_use
    from appliance.backup.pending import finish_pending
    from appliance.cli.state import remove_all_models
    from appliance.paths import prepare_state
    from appliance.security.accounts import Accounts
    from appliance.settings import load_settings
    from appliance.store.database import open_database

    settings = load_settings()
    paths = prepare_state(settings.state_dir)
    # A restore that waits for a start is done here too, unless a daemon works with the old state.
    finish_pending(settings.state_dir, lambda: remove_all_models(settings))
    with in_use(settings.state_dir):
        database = open_database(paths.database)
        try:
            yield Accounts(
                database, paths.state_dir, session_idle_s=settings.session_idle_s, session_max_s=settings.session_max_s
            )
        finally:
            database.dispose()


def noted(action: str, target: str | None = None, **details: object) -> None:
    """A row of the audit log for what this command did. Where the log cannot be written (another user's state folder)
    the deed stays done, and a warning says so."""
    from rich.markup import escape
    from sqlalchemy.exc import DatabaseError

    from appliance.cli.output import stderr

    try:
        with open_accounts() as accounts:
            accounts.audit.record(console(), action, target, details)
    except (AppError, DatabaseError) as error:
        reason = error.message if isinstance(error, AppError) else str(error.orig)
        stderr().print(f"[yellow]Warning:[/] this is not in the audit log: {escape(reason)}")


def console() -> Actor:
    """Whoever runs this command, as the audit log names them."""
    from appliance.security.identity import Actor

    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in some containers
        name = f"uid {os.getuid()}"
    # sudo says who is behind it; it is a hint and no proof, as root can write anything anyhow.
    behind = os.environ.get("SUDO_USER")
    return Actor(kind="console", name=f"{name} (sudo by {behind})" if behind and name == "root" else name)


def shown_time(value: datetime | None) -> str | None:
    """A moment to the minute, None stays None."""
    return None if value is None else value.isoformat(timespec="minutes")


def read_moment(text: str | None) -> datetime | None:
    """A date, a moment (this machine's time zone unless it says one) or a time from now. Raises BadMoment."""
    from datetime import timedelta

    if text is None:
        return None
    units = {"m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}
    try:
        if text[-1:] in units and text[:-1].isdecimal():
            return datetime.now(UTC) + timedelta(seconds=int(text[:-1]) * units[text[-1]])
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise BadMoment(text=text) from error
