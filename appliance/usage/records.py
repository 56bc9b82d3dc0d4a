"""Values of usage."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One request that asked a model. Prompts and answers are not in it.

    ``subject`` is who pays (``key:3``, ``user:7``, ``local``), ``name`` what they were called then. ``finish`` is the
    engine's reason (stop, length, aborted, error), or ``refused``. Thinking tokens are among the answer's.
    """

    request_id: str
    at: datetime
    subject: str
    name: str
    key_id: int | None
    user_id: int | None
    model: str
    path: str
    finish: str
    error_code: str | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    thinking_tokens: int = 0
    answer_tokens: int = 0
    queued_s: float | None = None
    first_token_s: float | None = None
    duration_s: float = 0.0
    changed: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptRecord:
    """What was asked and answered in one request. ``is_cut``: one of them was longer."""

    request_id: str
    at: datetime
    prompt: str
    answer: str
    is_cut: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow:
    """A sum. ``None`` for what it was summed over. ``total_tokens`` is prompt and answer; thinking is in the answer."""

    day: date | None
    subject: str | None
    name: str | None
    key_id: int | None
    user_id: int | None
    user_name: str | None
    model: str | None
    requests: int
    errors: int
    prompt_tokens: int
    cached_tokens: int
    thinking_tokens: int
    answer_tokens: int
    queued_s: float
    duration_s: float

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.answer_tokens
