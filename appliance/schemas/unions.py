"""Unions of wire types that are told apart by their ``type``. The tags are marked, so that errors can leave them out of
a parameter's path."""

from __future__ import annotations

from typing import Any

TAG = "type:"


def tag_of(value: Any) -> str | None:
    """The tag of a value from JSON (a dict) or of a model."""
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return None if kind is None else f"{TAG}{kind}"
