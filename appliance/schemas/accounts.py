"""Bodies of ``/api/auth`` and of ``/api/admin/users``, ``keys`` and ``sessions``. Times are RFC 3339 in UTC.

Lists come in pages: ``next`` is what ``after`` has to be for the next page, null on the last one.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

RoleName = Literal["viewer", "user", "operator", "admin"]
Language = Literal["en", "zh"]
Scope = Literal[
    "inference",
    "metrics",
    "admin:read",
    "admin:write",
    "accounts:read",
    "accounts:write",
    "audit:read",
    "settings:write",
]
ReasoningName = Literal["reasoning_content", "reasoning", "both", "inline", "hidden"]
Name = Annotated[str, Field(min_length=1, max_length=64)]
Password = Annotated[str, Field(min_length=1, max_length=1024, json_schema_extra={"format": "password"})]
Limit = Annotated[int, Field(ge=1, le=10**12)]

MOST_ROWS = 500
"""The longest page."""


class _Body(BaseModel):
    """What a client sends: strict types, no unknown fields."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class PageQuery(BaseModel):
    """Which page of a list."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    after: int = Field(default=0, ge=0, le=2**53)
    limit: int = Field(default=100, ge=1, le=MOST_ROWS)


class LoginBody(_Body):
    """Name and password of a person."""

    name: Annotated[str, Field(min_length=1, max_length=128)]
    password: Password


class SetupBody(_Body):
    """The first administrator, with the token that the box shows on its console."""

    token: Annotated[str, Field(min_length=1, max_length=128)]
    name: Name
    password: Password
    language: Language = "en"


class SetupState(_Value):
    """Whether the box still waits for its first administrator."""

    needed: bool


class PasswordBody(_Body):
    """A change of one's own password."""

    old: Password
    new: Password


class PreferencesBody(_Body):
    """What a person may change about themselves."""

    language: Language


class LogoutBody(_Body):
    """``everywhere`` ends all sessions of the person."""

    everywhere: bool = False


class Me(_Value):
    """Who asks. A person has ``user_id``, ``role``, ``language`` and the ``csrf_token`` of the session, which requests
    that change something send in the header ``X-R1Box-CSRF``."""

    kind: Literal["key", "session", "local"]
    name: str
    permissions: tuple[Scope, ...]
    user_id: int | None = None
    role: RoleName | None = None
    language: Language | None = None
    must_change_password: bool = False
    csrf_token: str | None = None


class SessionBody(_Value):
    """A live session. It ends at ``idle_until`` when it is not used, at ``expires_at`` in any case. ``last_seen_at`` is
    exact to a minute. ``current``: the one this request came with."""

    id: int
    user_id: int
    user_name: str
    created_at: datetime
    last_seen_at: datetime
    idle_until: datetime
    expires_at: datetime
    address: str | None = None
    user_agent: str | None = None
    current: bool = False


class SessionList(_Value):
    """A page of sessions."""

    items: tuple[SessionBody, ...]
    next: int | None = None


class SessionQuery(PageQuery):
    """Of one user, or of all."""

    user_id: int | None = Field(default=None, ge=1, le=2**53)


class UserBody(_Value):
    """A user. Limits are of all their keys and sessions together; null is no limit."""

    id: int
    name: str
    role: RoleName
    language: Language
    has_password: bool
    must_change_password: bool
    disabled: bool
    created_at: datetime
    password_changed_at: datetime | None = None
    last_login_at: datetime | None = None
    disabled_at: datetime | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None


class UserList(_Value):
    """A page of users."""

    items: tuple[UserBody, ...]
    next: int | None = None


class UserQuery(PageQuery):
    """``query`` is a part of the name."""

    query: str | None = Field(default=None, max_length=64)
    role: RoleName | None = None
    disabled: bool | None = None


class UserCreate(_Body):
    """A new user. Whoever gets a ``password`` from somebody else chooses another one at the first login."""

    name: Name
    role: RoleName = "user"
    password: Password | None = None
    language: Language = "en"


class UserChange(_Body):
    """What is given is changed. Limits hold for all keys and sessions of the person together; null is no limit."""

    role: RoleName | None = None
    language: Language | None = None
    disabled: bool | None = None
    requests_per_minute: Limit | None = None
    tokens_per_minute: Limit | None = None
    tokens_per_day: Limit | None = None


class PasswordReset(_Body):
    """A new password for somebody; only on the admin socket."""

    password: Password
    must_change: bool = True


class KeyGrant(_Body):
    """What a key may. Null is no limit; ``models`` null is all of them. ``tokens_per_day`` counts prompt, thinking and
    answer from 00:00 UTC on."""

    scopes: Annotated[tuple[Scope, ...], Field(min_length=1, max_length=16)] = ("inference",)
    user_id: int | None = Field(default=None, ge=1, le=2**53)
    expires_at: AwareDatetime | None = None
    models: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=256)], ...], Field(max_length=100)] | None = (
        None
    )
    requests_per_minute: Limit | None = None
    tokens_per_minute: Limit | None = None
    tokens_per_day: Limit | None = None
    priority: Literal["interactive", "batch"] = "interactive"
    may_override_sampling: bool = False
    reasoning_format: ReasoningName | None = None


class KeyCreate(KeyGrant):
    """A new key."""

    name: Name


class KeyBody(_Value):
    """A key, without its secret. ``prefix`` is how it begins, ``user_name`` its owner."""

    id: int
    name: str
    prefix: str
    created_at: datetime
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None
    expires_at: datetime | None = None
    user_id: int | None = None
    user_name: str | None = None
    scopes: tuple[Scope, ...]
    models: tuple[str, ...] | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None
    priority: Literal["interactive", "batch"]
    may_override_sampling: bool
    reasoning_format: ReasoningName | None = None


class KeyCreated(KeyBody):
    """A new key with its secret, which nothing can show again."""

    key: str


class KeyList(_Value):
    """A page of keys."""

    items: tuple[KeyBody, ...]
    next: int | None = None


class KeyQuery(PageQuery):
    """``query`` is a part of the name. Revoked keys come with ``revoked``."""

    query: str | None = Field(default=None, max_length=64)
    user_id: int | None = Field(default=None, ge=1, le=2**53)
    revoked: bool = False
