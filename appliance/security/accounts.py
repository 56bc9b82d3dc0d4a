"""Everything about who may use the box, put together: logins, the first administrator, who a request comes from.

Methods that do not say otherwise block on SQLite or argon2: call them through ``asyncio.to_thread``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import structlog
from sqlalchemy import Engine

from appliance.security.audit import AuditLog
from appliance.security.errors import BadPassword, LoginFailed, SetupClosed
from appliance.security.identity import Actor, Caller, key_caller, session_caller
from appliance.security.keys import KeyRepository
from appliance.security.passwords import Passwords
from appliance.security.recent import RecentCallers
from appliance.security.roles import PERMISSIONS
from appliance.security.sessions import CreatedSession, SessionRepository
from appliance.security.setup_token import SetupToken
from appliance.security.throttle import LoginThrottle
from appliance.security.users import UserRecord, UserRepository, name_key
from appliance.store.changes import ChangeWatch

SETUP_TOKEN_FILE = "setup-token"  # noqa: S105 - a file's name
DEFAULT_IDLE_S = 12 * 3600.0
DEFAULT_MAX_S = 7 * 86_400.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """A login that succeeded."""

    user: UserRecord
    session: CreatedSession


class Accounts:
    """The repositories of one database and what joins them. For one process; several may work on one database."""

    def __init__(
        self,
        engine: Engine,
        state_dir: Path,
        *,
        session_idle_s: float = DEFAULT_IDLE_S,
        session_max_s: float = DEFAULT_MAX_S,
        passwords: Passwords | None = None,
        throttle: LoginThrottle | None = None,
    ) -> None:
        self._engine = engine
        self._recent: list[RecentCallers] = []
        self.audit = AuditLog(engine)
        self.users = UserRepository(engine, passwords or Passwords(), self.audit)
        self.sessions = SessionRepository(engine, self.audit, idle_s=session_idle_s, max_s=session_max_s)
        self.keys = KeyRepository(engine, audit=self.audit)
        self.setup_token = SetupToken(state_dir / SETUP_TOKEN_FILE)
        self._throttle = throttle or LoginThrottle()

    def recent_callers(self) -> RecentCallers:
        """A memory of callers that this database has let in."""
        recent = RecentCallers(ChangeWatch(self._engine))
        self._recent.append(recent)
        return recent

    def retune_sessions(self, *, idle_s: float, max_s: float) -> None:
        """Other lengths, for sessions that are there too. Does not block."""
        self.sessions.retune(idle_s=idle_s, max_s=max_s)
        for recent in self._recent:
            recent.forget()

    def caller_by_key(self, key: str, address: str | None) -> Caller | None:
        """The key's caller; None for a key that is not valid."""
        identity = self.keys.verify(key)
        return None if identity is None else key_caller(identity, address)

    def caller_by_cookie(self, secret: str, address: str | None, *, note_use: bool = True) -> Caller | None:
        """The caller of a session's cookie; None for one that is not valid. ``note_use``: whether the session lasts
        longer for it."""
        identity = self.sessions.verify(secret, note_use=note_use)
        return None if identity is None else session_caller(identity, PERMISSIONS[identity.role], address)

    def log_in(self, name: str, password: str, *, address: str | None, user_agent: str | None) -> LoggedIn:
        """Check name and password and begin a session. Raises LoginFailed, LoginThrottled."""
        nobody = Actor(kind="nobody", name="", address=address)
        folded = name_key(name[:128])
        self._throttle.begin(folded, address)
        user = self.users.authenticate(name, password)
        if user is None:
            self.audit.record(nobody, "session.login_failed", name[:64])
            _log.warning("login_failed", address=address)
            raise LoginFailed
        self._throttle.succeed(folded, address)
        actor = Actor(kind="user", name=user.name, id=user.id, address=address)
        return LoggedIn(user, self.sessions.create(user.id, actor=actor, user_agent=user_agent))

    def ensure_setup_token(self) -> str | None:
        """The token while it is needed; None, and no file, when there is an administrator."""
        if self.users.has_admin():
            self.setup_token.remove()
            return None
        return self.setup_token.ensure()

    def set_up(
        self, token: str, name: str, password: str, *, language: str, address: str | None, user_agent: str | None
    ) -> LoggedIn:
        """Make the first administrator and log them in. Raises SetupClosed, LoginThrottled, BadUserName, BadPassword,
        UserNameTaken."""
        throttled_as = "\0setup"  # no user can have this name
        self._throttle.begin(throttled_as, address)
        nobody = Actor(kind="nobody", name="", address=address)
        if self.users.has_admin():
            raise SetupClosed(problem="This box has an administrator already.")
        if not self.setup_token.matches(token):
            self.audit.record(nobody, "setup.failed")
            raise SetupClosed(problem="The setup token is wrong.")
        self._throttle.succeed(throttled_as, address)
        user = self.users.create_first_admin(name, password, language=language, actor=nobody)
        if user is None:
            raise SetupClosed(problem="This box has an administrator already.")
        self.setup_token.remove()
        actor = Actor(kind="user", name=user.name, id=user.id, address=address)
        return LoggedIn(user, self.sessions.create(user.id, actor=actor, user_agent=user_agent))

    def change_own_password(self, caller: Caller, old: str, new: str, *, actor: Actor) -> None:
        """Another password for the person behind ``caller``'s session, whose other sessions end. Raises LoginFailed,
        LoginThrottled, BadPassword."""
        assert caller.session is not None
        session = caller.session
        throttled_as = name_key(session.user_name)
        self._throttle.begin(throttled_as, caller.address)
        self.users.check_own_password(session.user_id, old)
        self._throttle.succeed(throttled_as, caller.address)
        if old == new:
            raise BadPassword(reason="it is the old one")
        self.users.set_password(session.user_id, new, actor=actor, keep_session=session.id)
