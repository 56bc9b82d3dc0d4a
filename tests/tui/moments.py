"""The moment at which the tests' boxes are looked at."""

from __future__ import annotations

from datetime import UTC, datetime

NOON = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
GIB = 2**30
