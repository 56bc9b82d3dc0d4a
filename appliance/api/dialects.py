"""Which protocol a request speaks, by its address: errors that end it before its route are in that protocol's form."""

from __future__ import annotations

from enum import StrEnum

from starlette.datastructures import Headers
from starlette.types import Scope

ANTHROPIC_VERSION = "anthropic-version"
"""Anthropic's clients send this header with every request."""


_OLLAMA_PATHS = frozenset(
    f"/api/{name}"
    for name in (
        *("chat", "generate", "tags", "show", "ps", "version"),
        *("embed", "embeddings", "pull", "push", "create", "copy", "delete"),
    )
)


class Dialect(StrEnum):
    """The forms of errors. OPENAI is also that of the box's own API."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    OLLAMA = "ollama"


def dialect_of(scope: Scope) -> Dialect:
    """The protocol of an HTTP request."""
    path: str = scope["path"]
    if path == "/v1/messages" or path.startswith("/v1/messages/"):
        return Dialect.ANTHROPIC
    if path in _OLLAMA_PATHS or path.startswith("/api/blobs/"):
        return Dialect.OLLAMA
    if path.startswith("/v1/models") and ANTHROPIC_VERSION in Headers(scope=scope):
        return Dialect.ANTHROPIC
    return Dialect.OPENAI
