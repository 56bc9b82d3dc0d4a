"""Usage by day, and the request log."""

from __future__ import annotations

import sqlalchemy as sa

revision = "0003"
down_revision: str | None = "0002"


def upgrade() -> None:
    from alembic import op  # late: the daemon lists the migrations at each start, and seldom runs one

    op.create_table(
        "usage_day",
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("subject", sa.String(32), nullable=False),
        sa.Column("model", sa.String(256), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("key_id", sa.Integer(), nullable=True),
        sa.Column("user_id", sa.Integer(), nullable=True),
        *[
            sa.Column(name, sa.Integer(), nullable=False)
            for name in ("requests", "errors", "prompt_tokens", "cached_tokens", "thinking_tokens", "answer_tokens")
        ],
        sa.Column("queued_s", sa.Float(), nullable=False),
        sa.Column("duration_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("day", "subject", "model"),
    )
    op.create_table(
        "request_log",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("subject", sa.String(32), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("key_id", sa.Integer(), nullable=True),
        sa.Column("user_id", sa.Integer(), nullable=True),
        sa.Column("model", sa.String(256), nullable=False),
        sa.Column("path", sa.String(64), nullable=False),
        sa.Column("finish", sa.String(16), nullable=False),
        sa.Column("error_code", sa.String(64), nullable=True),
        *[
            sa.Column(name, sa.Integer(), nullable=False)
            for name in ("prompt_tokens", "cached_tokens", "thinking_tokens", "answer_tokens")
        ],
        sa.Column("queued_s", sa.Float(), nullable=True),
        sa.Column("first_token_s", sa.Float(), nullable=True),
        sa.Column("duration_s", sa.Float(), nullable=False),
        sa.Column("changed", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_request_log_at", "request_log", ["at"])
