"""API keys: made from 256 random bits, kept as a SHA-256 hash, looked up by it.

Why no slow hash (argon2, bcrypt): those slow down guessing of what people choose. A key here has 256 bits from the
operating system, so that a thief of the database cannot guess it however fast the hash is, while every request pays
for a slow one. Passwords of people are another matter.

All methods block on SQLite: call them through ``asyncio.to_thread``.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import Engine, func, or_, update
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlmodel import Session, col, select

from appliance.security.errors import BadKeyName, KeyNameTaken, KeyNotFound
from appliance.security.identity import KeyIdentity
from appliance.store.tables import ApiKey

KEY_START = "r1b_"
_RANDOM_BYTES = 32
_KEY_LENGTH = len(KEY_START) + 43  # 32 bytes in unpadded base64
_SHOWN_CHARACTERS = len(KEY_START) + 6  # 36 of 256 bits: enough to tell keys apart, useless to a guesser
_NAME_LENGTH = 64
_USE_RESOLUTION = timedelta(minutes=1)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """A stored key, as an operator sees it. Times are in UTC; ``last_used_at`` is exact to a minute."""

    id: int
    name: str
    prefix: str
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


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
    """The keys in the database. Nothing is cached: a key that the command line revokes ends with the next request."""

    def __init__(self, engine: Engine, now: Callable[[], datetime] = _utc_now) -> None:
        self._engine = engine
        self._now = now

    def create(self, name: str) -> CreatedKey:
        """Make a key. Raises BadKeyName, KeyNameTaken."""
        _check_name(name)
        secret = generate_key()
        row = ApiKey(name=name, prefix=secret[:_SHOWN_CHARACTERS], hash=hash_key(secret), created_at=self._now())
        try:
            with Session(self._engine) as session:
                session.add(row)
                session.commit()
                return CreatedKey(record=_record(row), secret=secret)
        except IntegrityError as error:
            raise KeyNameTaken(name=name) from error

    def list(self, *, include_revoked: bool = False) -> tuple[KeyRecord, ...]:
        """The keys, the oldest first."""
        query = select(ApiKey).order_by(col(ApiKey.id))
        if not include_revoked:
            query = query.where(col(ApiKey.revoked_at).is_(None))
        with Session(self._engine) as session:
            return tuple(_record(row) for row in session.exec(query))

    def count(self) -> int:
        """How many keys are live."""
        query = select(func.count()).select_from(ApiKey).where(col(ApiKey.revoked_at).is_(None))
        with Session(self._engine) as session:
            return session.exec(query).one()

    def revoke(self, name: str) -> KeyRecord:
        """End the live key of that name. Raises KeyNotFound."""
        query = select(ApiKey).where(ApiKey.name == name, col(ApiKey.revoked_at).is_(None))
        with Session(self._engine) as session:
            row = session.exec(query).one_or_none()
            if row is None:
                raise KeyNotFound(name=name)
            row.revoked_at = self._now()
            session.add(row)
            session.commit()
            return _record(row)

    def verify(self, key: str) -> KeyIdentity | None:
        """Whose key this is; ``None`` for one that is unknown, revoked or misshapen. Notes the use, once a minute."""
        if len(key) != _KEY_LENGTH or not key.startswith(KEY_START):
            return None
        wanted = hash_key(key)
        query = select(ApiKey.id, ApiKey.name, ApiKey.hash, ApiKey.last_used_at).where(
            ApiKey.hash == wanted, col(ApiKey.revoked_at).is_(None)
        )
        with Session(self._engine) as session:
            found = session.exec(query).one_or_none()
        # The index compares hashes, whose prefixes a caller cannot steer; the last word is constant in time anyhow.
        if found is None or found[0] is None or not hmac.compare_digest(found[2], wanted):
            return None
        self._note_use(found[0], found[3])
        return KeyIdentity(id=found[0], name=found[1])

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


def _record(row: ApiKey) -> KeyRecord:
    assert row.id is not None, "a row that came from the database has an id"
    return KeyRecord(
        id=row.id,
        name=row.name,
        prefix=row.prefix,
        created_at=row.created_at,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
    )
