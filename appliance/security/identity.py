"""Who a request comes from, as the rest of the daemon sees it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KeyIdentity:
    """The key that a request was sent with."""

    id: int
    name: str
