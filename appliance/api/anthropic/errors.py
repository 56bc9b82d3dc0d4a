"""Errors in Anthropic's envelope, with additions of R1 Box: ``code``, the same on every API, ``param`` and ``hint``."""

from __future__ import annotations

import http

import msgspec

from appliance.errors import ErrorDescription

OVERLOADED = 529
"""Anthropic's status for a server that is too busy; official clients try again after ``Retry-After``."""

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    OVERLOADED: "overloaded_error",
}
_OURS = "queue_full"


def anthropic_status(description: ErrorDescription) -> int:
    """The HTTP status: 429 is a limit of the caller's, 529 the box that is full or not ready."""
    if description.code == _OURS or description.http_status == http.HTTPStatus.SERVICE_UNAVAILABLE:
        return OVERLOADED
    return description.http_status


def anthropic_envelope(description: ErrorDescription, request_id: str | None = None) -> bytes:
    """The JSON of ``{"type": "error", "error": {...}}``; also what follows ``event: error`` in a stream."""
    status = anthropic_status(description)
    internal = status >= http.HTTPStatus.INTERNAL_SERVER_ERROR
    error = {
        "type": _TYPES.get(status, "api_error" if internal else "invalid_request_error"),
        "message": description.message,
        "code": description.code,
        "param": description.param,
    }
    if description.hint:
        error["hint"] = description.hint
    return msgspec.json.encode({"type": "error", "error": error, "request_id": request_id})
