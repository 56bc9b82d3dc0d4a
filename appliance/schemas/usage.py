"""Bodies of ``/api/admin/usage``, ``/api/admin/requests`` and ``/api/admin/audit``. Unknown is null."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

Group = Literal["day", "key", "user", "model"]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class UsageQuery(BaseModel):
    """Days are UTC, both ends included. ``by`` says what is summed apart; repeat it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    since: date | None = None
    until: date | None = None
    key_id: int | None = Field(default=None, ge=1, le=2**53)
    user_id: int | None = Field(default=None, ge=1, le=2**53)
    model: str | None = Field(default=None, max_length=256)
    by: Annotated[tuple[Group, ...], Field(max_length=4)] = ("day", "key", "user", "model")
    format: Literal["json", "csv"] = "json"


class UsageItem(_Value):
    """A sum; null for what it was summed over. Thinking tokens are among the answer's, ``total_tokens`` is prompt and
    answer. ``user_name`` is the person's of today, of keys their owner's. ``subject``: ``key:ID``, ``user:ID`` for
    people in the chat page, ``local`` for the console."""

    day: date | None = None
    subject: str | None = None
    name: str | None = None
    key_id: int | None = None
    user_id: int | None = None
    user_name: str | None = None
    model: str | None = None
    requests: int
    errors: int
    prompt_tokens: int
    cached_tokens: int
    thinking_tokens: int
    answer_tokens: int
    total_tokens: int
    queued_s: float
    duration_s: float


class UsageList(_Value):
    """The sums. What is not a second old may be missing."""

    items: tuple[UsageItem, ...]


class RequestQuery(BaseModel):
    """The newest first; ``before`` is the ``next`` of the page before."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    before: int | None = Field(default=None, ge=1, le=2**53)
    limit: int = Field(default=100, ge=1, le=500)
    key_id: int | None = Field(default=None, ge=1, le=2**53)
    user_id: int | None = Field(default=None, ge=1, le=2**53)
    errors_only: bool = False


class RequestItem(_Value):
    """One request, without what was said. ``finish``: stop, length, aborted, error, or refused."""

    id: int
    request_id: str
    at: datetime
    subject: str
    name: str
    key_id: int | None = None
    user_id: int | None = None
    model: str
    path: str
    finish: str
    error_code: str | None = None
    prompt_tokens: int
    cached_tokens: int
    thinking_tokens: int
    answer_tokens: int
    queued_s: float | None = None
    first_token_s: float | None = None
    duration_s: float
    changed: str | None = None


class RequestList(_Value):
    """A page of the request log."""

    items: tuple[RequestItem, ...]
    next: int | None = None


class RequestText(_Value):
    """What was asked (a JSON message a line, or a raw prompt) and answered (the thought in ``<think>``). ``is_cut``:
    one of them was longer than 65,536 characters."""

    request_id: str
    at: datetime
    prompt: str
    answer: str
    is_cut: bool


class RequestTexts(_Value):
    """Those of a request's choices; none where they were not kept."""

    items: tuple[RequestText, ...]


class AuditSelection(BaseModel):
    """``action`` is a whole action (``key.create``) or a family with its dot (``key.``)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    action: str | None = Field(default=None, max_length=64)
    actor: str | None = Field(default=None, max_length=64)
    target: str | None = Field(default=None, max_length=256)
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None


class AuditQuery(AuditSelection):
    """The newest first; ``before`` is the ``next`` of the page before."""

    before: int | None = Field(default=None, ge=1, le=2**53)
    limit: int = Field(default=100, ge=1, le=500)


class AuditItem(_Value):
    """A row of the audit log. ``actor_kind``: user, key, local (admin socket), console (command line), system or
    nobody."""

    seq: int
    at: datetime
    actor_kind: str
    actor_name: str
    actor_id: int | None = None
    address: str | None = None
    action: str
    target: str | None = None
    details: dict[str, Any]
    hash: str


class AuditList(_Value):
    """A page of the audit log."""

    items: tuple[AuditItem, ...]
    next: int | None = None


class AuditVerdict(_Value):
    """``whole``: no row was changed, removed, put in or moved; else ``problem`` says what is wrong from ``broken_seq``
    on. Keep ``head_hash`` elsewhere and ask with ``?known_hash=``: it proves that the log up to then is still there."""

    whole: bool
    rows: int
    first_seq: int | None = None
    last_seq: int | None = None
    head_hash: str
    broken_seq: int | None = None
    problem: str | None = None
