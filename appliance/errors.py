"""Typed errors of the daemon: code, message template, fields, hint, HTTP status. Rendered in one place per protocol.

``drivers.errors.DriverError`` and ``models.errors.ModelError`` have the same five attributes (``code``, ``message``,
``hint``, ``http_status``, ``details``) without sharing a base class, because those layers know nothing of this one;
``describe`` takes all three.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar


class AppError(Exception):
    """Base of every error the daemon shows to a person or a client.

    Subclasses set ``code`` (stable, snake_case), ``http_status``, ``template`` and ``hint_template``; both templates
    are filled with the keyword arguments, which are kept as ``details`` for programs.
    """

    code: ClassVar[str] = "internal_error"
    http_status: ClassVar[int] = 500
    template: ClassVar[str] = "Something went wrong in the box."
    hint_template: ClassVar[str | None] = None
    retry_after_s: int | None = None
    """Seconds after which the same request may succeed; ``None`` when waiting does not help."""

    def __init__(self, **details: Any) -> None:
        self.details: dict[str, Any] = details
        self.message = self.template.format(**details)
        self.hint = self.hint_template.format(**details) if self.hint_template else None
        super().__init__(self.message)


@dataclass(frozen=True, slots=True)
class ErrorDescription:
    """The facts of an error, the same in every protocol's envelope."""

    code: str
    message: str
    http_status: int
    hint: str | None = None
    param: str | None = None
    retry_after_s: int | None = None
    details: dict[str, Any] = field(default_factory=dict)


def is_typed(error: BaseException) -> bool:
    """Whether the error explains itself: ours, or of drivers or models."""
    return (
        isinstance(getattr(error, "code", None), str)
        and isinstance(getattr(error, "message", None), str)
        and isinstance(getattr(error, "http_status", None), int)
    )


def describe(error: BaseException) -> ErrorDescription:
    """The facts of ``error``; one that is not typed becomes a plain ``internal_error`` that gives nothing away."""
    if not is_typed(error):
        return ErrorDescription(code=AppError.code, message=AppError.template, http_status=AppError.http_status)
    typed: Any = error
    details = getattr(typed, "details", None) or {}
    return ErrorDescription(
        code=typed.code,
        message=typed.message,
        http_status=typed.http_status,
        hint=getattr(typed, "hint", None),
        param=details.get("param"),
        retry_after_s=getattr(typed, "retry_after_s", None),
        details=details,
    )


def retry_after(wait_s: float) -> int:
    """An estimated wait as the seconds of ``Retry-After``: nobody is to ask at once, or to stay away for an hour."""
    return min(max(math.ceil(wait_s), 1), 600)


class InvalidRequest(AppError):
    """A request that no state of the box could serve; ``param`` names the field."""

    code = "invalid_value"
    http_status = 400
    template = "{problem}"

    def __init__(self, problem: str, *, param: str | None = None) -> None:
        super().__init__(problem=problem, param=param)


class ContextLengthExceeded(AppError):
    """The prompt does not fit in a seat; with ``prompt_is_minimum`` its count is a sure lower bound.

    ``can_trim``: it has turns that the client could have let go. ``without_turns`` of them were left out already.
    """

    code = "context_length_exceeded"
    http_status = 400
    template = (
        "The conversation has {prompt_label} tokens{trimmed} and {reserved_tokens:,} are reserved for the answer; a "
        "seat of this model holds {context_tokens:,}. {advice}."
    )

    def __init__(
        self,
        *,
        prompt_tokens: int,
        reserved_tokens: int,
        context_tokens: int,
        prompt_is_minimum: bool = False,
        can_trim: bool = False,
        without_turns: int = 0,
    ) -> None:
        excess_tokens = prompt_tokens + reserved_tokens - context_tokens
        advice = [f"Shorten it by {excess_tokens:,} tokens"]
        if prompt_tokens < context_tokens:
            advice.append("lower max_tokens")
        if can_trim:
            advice.append("set trim='turns'")
        old = f"its {without_turns:,} oldest turns" if without_turns > 1 else "its oldest turn"
        super().__init__(
            prompt_tokens=prompt_tokens,
            prompt_label=f"at least {prompt_tokens:,}" if prompt_is_minimum else f"{prompt_tokens:,}",
            is_minimum=prompt_is_minimum,
            reserved_tokens=reserved_tokens,
            context_tokens=context_tokens,
            excess_tokens=excess_tokens,
            trimmed=f" even without {old}" if without_turns else "",
            advice=", or ".join([", ".join(advice[:-1]), advice[-1]]) if len(advice) > 2 else " or ".join(advice),
            param="messages",
        )


class ModelNotFound(AppError):
    """The request names a model that this box does not serve."""

    code = "model_not_found"
    http_status = 404
    template = "The model '{model}' is not served here. Served now: {served}."
    hint_template = "GET /v1/models lists what is served; an operator changes it with: r1box serve --model ID"


class ModelNotReady(AppError):
    """No model can answer at this moment."""

    code = "model_not_ready"
    http_status = 503
    template = "No model is ready to answer: {reason}"
    hint_template = "GET /readyz says when it is."
    retry_after_s = 5


class QueueFull(AppError):
    """Every seat is taken and the queue has its configured length. ``wait_s``: when the queue is likely to have a place
    again."""

    code = "queue_full"
    http_status = 429
    template = "All {seats} seats are busy and {waiting} requests are waiting already."
    retry_after_s = 10

    def __init__(self, *, seats: int, waiting: int, wait_s: float | None = None) -> None:
        super().__init__(seats=seats, waiting=waiting)
        if wait_s is not None:
            self.retry_after_s = retry_after(wait_s)


class RequestTooLarge(AppError):
    """The HTTP body is larger than the box accepts."""

    code = "request_too_large"
    http_status = 413
    template = "The request is larger than {limit_bytes:,} bytes, the most this box takes."
    hint_template = "Send less text, or raise max_request_bytes in the settings."


class Unauthorized(AppError):
    """No key, or one that is not valid."""

    code = "invalid_api_key"
    http_status = 401
    template = "{problem}"
    hint_template = "Send 'Authorization: Bearer r1b_...'. An operator makes keys with: r1box keys create NAME"


class EngineStartFailed(AppError):
    """The engine did not come up. ``cause`` is one line, ``log_tail`` the last lines of its log."""

    code = "engine_start_failed"
    http_status = 503
    template = "The model could not be loaded: {cause}"
    hint_template = "docs/troubleshooting.md has the known causes; r1box models verify ID checks the file."

    def __init__(self, *, cause: str, log_tail: tuple[str, ...] = (), cause_code: str = "engine_start_failed") -> None:
        super().__init__(cause=cause)
        self.log_tail = log_tail
        self.cause_code = cause_code


class OffloadRefused(EngineStartFailed):
    """The model lies on the processor although the plan put it on cards, and that is not allowed."""

    code = "offload_refused"
    template = "The model was not served: {cause}"
    hint_template = (
        "r1box doctor checks the cards and the engine's build for them. To serve from the processor all the same, set "
        "allow_cpu_fallback."
    )

    def __init__(self, *, reason: str) -> None:
        super().__init__(cause=reason, cause_code=self.code)


class EngineLost(AppError):
    """The engine's process ended while it worked on the request."""

    code = "engine_lost"
    http_status = 503
    template = (
        "The model's process ended while it worked on this request. It is being restarted; send the request again."
    )
    retry_after_s = 5


class GenerationFailed(AppError):
    """The engine gave up on one request and goes on with the others."""

    code = "generation_failed"
    http_status = 500
    template = "The model could not finish this answer: {cause}"


class EngineBusy(AppError):
    """The engine is shared with other boxes, and its queue is full."""

    code = "engine_busy"
    http_status = 429
    template = "The model cannot take this request now: {problem}"
    retry_after_s = 10


class EngineCannotDo(AppError):
    """The engine that serves the model has no way to do what the request wants."""

    code = "unsupported_by_engine"
    http_status = 400
    template = "The engine of this model cannot do that: {problem}."
    hint_template = "docs/engines.md says what each engine can do."


class IssueNotFound(AppError):
    """No issue of this id is open."""

    code = "issue_not_found"
    http_status = 404
    template = "There is no open issue '{issue}'."
    hint_template = "It may have gone by itself; GET /api/admin/issues lists those that are open."


class FixupNotOffered(AppError):
    """The issue has no such fix-up."""

    code = "fixup_not_offered"
    http_status = 404
    template = "The issue '{issue}' does not offer the fix-up '{fixup}'. It offers: {offered}."


class StateNotWritable(AppError):
    """The state folder cannot be used."""

    code = "state_not_writable"
    template = "The state folder {path} cannot be written: {reason}."
    hint_template = "Give another with --state-dir or R1BOX_STATE_DIR, or make it writable for this user."


class PortInUse(AppError):
    """The address cannot be listened on."""

    code = "address_unavailable"
    template = "Cannot listen on {host}:{port}: {reason}."
    hint_template = "Another program (perhaps another r1box) uses it; choose one with --port or R1BOX_PORT."


class BadSetting(AppError):
    """A setting has a value that cannot be used."""

    code = "bad_setting"
    template = "The setting {name} is not usable: {reason}."
    hint_template = "It came from {origin}. See: r1box serve --help"


class UnreadableFile(AppError):
    """A file that a person named cannot be read."""

    code = "file_unreadable"
    http_status = 400
    template = "The file {path} cannot be read: {reason}."


class NotConfirmed(AppError):
    """What replaces or removes data was asked for without the word that confirms it."""

    code = "not_confirmed"
    http_status = 400
    template = "Nothing was done: this replaces or removes data, and the word '{word}' was not given to confirm it."

    def __init__(self, word: str) -> None:
        super().__init__(word=word, param="confirm")


class ChatFailed(AppError):
    """``r1box chat`` cannot go on."""

    code = "chat_failed"
    template = "{problem}"
    hint_template = "{next_step}"
