"""What may look as if it blocked the event loop, and does not."""

from __future__ import annotations

from blockbuster import BlockBuster


def allow_looks_for_changes(blockbuster: BlockBuster) -> None:
    """SQLite's ``data_version`` compares a page of shared memory: 3 us, no disk, no lock that is waited for."""
    for function in ("sqlite3.Connection.execute", "sqlite3.Cursor.fetchone"):
        blockbuster.functions[function].can_block_in("appliance/store/changes.py", {"version"})
