"""The daemon's database: SQLModel on SQLite, migrated with Alembic. Calls block; keep them out of the event loop."""
