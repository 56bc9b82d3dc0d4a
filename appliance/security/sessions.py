"""Sessions of people in browsers: 256 random bits in a cookie, stored as a hash, with two ends.

A session ends when it was not used for ``idle_s`` (each use moves that end) and in any case ``max_s`` after the login.
Its CSRF token is derived from the cookie's secret: whoever can read the token through the API has the cookie, a page of
another origin has neither. All methods block on SQLite.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Engine, delete, or_, update
from sqlalchemy.exc import OperationalError
from sqlmodel import Session, col, select

from appliance.security.audit import AuditLog
from appliance.security.errors import SessionNotFound
from appliance.security.identity import SYSTEM, Actor, SessionIdentity
from appliance.security.person import limits_of
from appliance.security.roles import Role
from appliance.store.database import write_transaction
from appliance.store.tables import User, UserSession

_RANDOM_BYTES = 32
_SECRET_LENGTH = 43
_SEEN_RESOLUTION = timedelta(minutes=1)
_AGENT_LENGTH = 256
_ADDRESS_LENGTH = 64
_MOST_PER_USER = 50

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRecord:
    """A live session as a person sees it. Times are in UTC, ``last_seen_at`` exact to a minute; it ends at
    ``idle_until`` or ``expires_at``, whichever is first."""

    id: int
    user_id: int
    user_name: str
    created_at: datetime
    last_seen_at: datetime
    idle_until: datetime
    expires_at: datetime
    address: str | None
    user_agent: str | None


@dataclass(frozen=True, slots=True)
class CreatedSession:
    """A new session with the secret of its cookie, which nothing can show again."""

    id: int
    secret: str
    expires_at: datetime

    @property
    def csrf_token(self) -> str:
        return csrf_token(self.secret)


def hash_secret(secret: str) -> str:
    """SHA-256 in hexadecimal. The secret has 256 random bits: a slow hash would protect nothing more."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def csrf_token(secret: str) -> str:
    """The token that unsafe requests with this session's cookie must carry in a header."""
    return hmac.digest(secret.encode("utf-8", "surrogateescape"), b"r1box csrf", "sha256").hex()


def _utc_now() -> datetime:
    return datetime.now(UTC)


class SessionRepository:
    """The sessions in the database. One that is ended is refused with its next request."""

    def __init__(
        self,
        engine: Engine,
        audit: AuditLog,
        *,
        idle_s: float,
        max_s: float,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._engine = engine
        self._audit = audit
        self._idle = timedelta(seconds=idle_s)
        self._max = timedelta(seconds=max_s)
        self._now = now

    def retune(self, *, idle_s: float, max_s: float) -> None:
        """Other lengths, for sessions that are there too."""
        self._idle = timedelta(seconds=idle_s)
        self._max = timedelta(seconds=max_s)

    def create(self, user_id: int, *, actor: Actor, user_agent: str | None = None) -> CreatedSession:
        """Log the user in. Clears away what has ended; of very many the oldest go."""
        secret, now = secrets.token_urlsafe(_RANDOM_BYTES), self._now()
        with write_transaction(self._engine) as session:
            session.exec(delete(UserSession).where(self._has_ended(now)))
            mine = select(UserSession.id).where(UserSession.user_id == user_id).order_by(col(UserSession.id).desc())
            surplus = list(session.exec(mine.offset(_MOST_PER_USER - 1)))
            session.exec(delete(UserSession).where(col(UserSession.id).in_(surplus)))
            row = UserSession(
                user_id=user_id,
                hash=hash_secret(secret),
                created_at=now,
                last_seen_at=now,
                expires_at=now + self._max,
                address=None if actor.address is None else actor.address[:_ADDRESS_LENGTH],
                user_agent=None if user_agent is None else user_agent[:_AGENT_LENGTH],
            )
            session.add(row)
            session.exec(update(User).where(col(User.id) == user_id).values(last_login_at=now))
            session.flush()
            assert row.id is not None
            self._audit.append(session, actor, "session.login", actor.name, {"session": row.id})
            return CreatedSession(row.id, secret, row.expires_at)

    def verify(self, secret: str, *, note_use: bool = True) -> SessionIdentity | None:
        """Whose session this is; None for one that is unknown, ended, or of a disabled user. ``note_use``: this moves
        its idle end, as what a person does themselves should."""
        if len(secret) != _SECRET_LENGTH:
            return None
        wanted, now = hash_secret(secret), self._now()
        query = select(UserSession, User).join(User, col(User.id) == col(UserSession.user_id))
        query = query.where(UserSession.hash == wanted, col(User.disabled_at).is_(None))
        with Session(self._engine) as session:
            found = session.exec(query).one_or_none()
            if found is None:
                return None
            row, user = found
            assert row.id is not None
            assert user.id is not None
            ends_at = min(row.expires_at, row.last_seen_at + self._idle)
            if not hmac.compare_digest(row.hash, wanted) or now >= ends_at:
                return None
            identity = SessionIdentity(
                id=row.id,
                user_id=user.id,
                user_name=user.name,
                role=Role(user.role),
                language=user.language,
                must_change_password=user.must_change_password,
                person=limits_of(user),
                ends_at=ends_at,
            )
            seen = row.last_seen_at
        if note_use and now - seen >= _SEEN_RESOLUTION:
            self._note_use(identity.id, now)
        return identity

    def list(
        self, user_id: int | None = None, *, after_id: int = 0, limit: int | None = None
    ) -> tuple[SessionRecord, ...]:
        """The live sessions, of one user or of all, in order of their ids."""
        query = select(UserSession, User.name).join(User, col(User.id) == col(UserSession.user_id))
        query = query.where(~self._has_ended(self._now()), col(UserSession.id) > after_id)
        if user_id is not None:
            query = query.where(UserSession.user_id == user_id)
        query = query.order_by(col(UserSession.id))
        if limit is not None:
            query = query.limit(limit)
        with Session(self._engine) as session:
            return tuple(self._record(row, name) for row, name in session.exec(query))

    def end(self, session_id: int, *, user_id: int | None = None, actor: Actor = SYSTEM) -> None:
        """End one session, of this user if one is named. Raises SessionNotFound."""
        with write_transaction(self._engine) as session:
            row = session.get(UserSession, session_id)
            if row is None or (user_id is not None and row.user_id != user_id):
                raise SessionNotFound(id=session_id)
            user = session.get(User, row.user_id)
            session.delete(row)
            name = None if user is None else user.name
            self._audit.append(session, actor, "session.logout", name, {"session": session_id})

    def end_all(self, user_id: int, *, actor: Actor = SYSTEM) -> int:
        """End all sessions of a user; how many there were."""
        with write_transaction(self._engine) as session:
            ids = list(session.exec(select(UserSession.id).where(UserSession.user_id == user_id)))
            session.exec(delete(UserSession).where(col(UserSession.user_id) == user_id))
            user = session.get(User, user_id)
            name = None if user is None else user.name
            self._audit.append(session, actor, "session.logout_everywhere", name, {"sessions": len(ids)})
            return len(ids)

    def _has_ended(self, now: datetime) -> Any:
        return or_(col(UserSession.expires_at) <= now, col(UserSession.last_seen_at) <= now - self._idle)

    def _note_use(self, session_id: int, now: datetime) -> None:
        statement = update(UserSession).where(col(UserSession.id) == session_id).values(last_seen_at=now)
        try:
            with Session(self._engine) as session:
                session.exec(statement)
                session.commit()
        except OperationalError as error:
            # A full disk or a long writer elsewhere must not log people out.
            _log.warning("session_use_not_noted", session_id=session_id, reason=str(error.orig))

    def _record(self, row: UserSession, user_name: str) -> SessionRecord:
        assert row.id is not None
        return SessionRecord(
            id=row.id,
            user_id=row.user_id,
            user_name=user_name,
            created_at=row.created_at,
            last_seen_at=row.last_seen_at,
            idle_until=row.last_seen_at + self._idle,
            expires_at=row.expires_at,
            address=row.address,
            user_agent=row.user_agent,
        )
