"""Who was looked up a moment ago, so that a program that asks again and again is not looked up each time.

A look-up costs a thread and a query, a millisecond and more when the machine is busy. Nothing is remembered beyond what
must still be so: a caller is forgotten with the next commit to the database, whoever made it (a key that the command
line revokes ends with the next request, as without this), at the end of the key or the session, and after ``HOLDS_S``,
because look-ups also note when a key or a session was used. Only callers that were let in are remembered, by the hash
of what they sent.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from appliance.security.identity import Caller, CallerKind
from appliance.store.changes import ChangeWatch

HOLDS_S = 30.0
"""Half of the time to which uses of keys and sessions are noted."""

_MOST = 4_096
"""Callers; then all are forgotten."""


@dataclass(frozen=True, slots=True)
class _Entry:
    caller: Caller
    version: int
    until_s: float


def _utc_now() -> datetime:
    return datetime.now(UTC)


class RecentCallers:
    """For one event loop. No method blocks."""

    def __init__(
        self,
        changes: ChangeWatch,
        now_s: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._changes = changes
        self._now_s = now_s
        self._now = now
        self._entries: dict[tuple[CallerKind, bytes], _Entry] = {}

    def version(self) -> int | None:
        """Ask before a look-up and give it to ``keep``: what changes meanwhile makes the caller forgotten."""
        return self._changes.version()

    def find(self, kind: CallerKind, secret: str, address: str | None) -> Caller | None:
        """The caller whose key or cookie ``secret`` is, if that is known for sure."""
        name = _name(kind, secret)
        entry = self._entries.get(name)
        if entry is None:
            return None
        ends_at = entry.caller.ends_at
        if (
            entry.version == self._changes.version()
            and self._now_s() < entry.until_s
            and (ends_at is None or self._now() < ends_at)
        ):
            return replace(entry.caller, address=address)
        del self._entries[name]
        return None

    def keep(self, secret: str, caller: Caller, version: int | None) -> None:
        """Remember who ``secret`` is; ``version`` is of before the look-up."""
        if version is None:
            return
        if len(self._entries) >= _MOST:
            self.forget()
        self._entries[_name(caller.kind, secret)] = _Entry(caller, version, self._now_s() + HOLDS_S)

    def forget(self) -> None:
        """Look everybody up anew."""
        self._entries.clear()


def _name(kind: CallerKind, secret: str) -> tuple[CallerKind, bytes]:
    return kind, hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
