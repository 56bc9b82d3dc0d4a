"""Callers that are remembered: for as long as nothing can have changed, and not a request longer."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from appliance.security.accounts import Accounts
from appliance.security.identity import Actor, Caller, CallerKind
from appliance.security.keys import Grant
from appliance.security.passwords import Passwords
from appliance.security.recent import HOLDS_S, RecentCallers
from appliance.security.roles import Role
from appliance.store.changes import ChangeWatch
from appliance.store.database import open_database

QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@dataclass
class World:
    """Accounts, a memory of callers, and a clock of each kind."""

    accounts: Accounts
    path: Path
    changes: ChangeWatch
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    now_s: float = 0.0

    def __post_init__(self) -> None:
        self.recent = RecentCallers(self.changes, lambda: self.now_s, lambda: self.now)

    def let_in(self, kind: CallerKind, secret: str) -> Caller:
        """As the guard of a route does it; fails when nobody is let in."""
        version = self.recent.version()
        look_up = self.accounts.caller_by_key if kind is CallerKind.KEY else self.accounts.caller_by_cookie
        caller = look_up(secret, "10.0.0.1")
        assert caller is not None
        self.recent.keep(secret, caller, version)
        return caller

    def knows(self, secret: str, kind: CallerKind = CallerKind.KEY) -> bool:
        return self.recent.find(kind, secret, None) is not None


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    path = tmp_path / "r1box.db"
    engine = open_database(path)
    yield World(Accounts(engine, tmp_path, passwords=Passwords(QUICK)), path, ChangeWatch(engine))
    engine.dispose()


def used(world: World, grant: Grant | None = None) -> str:
    """A key that was used a moment ago, so that its next look-up notes nothing, and is remembered."""
    secret = world.accounts.keys.create("program", grant).secret
    world.let_in(CallerKind.KEY, secret)
    world.let_in(CallerKind.KEY, secret)
    assert world.knows(secret)
    return secret


def test_the_caller_is_the_one_that_was_looked_up_with_the_new_address(world: World) -> None:
    secret = used(world)
    found = world.recent.find(CallerKind.KEY, secret, "10.0.0.9")
    assert found is not None
    assert (found.name, found.address, found.kind) == ("program", "10.0.0.9", CallerKind.KEY)
    assert found.permissions == world.let_in(CallerKind.KEY, secret).permissions


def test_others_are_not_known(world: World) -> None:
    secret = used(world)
    assert not world.knows(secret[:-1])
    assert not world.knows(secret + "x")
    assert not world.knows("")
    assert not world.knows(secret, CallerKind.SESSION), "a key is no cookie"


@pytest.mark.parametrize("change", ["revoke", "disable", "role", "policy"])
def test_whatever_is_changed_is_looked_up_anew(world: World, change: str) -> None:
    users, keys = world.accounts.users, world.accounts.keys
    user = users.create("li", Role.USER, None)
    secret = used(world, Grant(user_id=user.id))
    match change:
        case "revoke":
            keys.revoke("program")
        case "disable":
            users.change(user.id, disabled=True)
        case "role":
            users.change(user.id, role=Role.VIEWER)
        case "policy":
            keys.change(keys.list()[0].id, Grant())
    assert not world.knows(secret)


def test_another_process_is_enough(world: World) -> None:
    secret = used(world)
    with closing(sqlite3.connect(world.path)) as other:
        other.execute("UPDATE api_key SET revoked_at = '2026-01-01 00:00:00'")
        other.commit()
    assert not world.knows(secret)
    assert world.accounts.caller_by_key(secret, None) is None


def test_what_changes_during_the_look_up_is_not_missed(world: World) -> None:
    secret = used(world)
    version = world.recent.version()
    caller = world.accounts.caller_by_key(secret, None)
    world.accounts.keys.revoke("program")
    assert caller is not None
    world.recent.keep(secret, caller, version)
    assert not world.knows(secret)


def test_a_key_ends_on_time(world: World) -> None:
    secret = used(world, Grant(expires_at=world.now + timedelta(seconds=10)))
    world.now += timedelta(seconds=9)
    assert world.knows(secret)
    world.now += timedelta(seconds=1)
    assert not world.knows(secret)


def test_a_session_ends_on_time(world: World) -> None:
    world.accounts.retune_sessions(idle_s=20, max_s=1_000)
    user = world.accounts.users.create("li", Role.USER, None)
    actor = Actor(kind="user", name="li")
    secret = world.accounts.sessions.create(user.id, actor=actor).secret
    caller = world.let_in(CallerKind.SESSION, secret)
    assert caller.ends_at is not None
    world.now = caller.ends_at - timedelta(seconds=1)
    assert world.knows(secret, CallerKind.SESSION)
    world.now = caller.ends_at
    assert not world.knows(secret, CallerKind.SESSION)


def test_nothing_holds_for_long_and_nothing_when_changes_cannot_be_seen(world: World) -> None:
    secret = used(world)
    world.now_s += HOLDS_S - 0.1
    assert world.knows(secret)
    world.now_s += 0.1
    assert not world.knows(secret)
    caller = world.let_in(CallerKind.KEY, secret)
    world.changes.close()
    assert not world.knows(secret)
    world.recent.keep(secret, caller, world.recent.version())
    assert not world.knows(secret)


def test_other_lengths_of_sessions_hold_at_once(world: World) -> None:
    accounts = world.accounts
    recent = accounts.recent_callers()
    user = accounts.users.create("li", Role.USER, None)
    secret = accounts.sessions.create(user.id, actor=Actor(kind="user", name="li")).secret
    version = recent.version()
    caller = accounts.caller_by_cookie(secret, None)
    assert caller is not None
    recent.keep(secret, caller, version)
    assert recent.find(CallerKind.SESSION, secret, None) is not None
    accounts.retune_sessions(idle_s=0.0, max_s=0.0)
    assert recent.find(CallerKind.SESSION, secret, None) is None
    assert accounts.caller_by_cookie(secret, None) is None
