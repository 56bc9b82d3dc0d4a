"""Who asks: ``Authorization: Bearer r1b_...`` against the keys in the database."""

from __future__ import annotations

import asyncio
from typing import Protocol

import structlog
from fastapi import Request

from appliance.errors import Unauthorized
from appliance.security.identity import KeyIdentity


class KeyVerifier(Protocol):
    """The part of ``KeyRepository`` that is needed here. Blocks."""

    def verify(self, key: str) -> KeyIdentity | None: ...


class RequireKey:
    """A FastAPI dependency. Runs before the body is read, so that strangers cannot make the box hold megabytes."""

    def __init__(self, keys: KeyVerifier) -> None:
        self._keys = keys

    async def __call__(self, request: Request) -> None:
        """Put the ``KeyIdentity`` into ``request.state.key``. Raises Unauthorized."""
        header = request.headers.get("authorization")
        if header is None:
            raise Unauthorized(problem="The request has no API key.")
        scheme, _, key = header.partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthorized(problem="The Authorization header does not say 'Bearer'.")
        identity = await asyncio.to_thread(self._keys.verify, key.strip())
        if identity is None:
            raise Unauthorized(problem="The API key is not valid: it is mistyped, was revoked, or is of another box.")
        request.state.key = identity
        request.state.key_name = identity.name
        structlog.contextvars.bind_contextvars(key=identity.name)
