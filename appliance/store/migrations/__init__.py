"""Migrations, oldest first, listed by hand. A new one: a module here, its name in the tuple, nothing else."""

from __future__ import annotations

from typing import Protocol

from appliance.store.migrations import (
    m0001_api_key,
    m0002_accounts,
    m0003_usage,
    m0004_chats,
    m0005_jobs,
    m0006_search_text,
    m0007_user_limits,
)


class Migration(Protocol):
    """What a migration module has; ``__name__`` is the module's own."""

    __name__: str
    revision: str
    down_revision: str | None

    def upgrade(self) -> None: ...


MIGRATIONS = (m0001_api_key, m0002_accounts, m0003_usage, m0004_chats, m0005_jobs, m0006_search_text, m0007_user_limits)
HEAD = MIGRATIONS[-1].revision
