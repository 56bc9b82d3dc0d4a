"""Who a request comes from and what it may, as the rest of the daemon sees it. Values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from appliance.security.roles import EVERYTHING, Permission, Role


class KeyPriority(StrEnum):
    """Whose requests go first: people wait for interactive ones, nobody for batch ones."""

    INTERACTIVE = "interactive"
    BATCH = "batch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What inference may cost a key. ``None`` is no limit.

    ``models``: ids it may ask for. ``tokens_per_day``: prompt, thinking and answer together, from 00:00 UTC on.
    ``may_override_sampling``: takes temperatures outside of a model's band. ``reasoning_format``: where its clients
    want the thought when they do not say.
    """

    models: tuple[str, ...] | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None
    priority: KeyPriority = KeyPriority.INTERACTIVE
    may_override_sampling: bool = False
    reasoning_format: str | None = None


@dataclass(frozen=True, slots=True)
class KeyIdentity:
    """The key that a request was sent with. ``user_id`` is its owner's, ``person`` the owner's limits;
    ``ends_at`` is when it expires."""

    id: int
    name: str
    scopes: frozenset[Permission] = frozenset((Permission.INFERENCE,))
    user_id: int | None = None
    policy: Policy = field(default_factory=Policy)
    person: Policy = field(default_factory=Policy)
    ends_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionIdentity:
    """The session that a browser's cookie stands for, with its user as of now. It ends at ``ends_at`` unless it is used
    again."""

    id: int
    user_id: int
    user_name: str
    role: Role
    language: str
    must_change_password: bool
    person: Policy = field(default_factory=Policy)
    ends_at: datetime | None = None


class CallerKind(StrEnum):
    """A key, a person with a session, or the console on the local socket."""

    KEY = "key"
    SESSION = "session"
    LOCAL = "local"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks. ``subject`` names who pays in the engine's queue and in usage: ``key:3``, ``user:7``, ``local``. What
    lets them in ends at ``ends_at``."""

    kind: CallerKind
    name: str
    subject: str
    permissions: frozenset[Permission]
    key_id: int | None = None
    user_id: int | None = None
    session: SessionIdentity | None = None
    policy: Policy = field(default_factory=Policy)
    person: Policy = field(default_factory=Policy)
    address: str | None = None
    ends_at: datetime | None = None

    @property
    def payers(self) -> tuple[tuple[str, Policy], ...]:
        """Whose limits a request must keep: the key's or the session's own, and those of the person behind it, who may
        have several keys and a session: ``person:7``."""
        own = (self.subject, self.policy)
        return (own,) if self.user_id is None else (own, (f"{PERSON}{self.user_id}", self.person))


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who did something, as the audit log writes it. ``kind`` is ``user``, ``key``, ``local`` (the admin socket),
    ``console`` (the command line), ``system`` or ``nobody`` (not logged in)."""

    kind: str
    name: str
    id: int | None = None
    address: str | None = None


PERSON = "person:"
"""How the account of all that a person does begins."""

SYSTEM = Actor(kind="system", name="r1box")


def key_caller(key: KeyIdentity, address: str | None) -> Caller:
    """A key as a caller."""
    return Caller(
        kind=CallerKind.KEY,
        name=key.name,
        subject=f"key:{key.id}",
        permissions=key.scopes,
        key_id=key.id,
        user_id=key.user_id,
        policy=key.policy,
        person=key.person,
        address=address,
        ends_at=key.ends_at,
    )


def session_caller(session: SessionIdentity, permissions: frozenset[Permission], address: str | None) -> Caller:
    """A person in a browser as a caller."""
    return Caller(
        kind=CallerKind.SESSION,
        name=session.user_name,
        subject=f"user:{session.user_id}",
        permissions=permissions,
        user_id=session.user_id,
        session=session,
        person=session.person,
        address=address,
        ends_at=session.ends_at,
    )


def local_caller(account: str) -> Caller:
    """The console: whoever the operating system lets open the admin socket. ``account`` is the login name there."""
    policy = Policy(may_override_sampling=True)
    return Caller(kind=CallerKind.LOCAL, name=account, subject="local", permissions=EVERYTHING, policy=policy)


def actor_of(caller: Caller) -> Actor:
    """The caller in the audit log's words."""
    if caller.kind is CallerKind.LOCAL:
        return Actor(kind="local", name=caller.name)
    is_key = caller.kind is CallerKind.KEY
    return Actor(
        kind="key" if is_key else "user",
        name=caller.name,
        id=caller.key_id if is_key else caller.user_id,
        address=caller.address,
    )
