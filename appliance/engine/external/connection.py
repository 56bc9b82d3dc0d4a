"""HTTP to one server: streams of events, and the few questions beside them."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx
import msgspec

from appliance.engine.external.dialect import Call
from appliance.engine.external.launch import Endpoint, Timeouts

MAX_ANSWER_BYTES = 8 * 1024 * 1024
_MAX_ERROR_BYTES = 64 * 1024


class Refused(Exception):
    """The server answered with an error. ``status`` is HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Unreachable(Exception):
    """No answer came, or it broke off."""


REQUEST_HEADER = "x-r1box-request"
OWNER_HEADER = "x-r1box-owner"


class NamedTransport(httpx.AsyncHTTPTransport):
    """Expects the name that a server's certificate is for, whatever address it has today."""

    def __init__(self, context: ssl.SSLContext, name: str) -> None:
        # No connection is kept: servers close idle ones when they like.
        super().__init__(verify=context, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))
        self._name = name

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions = {**request.extensions, "sni_hostname": self._name}
        return await super().handle_async_request(request)


class Connection:
    """Requests to one endpoint. Proxies of the environment are not used: the server is this machine's, or named."""

    def __init__(self, endpoint: Endpoint, timeouts: Timeouts) -> None:
        self._endpoint = endpoint
        self._timeouts = timeouts
        headers = {"content-type": "application/json"}
        if endpoint.api_key:
            headers["authorization"] = f"Bearer {endpoint.api_key}"
        self._client = httpx.AsyncClient(
            transport=_transport(endpoint),
            base_url=endpoint.url,
            headers=headers,
            timeout=httpx.Timeout(timeouts.health_s, connect=timeouts.connect_s, read=None, pool=None),
            trust_env=False,
            follow_redirects=False,
        )

    @asynccontextmanager
    async def stream(self, call: Call) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes of one generation as they come. Leaving early closes the connection, which ends it there.

        Raises Refused, Unreachable, dialect.CannotAsk.
        """
        dialect = self._endpoint.dialect
        content = msgspec.json.encode(dialect.body(call))
        headers = {}
        if self._endpoint.server_name is not None:
            headers = {REQUEST_HEADER: quote(call.sequence_id), OWNER_HEADER: quote(call.owner or "")}
        try:
            async with self._client.stream("POST", dialect.path, content=content, headers=headers) as response:
                if response.status_code != 200:
                    raise Refused(response.status_code, await _problem(response))
                yield response.aiter_raw()
        except httpx.HTTPError as error:
            raise Unreachable(_said(error)) from error

    async def is_healthy(self) -> str | None:
        """``None`` when the server says that it is well, else what is the matter."""
        path = self._endpoint.health_url or self._endpoint.dialect.health_path
        try:
            response = await self._client.get(path, timeout=self._timeouts.health_s)
        except httpx.HTTPError as error:
            return _said(error)
        return None if response.status_code < 300 else f"it answers {response.status_code} when asked for its health"

    async def json(self, path: str) -> dict[str, Any] | None:
        """What a path answers, ``None`` for anything but a JSON object. Raises Unreachable."""
        raw = await self._get(path)
        try:
            return None if raw is None else msgspec.json.decode(raw, type=dict[str, Any])
        except msgspec.DecodeError:
            return None

    async def text(self, path: str) -> str | None:
        """What a path answers as text. Raises Unreachable."""
        raw = await self._get(path)
        return None if raw is None else raw.decode(errors="replace")

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def _get(self, path: str) -> bytes | None:
        try:
            async with self._client.stream("GET", path, timeout=self._timeouts.health_s) as response:
                if response.status_code != 200:
                    return None
                found = b""
                async for chunk in response.aiter_bytes():
                    found += chunk
                    if len(found) > MAX_ANSWER_BYTES:
                        return None
                return found
        except httpx.HTTPError as error:
            raise Unreachable(_said(error)) from error


def _transport(endpoint: Endpoint) -> httpx.AsyncHTTPTransport:
    verify: ssl.SSLContext | bool = True
    if endpoint.ca_file is not None:
        verify = ssl.create_default_context(cafile=str(endpoint.ca_file))
        if endpoint.own_certificate is not None and endpoint.own_key is not None:
            verify.load_cert_chain(endpoint.own_certificate, endpoint.own_key)
        if endpoint.server_name is not None:
            return NamedTransport(verify, endpoint.server_name)
    # No connection is kept: servers close idle ones when they like, and a request that meets that moment is lost.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    uds = None if endpoint.unix_socket is None else str(endpoint.unix_socket)
    return httpx.AsyncHTTPTransport(verify=verify, uds=uds, limits=limits, trust_env=False)


async def _problem(response: httpx.Response) -> str:
    """The server's own words in an error answer."""
    raw = b""
    async for chunk in response.aiter_bytes():
        raw += chunk
        if len(raw) > _MAX_ERROR_BYTES:
            break
    try:
        said = msgspec.json.decode(raw)
    except msgspec.DecodeError:
        said = raw.decode(errors="replace")
    if isinstance(said, dict):
        said = said.get("error", said.get("message", said.get("detail", said)))
        if isinstance(said, dict):
            said = said.get("message", said)
    return str(said).strip()[:500] or f"status {response.status_code}"


def _said(error: httpx.HTTPError) -> str:
    return str(error).strip() or type(error).__name__
