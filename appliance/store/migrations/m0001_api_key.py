"""API keys."""

from __future__ import annotations

import sqlalchemy as sa

revision = "0001"
down_revision: str | None = None


def upgrade() -> None:
    from alembic import op  # late: the daemon lists the migrations at each start, and seldom runs one

    op.create_table(
        "api_key",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("prefix", sa.String(16), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("last_used_at", sa.DateTime(), nullable=True),
        sa.Column("revoked_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ix_api_key_live_name", "api_key", ["name"], unique=True, sqlite_where=sa.text("revoked_at IS NULL")
    )
    op.create_index("ix_api_key_hash", "api_key", ["hash"], unique=True)
