"""Tables. Every change here needs a migration in ``appliance.store.migrations``; a test compares the two."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    text,
)
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, SQLModel


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC. SQLite keeps no zone, so one is required going in and put back coming out."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment without a time zone")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


class ApiKey(SQLModel, table=True):
    """A key for the API. Only its hash is kept; revoked rows stay, for usage and audit refer to them.

    ``scopes`` are names with spaces between them, ``models`` is a JSON list, None for all of them.
    """

    __tablename__ = "api_key"
    __table_args__ = (
        # Of the live keys a name is unique; one of a revoked key may be given again.
        Index("ix_api_key_live_name", "name", unique=True, sqlite_where=text("revoked_at IS NULL")),
        Index("ix_api_key_hash", "hash", unique=True),
    )

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(sa_column=Column(String(64), nullable=False))
    prefix: str = Field(sa_column=Column(String(16), nullable=False))
    hash: str = Field(sa_column=Column(String(64), nullable=False))
    created_at: datetime = Field(sa_column=Column(UtcDateTime(), nullable=False))
    last_used_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime(), nullable=True))
    revoked_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime(), nullable=True))
    scopes: str = Field(sa_column=Column(String(256), nullable=False, server_default="inference metrics admin:read"))
    user_id: int | None = Field(default=None, sa_column=Column(Integer(), nullable=True))
    expires_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime(), nullable=True))
    models: str | None = Field(default=None, sa_column=Column(Text(), nullable=True))
    requests_per_minute: int | None = Field(default=None, sa_column=Column(Integer(), nullable=True))
    tokens_per_minute: int | None = Field(default=None, sa_column=Column(Integer(), nullable=True))
    tokens_per_day: int | None = Field(default=None, sa_column=Column(Integer(), nullable=True))
    priority: str = Field(sa_column=Column(String(16), nullable=False, server_default="interactive"))
    may_override_sampling: bool = Field(sa_column=Column(Boolean(), nullable=False, server_default=text("0")))
    reasoning_format: str | None = Field(default=None, sa_column=Column(String(32), nullable=True))


class User(SQLModel, table=True):
    """A person who may log in. ``name_key`` is the name as it is compared; users are disabled, not deleted, for keys,
    usage and audit refer to them."""

    __tablename__ = "user"
    __table_args__ = (Index("ix_user_name_key", "name_key", unique=True),)

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(sa_column=Column(String(64), nullable=False))
    name_key: str = Field(sa_column=Column(String(128), nullable=False))
    role: str = Field(sa_column=Column(String(16), nullable=False))
    language: str = Field(sa_column=Column(String(16), nullable=False))
    password_hash: str | None = Field(default=None, sa_column=Column(String(256), nullable=True))
    must_change_password: bool = Field(default=False, sa_column=Column(Boolean(), nullable=False))
    created_at: datetime = Field(sa_column=Column(UtcDateTime(), nullable=False))
    password_changed_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime(), nullable=True))
    last_login_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime(), nullable=True))
    disabled_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime(), nullable=True))
    requests_per_minute: int | None = Field(default=None, sa_column=Column(BigInteger(), nullable=True))
    tokens_per_minute: int | None = Field(default=None, sa_column=Column(BigInteger(), nullable=True))
    tokens_per_day: int | None = Field(default=None, sa_column=Column(BigInteger(), nullable=True))


class UserSession(SQLModel, table=True):
    """A browser that has logged in. Only the hash of its cookie is kept; an ended session's row is deleted."""

    __tablename__ = "user_session"
    __table_args__ = (
        Index("ix_user_session_hash", "hash", unique=True),
        Index("ix_user_session_user_id", "user_id"),
    )

    id: int | None = Field(default=None, primary_key=True)
    user_id: int = Field(sa_column=Column(Integer(), ForeignKey("user.id"), nullable=False))
    hash: str = Field(sa_column=Column(String(64), nullable=False))
    created_at: datetime = Field(sa_column=Column(UtcDateTime(), nullable=False))
    last_seen_at: datetime = Field(sa_column=Column(UtcDateTime(), nullable=False))
    expires_at: datetime = Field(sa_column=Column(UtcDateTime(), nullable=False))
    address: str | None = Field(default=None, sa_column=Column(String(64), nullable=True))
    user_agent: str | None = Field(default=None, sa_column=Column(String(256), nullable=True))


class AuditEvent(SQLModel, table=True):
    """A row of the audit log, chained to the one before it (``appliance.security.audit_chain``). Never updated.

    ``at`` is text, RFC 3339 in UTC: what is hashed is exactly what is stored.
    """

    __tablename__ = "audit_event"
    __table_args__ = (Index("ix_audit_event_at", "at"),)

    seq: int = Field(sa_column=Column(Integer(), primary_key=True, autoincrement=False))
    at: str = Field(sa_column=Column(String(32), nullable=False))
    actor_kind: str = Field(sa_column=Column(String(16), nullable=False))
    actor_name: str = Field(sa_column=Column(String(64), nullable=False))
    actor_id: int | None = Field(default=None, sa_column=Column(Integer(), nullable=True))
    address: str | None = Field(default=None, sa_column=Column(String(64), nullable=True))
    action: str = Field(sa_column=Column(String(64), nullable=False))
    target: str | None = Field(default=None, sa_column=Column(String(256), nullable=True))
    details: str = Field(sa_column=Column(Text(), nullable=False))
    previous_hash: str = Field(sa_column=Column(String(64), nullable=False))
    hash: str = Field(sa_column=Column(String(64), nullable=False))


class AuditHead(SQLModel, table=True):
    """The one row that says where the audit log ends, so that rows missing at its end are noticed."""

    __tablename__ = "audit_head"

    id: int = Field(sa_column=Column(Integer(), primary_key=True, autoincrement=False))
    seq: int = Field(sa_column=Column(Integer(), nullable=False))
    hash: str = Field(sa_column=Column(String(64), nullable=False))


class UsageDay(SQLModel, table=True):
    """Sums of one day (UTC, ``2026-11-22``), payer and model. ``name`` is what the payer was called last."""

    __tablename__ = "usage_day"

    day: str = Field(sa_column=Column(String(10), primary_key=True))
    subject: str = Field(sa_column=Column(String(32), primary_key=True))
    model: str = Field(sa_column=Column(String(256), primary_key=True))
    name: str = Field(sa_column=Column(String(64), nullable=False))
    key_id: int | None = Field(default=None, sa_column=Column(Integer(), nullable=True))
    user_id: int | None = Field(default=None, sa_column=Column(Integer(), nullable=True))
    requests: int = Field(sa_column=Column(Integer(), nullable=False))
    errors: int = Field(sa_column=Column(Integer(), nullable=False))
    prompt_tokens: int = Field(sa_column=Column(Integer(), nullable=False))
    cached_tokens: int = Field(sa_column=Column(Integer(), nullable=False))
    thinking_tokens: int = Field(sa_column=Column(Integer(), nullable=False))
    answer_tokens: int = Field(sa_column=Column(Integer(), nullable=False))
    queued_s: float = Field(sa_column=Column(Float(), nullable=False))
    duration_s: float = Field(sa_column=Column(Float(), nullable=False))


class RequestLog(SQLModel, table=True):
    """One request, without what was said (``appliance.usage.records.RequestRecord``)."""

    __tablename__ = "request_log"
    __table_args__ = (Index("ix_request_log_at", "at"),)

    id: int | None = Field(default=None, primary_key=True)
    request_id: str = Field(sa_column=Column(String(64), nullable=False))
    at: datetime = Field(sa_column=Column(UtcDateTime(), nullable=False))
    subject: str = Field(sa_column=Column(String(32), nullable=False))
    name: str = Field(sa_column=Column(String(64), nullable=False))
    key_id: int | None = Field(default=None, sa_column=Column(Integer(), nullable=True))
    user_id: int | None = Field(default=None, sa_column=Column(Integer(), nullable=True))
    model: str = Field(sa_column=Column(String(256), nullable=False))
    path: str = Field(sa_column=Column(String(64), nullable=False))
    finish: str = Field(sa_column=Column(String(16), nullable=False))
    error_code: str | None = Field(default=None, sa_column=Column(String(64), nullable=True))
    prompt_tokens: int = Field(sa_column=Column(Integer(), nullable=False))
    cached_tokens: int = Field(sa_column=Column(Integer(), nullable=False))
    thinking_tokens: int = Field(sa_column=Column(Integer(), nullable=False))
    answer_tokens: int = Field(sa_column=Column(Integer(), nullable=False))
    queued_s: float | None = Field(default=None, sa_column=Column(Float(), nullable=True))
    first_token_s: float | None = Field(default=None, sa_column=Column(Float(), nullable=True))
    duration_s: float = Field(sa_column=Column(Float(), nullable=False))
    changed: str | None = Field(default=None, sa_column=Column(Text(), nullable=True))


class PromptLog(SQLModel, table=True):
    """What was asked and answered in one request, where the operator has switched that on."""

    __tablename__ = "prompt_log"
    __table_args__ = (Index("ix_prompt_log_request_id", "request_id"), Index("ix_prompt_log_at", "at"))

    id: int | None = Field(default=None, primary_key=True)
    request_id: str = Field(sa_column=Column(String(64), nullable=False))
    at: datetime = Field(sa_column=Column(UtcDateTime(), nullable=False))
    prompt: str = Field(sa_column=Column(Text(), nullable=False))
    answer: str = Field(sa_column=Column(Text(), nullable=False))
    is_cut: bool = Field(sa_column=Column(Boolean(), nullable=False))
    size_bytes: int = Field(sa_column=Column(Integer(), nullable=False))


class JobRow(SQLModel, table=True):
    """Long work (``appliance.schemas.jobs.Job``); ``request``, ``progress``, ``result`` and ``error`` are JSON."""

    __tablename__ = "job"
    __table_args__ = (Index("ix_job_created_at", "created_at"),)

    id: str = Field(sa_column=Column(String(32), primary_key=True))
    kind: str = Field(sa_column=Column(String(32), nullable=False))
    state: str = Field(sa_column=Column(String(16), nullable=False))
    request: str = Field(sa_column=Column(Text(), nullable=False))
    created_by: str = Field(sa_column=Column(String(64), nullable=False))
    created_at: datetime = Field(sa_column=Column(UtcDateTime(), nullable=False))
    started_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime(), nullable=True))
    ended_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime(), nullable=True))
    cancellable: bool = Field(sa_column=Column(Boolean(), nullable=False))
    progress: str = Field(sa_column=Column(Text(), nullable=False))
    result: str | None = Field(default=None, sa_column=Column(Text(), nullable=True))
    error: str | None = Field(default=None, sa_column=Column(Text(), nullable=True))
