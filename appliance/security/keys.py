"""API keys: made from 256 random bits, kept as a SHA-256 hash, looked up by it.

Why no slow hash (argon2, bcrypt): those slow down guessing of what people choose. A key here has 256 bits from the
operating system, so that a thief of the database cannot guess it however fast the hash is, while every request pays
for a slow one. Passwords of people are another matter.

All methods block on SQLite: call them through ``asyncio.to_thread``.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Engine, func, or_, update
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlmodel import Session, col, select

from appliance.security.audit import AuditLog
from appliance.security.errors import BadKeyGrant, BadKeyName, KeyNameTaken, KeyNotFound, UserNotFound
from appliance.security.identity import SYSTEM, Actor, KeyIdentity, KeyPriority, Policy
from appliance.security.person import limits_of
from appliance.security.roles import EVERYTHING, PERMISSIONS, Permission, Role
from appliance.store.database import write_transaction
from appliance.store.tables import ApiKey, User

KEY_START = "r1b_"
_RANDOM_BYTES = 32
_KEY_LENGTH = len(KEY_START) + 43  # 32 bytes in unpadded base64
_SHOWN_CHARACTERS = len(KEY_START) + 6  # 36 of 256 bits: enough to tell keys apart, useless to a guesser
_NAME_LENGTH = 64
_MOST = 10**12
_KNOWN_SCOPES = {permission.value: permission for permission in Permission}
_USE_RESOLUTION = timedelta(minutes=1)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """A stored key, as an operator sees it. Times are in UTC; ``last_used_at`` is exact to a minute. ``user_id`` and
    ``user_name`` are its owner's."""

    id: int
    name: str
    prefix: str
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None
    expires_at: datetime | None
    user_id: int | None
    user_name: str | None
    scopes: frozenset[Permission]
    policy: Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a key is to have. Without an owner it is nobody's in particular, and may whatever its scopes say."""

    scopes: frozenset[Permission] = frozenset((Permission.INFERENCE,))
    user_id: int | None = None
    expires_at: datetime | None = None
    policy: Policy = field(default_factory=Policy)


@dataclass(frozen=True, slots=True)
class CreatedKey:
    """A new key with its secret, which nothing can show again."""

    record: KeyRecord
    secret: str


def generate_key() -> str:
    """``r1b_`` and 32 random bytes in URL-safe base64."""
    return KEY_START + secrets.token_urlsafe(_RANDOM_BYTES)


def hash_key(key: str) -> str:
    """SHA-256 of the whole key, in hexadecimal."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def _utc_now() -> datetime:
    return datetime.now(UTC)


class KeyRepository:
    """The keys in the database. Nothing is cached here (``security.recent`` is what remembers callers): a key that the
    command line revokes ends with the next request.

    Every change is one transaction with its audit row.
    """

    def __init__(self, engine: Engine, now: Callable[[], datetime] = _utc_now, audit: AuditLog | None = None) -> None:
        self._engine = engine
        self._now = now
        self._audit = AuditLog(engine, now) if audit is None else audit

    def create(self, name: str, grant: Grant | None = None, *, actor: Actor = SYSTEM) -> CreatedKey:
        """Make a key. Raises BadKeyName, BadKeyGrant, KeyNameTaken, UserNotFound."""
        _check_name(name)
        grant = grant or Grant()
        self._check_grant(grant)
        secret = generate_key()
        row = ApiKey(
            name=name,
            prefix=secret[:_SHOWN_CHARACTERS],
            hash=hash_key(secret),
            created_at=self._now(),
            **_columns(grant),
        )
        try:
            with write_transaction(self._engine) as session:
                owner = self._owner(session, grant.user_id)
                session.add(row)
                session.flush()
                self._audit.append(session, actor, "key.create", name, {"id": row.id, **_told(grant)})
                return CreatedKey(record=_record(row, owner), secret=secret)
        except IntegrityError as error:
            raise KeyNameTaken(name=name) from error

    def list(
        self,
        *,
        include_revoked: bool = False,
        query: str | None = None,
        user_id: int | None = None,
        after_id: int = 0,
        limit: int | None = None,
    ) -> tuple[KeyRecord, ...]:
        """The keys, the oldest first, after ``after_id``. ``query`` is a part of the name."""
        statement = _joined().where(col(ApiKey.id) > after_id).order_by(col(ApiKey.id))
        if not include_revoked:
            statement = statement.where(col(ApiKey.revoked_at).is_(None))
        if query:
            statement = statement.where(func.lower(ApiKey.name).contains(query.lower(), autoescape=True))
        if user_id is not None:
            statement = statement.where(ApiKey.user_id == user_id)
        if limit is not None:
            statement = statement.limit(limit)
        with Session(self._engine) as session:
            return tuple(_record(row, owner) for row, owner in session.exec(statement))

    def get(self, key_id: int) -> KeyRecord:
        """A key, revoked or not. Raises KeyNotFound."""
        with Session(self._engine) as session:
            found = session.exec(_joined().where(col(ApiKey.id) == key_id)).one_or_none()
            if found is None:
                raise KeyNotFound(name=key_id)
            return _record(*found)

    def count(self) -> int:
        """How many keys are live."""
        query = select(func.count()).select_from(ApiKey).where(col(ApiKey.revoked_at).is_(None))
        with Session(self._engine) as session:
            return session.exec(query).one()

    def change(self, key_id: int, grant: Grant, *, actor: Actor = SYSTEM) -> KeyRecord:
        """Give a live key another grant. Raises KeyNotFound, BadKeyGrant, UserNotFound."""
        self._check_grant(grant)
        with write_transaction(self._engine) as session:
            row = session.get(ApiKey, key_id)
            if row is None or row.revoked_at is not None:
                raise KeyNotFound(name=key_id)
            owner = self._owner(session, grant.user_id)
            row.sqlmodel_update(_columns(grant))
            session.add(row)
            self._audit.append(session, actor, "key.change", row.name, {"id": row.id, **_told(grant)})
            return _record(row, owner)

    def revoke(self, key: str | int, *, actor: Actor = SYSTEM) -> KeyRecord:
        """End the live key of that name or id. Raises KeyNotFound."""
        which = ApiKey.name == key if isinstance(key, str) else ApiKey.id == key
        with write_transaction(self._engine) as session:
            found = session.exec(_joined().where(which, col(ApiKey.revoked_at).is_(None))).one_or_none()
            if found is None:
                raise KeyNotFound(name=key)
            row, owner = found
            row.revoked_at = self._now()
            session.add(row)
            self._audit.append(session, actor, "key.revoke", row.name, {"id": row.id})
            return _record(row, owner)

    def verify(self, key: str) -> KeyIdentity | None:
        """Whose key this is; ``None`` for one that is unknown, misshapen, revoked, expired or of a disabled user. What
        it may is cut to what its owner may. Notes the use, once a minute."""
        if len(key) != _KEY_LENGTH or not key.startswith(KEY_START):
            return None
        wanted = hash_key(key)
        query = select(ApiKey, User).outerjoin(User, col(User.id) == col(ApiKey.user_id))
        with Session(self._engine) as session:
            found = session.exec(query.where(ApiKey.hash == wanted, col(ApiKey.revoked_at).is_(None))).one_or_none()
        # The index compares hashes, whose prefixes a caller cannot steer; the last word is constant in time anyhow.
        if found is None or found[0].id is None or not hmac.compare_digest(found[0].hash, wanted):
            return None
        row, owner = found
        assert row.id is not None
        if (owner is not None and owner.disabled_at is not None) or (
            row.expires_at is not None and row.expires_at <= self._now()
        ):
            return None
        scopes = _scopes(row) & (EVERYTHING if owner is None else PERMISSIONS[Role(owner.role)])
        self._note_use(row.id, row.last_used_at)
        return KeyIdentity(row.id, row.name, scopes, row.user_id, _policy(row), limits_of(owner), row.expires_at)

    def _check_grant(self, grant: Grant) -> None:
        policy = grant.policy
        if not grant.scopes:
            raise BadKeyGrant(reason="it has no scope")
        if grant.expires_at is not None and grant.expires_at <= self._now():
            raise BadKeyGrant(reason="its end lies in the past")
        limits = (policy.requests_per_minute, policy.tokens_per_minute, policy.tokens_per_day)
        if any(limit is not None and not 0 < limit <= _MOST for limit in limits):
            raise BadKeyGrant(reason=f"a limit is not from 1 to {_MOST:,}")

    @staticmethod
    def _owner(session: Session, user_id: int | None) -> str | None:
        if user_id is None:
            return None
        user = session.get(User, user_id)
        if user is None:
            raise UserNotFound(user=user_id)
        return user.name

    def _note_use(self, key_id: int, last_used_at: datetime | None) -> None:
        now = self._now()
        before = now - _USE_RESOLUTION
        if last_used_at is not None and last_used_at > before:
            return
        used = col(ApiKey.last_used_at)
        statement = update(ApiKey).where(col(ApiKey.id) == key_id, or_(used.is_(None), used <= before))
        try:
            with Session(self._engine) as session:
                session.exec(statement.values(last_used_at=now))
                session.commit()
        except OperationalError as error:
            # A full disk or a long writer elsewhere must not lock people out.
            _log.warning("key_use_not_noted", key_id=key_id, reason=str(error.orig))


def _check_name(name: str) -> None:
    if not name or name != name.strip():
        raise BadKeyName(name=name, reason="it is empty, or begins or ends with a space")
    if len(name) > _NAME_LENGTH:
        raise BadKeyName(name=name[:_NAME_LENGTH], reason=f"it is longer than {_NAME_LENGTH} characters")
    if not name.isprintable():
        raise BadKeyName(name=name, reason="it has characters that cannot be shown")


def _joined() -> Any:
    """Keys with their owners' names."""
    return select(ApiKey, User.name).outerjoin(User, col(User.id) == col(ApiKey.user_id))


def _columns(grant: Grant) -> dict[str, Any]:
    policy = grant.policy
    return {
        "scopes": " ".join(sorted(grant.scopes)),
        "user_id": grant.user_id,
        "expires_at": grant.expires_at,
        "models": None if policy.models is None else json.dumps(list(policy.models)),
        "requests_per_minute": policy.requests_per_minute,
        "tokens_per_minute": policy.tokens_per_minute,
        "tokens_per_day": policy.tokens_per_day,
        "priority": policy.priority.value,
        "may_override_sampling": policy.may_override_sampling,
        "reasoning_format": policy.reasoning_format,
    }


def _told(grant: Grant) -> dict[str, Any]:
    """A grant as the audit log has it: what is not as usual."""
    usual = Policy()
    told: dict[str, Any] = {"scopes": sorted(grant.scopes)}
    if grant.user_id is not None:
        told["user_id"] = grant.user_id
    if grant.expires_at is not None:
        told["expires_at"] = grant.expires_at.isoformat()
    for name in Policy.__slots__:
        value = getattr(grant.policy, name)
        if value != getattr(usual, name):
            told[name] = list(value) if isinstance(value, tuple) else value
    return told


def _scopes(row: ApiKey) -> frozenset[Permission]:
    # A scope that a newer version knew is no permission here.
    return frozenset(_KNOWN_SCOPES[name] for name in row.scopes.split() if name in _KNOWN_SCOPES)


def _policy(row: ApiKey) -> Policy:
    return Policy(
        models=None if row.models is None else tuple(json.loads(row.models)),
        requests_per_minute=row.requests_per_minute,
        tokens_per_minute=row.tokens_per_minute,
        tokens_per_day=row.tokens_per_day,
        priority=KeyPriority(row.priority),
        may_override_sampling=row.may_override_sampling,
        reasoning_format=row.reasoning_format,
    )


def _record(row: ApiKey, owner: str | None) -> KeyRecord:
    assert row.id is not None, "a row that came from the database has an id"
    return KeyRecord(
        id=row.id,
        name=row.name,
        prefix=row.prefix,
        created_at=row.created_at,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
        expires_at=row.expires_at,
        user_id=row.user_id,
        user_name=owner,
        scopes=_scopes(row),
        policy=_policy(row),
    )
