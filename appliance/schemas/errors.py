"""The error envelope of the OpenAI API, which official clients read."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class ErrorBody(BaseModel):
    """``type`` is a family (invalid_request_error, rate_limit_error, server_error), ``code`` the exact error,
    ``param`` the field that is at fault, ``hint`` what to do next (an addition of R1 Box)."""

    model_config = ConfigDict(frozen=True)

    message: str
    type: str
    param: str | None = None
    code: str | None = None
    hint: str | None = None


class ErrorEnvelope(BaseModel):
    """Body of every response that is not a success, and of the event that ends a stream early."""

    model_config = ConfigDict(frozen=True)

    error: ErrorBody
