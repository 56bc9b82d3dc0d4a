"""Limits of people, and what was asked and answered where that is switched on."""

from __future__ import annotations

import sqlalchemy as sa

revision = "0007"
down_revision: str | None = "0006"

LIMITS = ("requests_per_minute", "tokens_per_minute", "tokens_per_day")


def upgrade() -> None:
    from alembic import op  # late: the daemon lists the migrations at each start, and seldom runs one

    for name in LIMITS:
        op.add_column("user", sa.Column(name, sa.BigInteger(), nullable=True))
    op.create_table(
        "prompt_log",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("is_cut", sa.Boolean(), nullable=False),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_prompt_log_request_id", "prompt_log", ["request_id"])
    op.create_index("ix_prompt_log_at", "prompt_log", ["at"])
