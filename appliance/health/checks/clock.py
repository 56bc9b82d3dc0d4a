"""The clock cannot be right: certificates, keys that expire and the log's times then go wrong too."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from appliance.health.types import BoxFacts, Problem

BUILT_AFTER = datetime(2026, 1, 1, tzinfo=UTC)
"""This software is newer, so the present is too. A board without a battery starts in 1970 or 2000."""
_TOLERANCE = timedelta(hours=1)
_HINT = (
    "Set it: timedatectl set-ntp true where there is a time server, else timedatectl set-time 'YYYY-MM-DD HH:MM:SS'."
)


def clock_is_wrong(facts: BoxFacts) -> Iterator[Problem]:
    """Before this software existed, or before something that the box has written itself."""
    now = f"{facts.now:%Y-%m-%d %H:%M} UTC"
    if facts.now < BUILT_AFTER:
        yield Problem(
            code="clock_wrong", severity="error", message=f"The clock says {now}, which is in the past.", hint=_HINT
        )
    elif facts.newest_import_at is not None and facts.now + _TOLERANCE < facts.newest_import_at:
        later = f"{facts.newest_import_at:%Y-%m-%d %H:%M} UTC"
        message = f"The clock says {now}, but a model was imported at {later}: one of the two is wrong."
        yield Problem(code="clock_wrong", severity="error", message=message, hint=_HINT)
