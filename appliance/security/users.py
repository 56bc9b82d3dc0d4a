"""The people who may log in. All methods block: on SQLite, and on argon2 where a password is set or checked."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, delete, func
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from appliance.security.audit import AuditLog
from appliance.security.errors import BadUserName, LastAdmin, LoginFailed, UserNameTaken, UserNotFound
from appliance.security.identity import SYSTEM, Actor, Policy
from appliance.security.passwords import Passwords, check_password
from appliance.security.person import limits_of
from appliance.security.roles import Role
from appliance.store.database import write_transaction
from appliance.store.tables import User, UserSession

LANGUAGES = ("en", "zh")
_NAME_LENGTH = 64
_NAME_MARKS = frozenset("._-@ ")


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRecord:
    """A user as an administrator sees it. Times are in UTC."""

    id: int
    name: str
    role: Role
    language: str
    has_password: bool
    must_change_password: bool
    created_at: datetime
    password_changed_at: datetime | None
    last_login_at: datetime | None
    disabled_at: datetime | None
    limits: Policy = field(default_factory=Policy)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class UserRepository:
    """The users in the database. Every change is one transaction with its audit row."""

    def __init__(
        self, engine: Engine, passwords: Passwords, audit: AuditLog, now: Callable[[], datetime] = _utc_now
    ) -> None:
        self._engine = engine
        self._passwords = passwords
        self._audit = audit
        self._now = now

    def create(
        self,
        name: str,
        role: Role,
        password: str | None,
        *,
        language: str = "en",
        must_change_password: bool = False,
        actor: Actor = SYSTEM,
    ) -> UserRecord:
        """Make a user; without a password they cannot log in yet. Raises BadUserName, BadPassword, UserNameTaken."""
        row = self._new(name, role, password, language, must_change_password)
        try:
            with write_transaction(self._engine) as session:
                return self._insert(session, row, actor)
        except IntegrityError as error:
            raise UserNameTaken(name=row.name) from error

    def create_first_admin(self, name: str, password: str, *, language: str, actor: Actor) -> UserRecord | None:
        """Make an administrator; None, and nothing is done, when one can log in already. Raises as ``create``."""
        row = self._new(name, Role.ADMIN, password, language, must_change=False)
        try:
            with write_transaction(self._engine) as session:
                return None if _admins(session) else self._insert(session, row, actor)
        except IntegrityError as error:
            raise UserNameTaken(name=row.name) from error

    def get(self, user: int | str) -> UserRecord:
        """By id or by name. Raises UserNotFound."""
        with Session(self._engine) as session:
            return _record(_find(session, user))

    def list(
        self,
        *,
        query: str | None = None,
        role: Role | None = None,
        disabled: bool | None = None,
        after_id: int = 0,
        limit: int | None = None,
    ) -> tuple[UserRecord, ...]:
        """The users in order of their ids, after ``after_id``. ``query`` is a part of the name."""
        statement = select(User).where(col(User.id) > after_id).order_by(col(User.id))
        if query:
            statement = statement.where(col(User.name_key).contains(name_key(query), autoescape=True))
        if role is not None:
            statement = statement.where(User.role == role.value)
        if disabled is not None:
            at = col(User.disabled_at)
            statement = statement.where(at.is_not(None) if disabled else at.is_(None))
        if limit is not None:
            statement = statement.limit(limit)
        with Session(self._engine) as session:
            return tuple(_record(row) for row in session.exec(statement))

    def has_admin(self) -> bool:
        """Whether an administrator can log in."""
        with Session(self._engine) as session:
            return bool(_admins(session))

    def change(
        self,
        user: int | str,
        *,
        role: Role | None = None,
        language: str | None = None,
        disabled: bool | None = None,
        limits: Mapping[str, int | None] | None = None,
        actor: Actor = SYSTEM,
    ) -> UserRecord:
        """Change what is not None; ``limits`` by name (``person.LIMITS``), None is no limit. Who is disabled loses all
        sessions. Raises UserNotFound, LastAdmin."""
        with write_transaction(self._engine) as session:
            row = _find(session, user)
            was_admin = _can_administrate(row)
            changed: dict[str, Any] = {}
            if role is not None and role.value != row.role:
                changed["role"] = [row.role, role.value]
                row.role = role.value
            if language is not None and language != row.language:
                changed["language"] = [row.language, language]
                row.language = language
            if disabled is not None and disabled != (row.disabled_at is not None):
                changed["disabled"] = disabled
                row.disabled_at = self._now() if disabled else None
                if disabled:
                    session.exec(delete(UserSession).where(col(UserSession.user_id) == row.id))
            for name, limit in (limits or {}).items():
                if limit != getattr(row, name):
                    changed[name] = [getattr(row, name), limit]
                    setattr(row, name, limit)
            if changed:
                session.add(row)
                session.flush()
                if was_admin and not _admins(session):
                    raise LastAdmin(name=row.name)
                self._audit.append(session, actor, "user.change", row.name, {"id": row.id, **changed})
            return _record(row)

    def set_password(
        self, user: int | str, password: str, *, must_change: bool = False, actor: Actor = SYSTEM, keep_session: int = 0
    ) -> UserRecord:
        """Give another password; all sessions end but ``keep_session``. Raises UserNotFound, BadPassword."""
        name = self.get(user).name
        hash_ = self._checked_hash(password, name)
        with write_transaction(self._engine) as session:
            row = _find(session, user)
            row.password_hash, row.must_change_password, row.password_changed_at = hash_, must_change, self._now()
            session.add(row)
            others = col(UserSession.user_id) == row.id, col(UserSession.id) != keep_session
            session.exec(delete(UserSession).where(*others))
            self._audit.append(session, actor, "user.password", row.name, {"id": row.id, "must_change": must_change})
            return _record(row)

    def check_own_password(self, user_id: int, password: str) -> None:
        """Raises LoginFailed when it is not the user's."""
        with Session(self._engine) as session:
            stored = _find(session, user_id).password_hash
        if not self._passwords.verify(stored, password):
            raise LoginFailed

    def authenticate(self, name: str, password: str) -> UserRecord | None:
        """The user with that name and password, None when there is none or they are disabled.

        Every answer costs one argon2 computation, so that the time does not tell which names exist. A hash with old
        parameters is made anew.
        """
        with Session(self._engine) as session:
            row = session.exec(select(User).where(User.name_key == name_key(name[: 2 * _NAME_LENGTH]))).one_or_none()
            stored = None if row is None else row.password_hash
            found = None if row is None else _record(row)
        if not self._passwords.verify(stored, password) or found is None or found.disabled_at is not None:
            return None
        if stored is not None and self._passwords.is_outdated(stored):
            fresh = self._passwords.hash(password)
            with write_transaction(self._engine) as session:
                row = _find(session, found.id)
                if row.password_hash == stored:
                    row.password_hash = fresh
                    session.add(row)
        return found

    def _new(self, name: str, role: Role, password: str | None, language: str, must_change: bool) -> User:
        name = check_user_name(name)
        hash_ = None if password is None else self._checked_hash(password, name)
        now = self._now()
        return User(
            name=name,
            name_key=name_key(name),
            role=role.value,
            language=language,
            password_hash=hash_,
            must_change_password=must_change,
            created_at=now,
            password_changed_at=None if hash_ is None else now,
        )

    def _insert(self, session: Session, row: User, actor: Actor) -> UserRecord:
        session.add(row)
        session.flush()
        self._audit.append(session, actor, "user.create", row.name, {"id": row.id, "role": row.role})
        return _record(row)

    def _checked_hash(self, password: str, name: str) -> str:
        check_password(password, user_name=name)
        return self._passwords.hash(password)


def name_key(name: str) -> str:
    """The form in which names are compared: NFKC, without case."""
    return unicodedata.normalize("NFKC", name).casefold().strip()


def check_user_name(name: str) -> str:
    """The name in NFKC. Raises BadUserName."""
    name = unicodedata.normalize("NFKC", name)
    if not name or name != name.strip():
        raise BadUserName(name=name[:_NAME_LENGTH], reason="it is empty, or begins or ends with a space")
    if len(name) > _NAME_LENGTH:
        raise BadUserName(name=name[:_NAME_LENGTH], reason=f"it is longer than {_NAME_LENGTH} characters")
    if not all(char.isalnum() or char in _NAME_MARKS for char in name):
        raise BadUserName(name=name, reason="it has other characters than letters, digits and . _ - @")
    return name


def _find(session: Session, user: int | str) -> User:
    query = select(User).where(User.id == user if isinstance(user, int) else User.name_key == name_key(user))
    row = session.exec(query).one_or_none()
    if row is None:
        raise UserNotFound(user=user)
    return row


def _admins(session: Session) -> int:
    query = select(func.count()).select_from(User)
    able = col(User.disabled_at).is_(None), col(User.password_hash).is_not(None)
    return session.exec(query.where(User.role == Role.ADMIN.value, *able)).one()


def _can_administrate(row: User) -> bool:
    return row.role == Role.ADMIN.value and row.disabled_at is None and row.password_hash is not None


def _record(row: User) -> UserRecord:
    assert row.id is not None, "a row that came from the database has an id"
    return UserRecord(
        id=row.id,
        name=row.name,
        role=Role(row.role),
        language=row.language,
        has_password=row.password_hash is not None,
        must_change_password=row.must_change_password,
        created_at=row.created_at,
        password_changed_at=row.password_changed_at,
        last_login_at=row.last_login_at,
        disabled_at=row.disabled_at,
        limits=limits_of(row),
    )
