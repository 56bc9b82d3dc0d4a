"""Every error in its protocol's envelope: ours, the framework's and the unexpected. No stack trace leaves here."""

from __future__ import annotations

import http

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Scope

from appliance.api.anthropic.errors import anthropic_envelope, anthropic_status
from appliance.api.dialects import Dialect, dialect_of
from appliance.api.ollama.errors import ollama_envelope
from appliance.errors import AppError, ErrorDescription, describe

CLIENT_CLOSED_REQUEST = 499
"""nginx's status for a client that left before the answer; nobody receives it, it is for the log."""


class ClientGone(Exception):
    """The client closed the connection while its request was worked on."""


class UnsupportedParameter(AppError):
    """A parameter of the protocol that this box does not have (yet)."""

    code = "unsupported_parameter"
    http_status = 400
    template = "'{param}' is not supported here{detail}."
    hint_template = "Leave it out of the request."

    def __init__(self, param: str, *, detail: str = "") -> None:
        super().__init__(param=param, detail=detail)


def envelope(description: ErrorDescription) -> bytes:
    """The JSON of ``{"error": {...}}``, as ``appliance.schemas.errors.ErrorEnvelope`` describes it."""
    body = {
        "message": description.message,
        "type": _family(description.http_status),
        "param": description.param,
        "code": description.code,
    }
    if description.hint:
        body["hint"] = description.hint
    return msgspec.json.encode({"error": body})


def error_response(
    error: Exception | ErrorDescription, scope: Scope, headers: dict[str, str] | None = None
) -> Response:
    """A response for ``error`` with its status and the headers that belong to it, in the form of the protocol that the
    request of ``scope`` speaks."""
    description = error if isinstance(error, ErrorDescription) else describe(error)
    merged = {"Cache-Control": "no-store", **(headers or {})}
    if description.http_status == http.HTTPStatus.UNAUTHORIZED:
        merged["WWW-Authenticate"] = 'Bearer realm="r1box"'
    if description.retry_after_s is not None:
        merged["Retry-After"] = str(description.retry_after_s)
    status, content = description.http_status, b""
    match dialect_of(scope):
        case Dialect.ANTHROPIC:
            status = anthropic_status(description)
            content = anthropic_envelope(description, scope.get("state", {}).get("request_id"))
        case Dialect.OLLAMA:
            content = ollama_envelope(description)
        case Dialect.OPENAI:
            content = envelope(description)
    return Response(content, status_code=status, headers=merged, media_type="application/json")


def install_error_handlers(app: FastAPI) -> None:
    """Make ``app`` answer every error with an envelope. The caller logs what is unexpected (``RequestContext``)."""
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_bad_parameters)
    app.add_exception_handler(ClientGone, _on_client_gone)
    app.add_exception_handler(ClientDisconnect, _on_client_gone)
    app.add_exception_handler(AppError, _on_error)
    app.add_exception_handler(Exception, _on_error)


async def _on_error(request: Request, error: Exception) -> Response:
    return error_response(error, request.scope)


async def _on_client_gone(request: Request, error: Exception) -> Response:
    del request, error
    return Response(status_code=CLIENT_CLOSED_REQUEST)


async def _on_bad_parameters(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name = str(first["loc"][-1]) if first["loc"] else None
    return error_response(
        ErrorDescription(code="invalid_value", message=str(first["msg"]), http_status=400, param=name), request.scope
    )


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = error.status_code
    if status == http.HTTPStatus.NOT_FOUND:
        code, message = "not_found", f"There is nothing at {request.url.path}."
    elif status == http.HTTPStatus.METHOD_NOT_ALLOWED:
        code, message = "method_not_allowed", f"{request.method} is not possible on {request.url.path}."
    else:
        code, message = http.HTTPStatus(status).name.lower(), str(error.detail)
    return error_response(
        ErrorDescription(code=code, message=message, http_status=status),
        request.scope,
        headers=dict(error.headers or {}),
    )


def _family(status: int) -> str:
    if status == http.HTTPStatus.TOO_MANY_REQUESTS:
        return "rate_limit_error"
    return "server_error" if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
