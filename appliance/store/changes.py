"""Whether anything was committed to the database since one looked last."""

from __future__ import annotations

import sqlite3

from sqlalchemy import Engine, event


class ChangeWatch:
    """A number that changes with every commit to the database by whatever connection of whatever process.

    That is SQLite's ``PRAGMA data_version``, which is why there is a connection of its own: one does not see its own
    commits. In WAL mode it compares a page of shared memory, reads nothing from the disk and waits for no writer, so
    it may be asked in the event loop (3 us). Opening blocks. Ends with ``engine.dispose()``.
    """

    def __init__(self, engine: Engine) -> None:
        self._connection: sqlite3.Connection | None = sqlite3.connect(
            str(engine.url.database), timeout=0, isolation_level=None, check_same_thread=False
        )
        event.listen(engine, "engine_disposed", lambda _engine: self.close())
        self.version()

    def version(self) -> int | None:
        """The number now; None when it is not to be had, and anything may have changed."""
        if self._connection is None:
            return None
        try:
            row = self._connection.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error:
            return None
        return int(row[0])

    def close(self) -> None:
        """From now on nothing is known. Idempotent."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
