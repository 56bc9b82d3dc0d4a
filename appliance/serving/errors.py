"""Typed errors that only serving raises."""

from __future__ import annotations

from appliance.errors import AppError, QueueFull, retry_after


class ChatTemplateMissing(AppError):
    """The model file carries no chat template; guessing one would feed the model a conversation it cannot read."""

    code = "chat_template_missing"
    http_status = 400
    template = "The model '{model}' has no chat template, so it cannot hold a conversation."
    hint_template = "Import a chat build of it (often named Instruct or Chat) whose file has tokenizer.chat_template."


class ChatTemplateUnusable(AppError):
    """The model's own template is broken, uses what the sandbox refuses, or works without end."""

    code = "chat_template_unusable"
    http_status = 500
    template = "The chat template inside the model file cannot be used: {cause}."
    hint_template = "The file is at fault, not the request: import another build of the model."


class RequestNotFound(AppError):
    """No running request of this client has this id. Another's is not told from one that does not exist."""

    code = "request_not_found"
    http_status = 404
    template = "No request of yours with the id '{request_id}' is running."
    hint_template = "The id is in the header X-Request-Id of its response; a request that has ended has none any more."


class EngineCannot(AppError):
    """A part of the request that the model's engine does not do. Leaving it out in silence would be another answer."""

    code = "unsupported_by_engine"
    http_status = 400
    template = "The engine that runs this model ({engine}) cannot {what}."
    hint_template = "Leave '{param}' out of the request, or have the operator serve the model with another engine."

    def __init__(self, *, what: str, engine: str, param: str) -> None:
        super().__init__(what=what, engine=engine, param=param)


class QueueShareFull(QueueFull):
    """The queue has places left, for others: whoever asks has their share of it (``mine`` requests), or the request is
    a batch one and batch requests have theirs (``mine`` is None)."""

    template = "All {seats} seats are busy, and {whose}. The places that are left are for others."
    hint_template = "Send it again later, or send fewer requests at the same time."

    def __init__(self, *, seats: int, waiting: int, mine: int | None, wait_s: float | None) -> None:
        whose = f"{waiting} requests wait already, too many for one more of batch priority"
        if mine is not None:
            whose = f"{mine} of the {waiting} requests that wait are this key's or person's"
        AppError.__init__(self, seats=seats, waiting=waiting, whose=whose)
        if wait_s is not None:
            self.retry_after_s = retry_after(wait_s)


class EndedByOperator(AppError):
    """Somebody who runs the box ended the request while it waited or was answered."""

    code = "ended_by_operator"
    # Nothing that clients send again by themselves: it would come back at once.
    http_status = 403
    template = "An operator of the box ended this request."
    hint_template = "Ask the box's operator before sending it again."


class NoSuchRequest(AppError):
    """What an operator wants to end is not running."""

    code = "request_not_running"
    http_status = 404
    template = "No request with the id '{request_id}' is running."
    hint_template = "It has ended by itself; GET /api/admin/requests/live lists those that run."


class NoSeatInTime(AppError):
    """The request's own deadline passed while it waited. Nothing was computed for it."""

    code = "no_seat_in_time"
    http_status = 503
    template = "No seat became free within the {deadline_s:g} seconds that the request would wait."
    hint_template = "Send it again with a later deadline, or when fewer people are asking."
    retry_after_s = 10

    def __init__(self, *, deadline_s: float, wait_s: float | None) -> None:
        super().__init__(deadline_s=deadline_s)
        if wait_s is not None:
            self.retry_after_s = retry_after(wait_s)
