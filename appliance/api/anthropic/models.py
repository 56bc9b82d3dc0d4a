"""The list of models in Anthropic's form, for clients that send the header ``anthropic-version``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import takewhile

from appliance.schemas.anthropic_response import ModelInfo, ModelPage


def to_info(model_id: str, created_at: int, context_tokens: int | None) -> ModelInfo:
    """One model; ``created_at`` is in unix seconds."""
    return ModelInfo(
        id=model_id,
        display_name=model_id,
        created_at=datetime.fromtimestamp(created_at, UTC).isoformat().replace("+00:00", "Z"),
        max_input_tokens=context_tokens,
        max_tokens=context_tokens,
    )


def to_page(models: Sequence[ModelInfo], query: Mapping[str, str]) -> ModelPage:
    """A page of ``models`` as ``limit``, ``after_id`` and ``before_id`` of the query ask for it."""
    wanted = list(models)
    if (after := query.get("after_id")) is not None and any(one.id == after for one in wanted):
        wanted = wanted[[one.id for one in wanted].index(after) + 1 :]
    if (before := query.get("before_id")) is not None:
        wanted = list(takewhile(lambda one: one.id != before, wanted))
    asked = query.get("limit", "")
    limit = int(asked) if asked.isdecimal() and 0 < int(asked) <= 1000 else 20
    has_more = len(wanted) > limit
    wanted = wanted[-limit:] if before is not None else wanted[:limit]
    return ModelPage(
        data=wanted,
        has_more=has_more,
        first_id=wanted[0].id if wanted else None,
        last_id=wanted[-1].id if wanted else None,
    )
