"""The page's chats: messages as trees, attachments, and the search index.

The index is FTS5 with the trigram tokenizer, which needs no word boundaries (Chinese has none). It keeps no text of
its own but that of ``chat_message``. What it is given has two line breaks more than the message, so that the last two
characters begin a trigram too: ``appliance.chats.search`` finds words of two characters by the trigrams that they
begin.
"""

from __future__ import annotations

import sqlalchemy as sa

revision = "0004"
down_revision: str | None = "0003"

_INDEXED = "(rowid, owner_tag, content) VALUES ({row}.id, {row}.owner_tag, {row}.content || char(10, 10))"
_FORGOTTEN = (
    "(chat_search, rowid, owner_tag, content) VALUES ('delete', {row}.id, {row}.owner_tag, "
    "{row}.content || char(10, 10))"
)


def upgrade() -> None:
    _chats()
    _attachments()
    _search()


def _chats() -> None:
    from alembic import op  # late: the daemon lists the migrations at each start, and seldom runs one

    op.create_table(
        "chat",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(32), nullable=False),
        sa.Column("title", sa.String(200), nullable=False),
        sa.Column("model", sa.String(256), nullable=True),
        sa.Column("pinned", sa.Boolean(), nullable=False),
        sa.Column("leaf_id", sa.Integer(), nullable=True),
        sa.Column("messages", sa.Integer(), nullable=False),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_chat_owner", "chat", ["owner", "pinned", "updated_at", "id"])
    op.create_index("ix_chat_updated_at", "chat", ["updated_at"])
    op.create_table(
        "chat_message",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("chat_id", sa.Integer(), sa.ForeignKey("chat.id", ondelete="CASCADE"), nullable=False),
        sa.Column("parent_id", sa.Integer(), nullable=True),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("owner_tag", sa.String(3), nullable=False),
        sa.Column("indexed", sa.Boolean(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("reasoning", sa.Text(), nullable=False),
        sa.Column("model", sa.String(256), nullable=True),
        sa.Column("effort", sa.String(16), nullable=True),
        sa.Column("thinking", sa.Boolean(), nullable=True),
        sa.Column("finish_reason", sa.String(16), nullable=True),
        sa.Column("thinking_end", sa.String(16), nullable=True),
        *[
            sa.Column(name, sa.Integer(), nullable=True)
            for name in ("prompt_tokens", "completion_tokens", "reasoning_tokens", "cached_tokens")
        ],
        *[sa.Column(name, sa.Integer(), nullable=True) for name in ("first_token_ms", "thinking_ms", "total_ms")],
        sa.Column("error_code", sa.String(64), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_chat_message_chat_id", "chat_message", ["chat_id"])
    op.create_index("ix_chat_message_streaming", "chat_message", ["state"], sqlite_where=sa.text("state = 'streaming'"))


def _attachments() -> None:
    from alembic import op

    op.create_table(
        "chat_attachment",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(32), nullable=False),
        sa.Column("chat_id", sa.Integer(), sa.ForeignKey("chat.id", ondelete="CASCADE"), nullable=True),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("file_bytes", sa.Integer(), nullable=False),
        sa.Column("pages", sa.Integer(), nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("text_bytes", sa.Integer(), nullable=False),
        sa.Column("characters", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_chat_attachment_owner", "chat_attachment", ["owner", "chat_id"])
    op.create_index("ix_chat_attachment_chat_id", "chat_attachment", ["chat_id"])
    op.create_table(
        "chat_message_attachment",
        sa.Column("message_id", sa.Integer(), sa.ForeignKey("chat_message.id", ondelete="CASCADE"), nullable=False),
        sa.Column(
            "attachment_id", sa.Integer(), sa.ForeignKey("chat_attachment.id", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("message_id", "attachment_id"),
    )
    op.create_index("ix_chat_message_attachment_attachment_id", "chat_message_attachment", ["attachment_id"])
    op.create_table(
        "chat_purge",
        sa.Column("id", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("deletions", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )


def _search() -> None:
    from alembic import op

    op.execute(
        "CREATE VIRTUAL TABLE chat_search USING fts5("
        "owner_tag, content, content='chat_message', content_rowid='id', tokenize='trigram')"
    )
    op.execute(
        "CREATE TRIGGER chat_search_insert AFTER INSERT ON chat_message WHEN new.indexed BEGIN "
        f"INSERT INTO chat_search{_INDEXED.format(row='new')}; END"
    )
    op.execute(
        "CREATE TRIGGER chat_search_update AFTER UPDATE OF indexed ON chat_message "
        "WHEN new.indexed AND NOT old.indexed BEGIN "
        f"INSERT INTO chat_search{_INDEXED.format(row='new')}; END"
    )
    op.execute(
        "CREATE TRIGGER chat_search_delete AFTER DELETE ON chat_message WHEN old.indexed BEGIN "
        f"INSERT INTO chat_search{_FORGOTTEN.format(row='old')}; END"
    )
