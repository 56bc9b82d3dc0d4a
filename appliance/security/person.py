"""The limits of a person, which hold for all their keys and sessions together."""

from __future__ import annotations

from appliance.security.identity import Policy
from appliance.store.tables import User

LIMITS = ("requests_per_minute", "tokens_per_minute", "tokens_per_day")
"""Columns of ``User`` and fields of ``Policy``."""


def limits_of(user: User | None) -> Policy:
    """What a user may use; nobody has no limits."""
    return Policy() if user is None else Policy(**{name: getattr(user, name) for name in LIMITS})
