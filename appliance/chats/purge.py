"""Making sure that what was deleted is gone: from the search index's older segments, from the file, from its log.

A row that is deleted is overwritten with zeros at once (``secure_delete``). FTS5 however only notes a deletion and
keeps the trigrams until segments are merged, and SQLite's write-ahead log keeps pages until it is emptied. Both is done
here, in steps that leave room for other writers.
"""

from __future__ import annotations

from sqlalchemy import Engine

from appliance.store.database import write_transaction

_STEP_PAGES = 256
"""About a megabyte of the index for each transaction."""
_PATIENCE_MS = 5_000


def purge(engine: Engine, *, patience_ms: int = _PATIENCE_MS) -> bool:
    """Merge the index and empty the log, if something was deleted since the last time. False when others read the
    database for ``patience_ms`` on end, so that it is to be tried again. Blocks, seconds for a large index."""
    with engine.connect() as connection:
        asked = connection.exec_driver_sql("SELECT deletions FROM chat_purge").scalar()
    if asked is None:
        return True
    # The first, negative, makes one merge of all segments; the next ones go on with it (sqlite.org/fts5.html, 6.7).
    pages = -_STEP_PAGES
    while _merge(engine, pages) >= 2:
        pages = _STEP_PAGES
    with write_transaction(engine) as session:
        session.connection().exec_driver_sql("DELETE FROM chat_purge WHERE deletions = ?", (asked,))
    with engine.connect() as connection:
        usual_ms = int(connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one())
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {patience_ms}")
        busy = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()[0]
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {usual_ms}")
    if busy:
        with write_transaction(engine) as session:
            session.connection().exec_driver_sql("INSERT OR IGNORE INTO chat_purge (id, deletions) VALUES (1, 1)")
    return not busy


def _merge(engine: Engine, pages: int) -> int:
    """How many rows of the index's tables it changed; below 2 there was nothing to do."""
    with write_transaction(engine) as session:
        connection = session.connection()
        before = int(connection.exec_driver_sql("SELECT total_changes()").scalar_one())
        connection.exec_driver_sql("INSERT INTO chat_search (chat_search, rank) VALUES ('merge', ?)", (pages,))
        return int(connection.exec_driver_sql("SELECT total_changes()").scalar_one()) - before
