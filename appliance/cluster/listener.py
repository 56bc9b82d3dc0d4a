"""The leader's door for the other boxes: a port of its own with TLS 1.3, and nothing else behind it.

| who | may |
|---|---|
| anybody, while an invitation is open | read the authority's certificate, try one token |
| a box of the cluster, by its certificate | tell how it is, renew its certificate, leave, ask the model |

Who a certificate belongs to is looked up for every request: a box that was taken out is refused at once, on
connections that it has open too, and what it is being answered ends within a second or so.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Protocol, TypeVar, cast

import msgspec
import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from appliance.api.connections import ConnectionGuard, ConnectionLimits, GuardedProtocol
from appliance.cluster.authority import der_fingerprint, serving_context
from appliance.cluster.book import ClusterBook, Member
from appliance.cluster.errors import InvitationRefused, RemovedFromCluster
from appliance.cluster.wire import MOST_BEAT_BYTES, MOST_JOIN_BYTES, Beat, Join, Joined, Renew, Renewed, Told
from appliance.errors import AppError, InvalidRequest, PortInUse, RequestTooLarge, describe

_log = structlog.get_logger(__name__)
_Body = TypeVar("_Body")

LIMITS = ConnectionLimits(most=512, header_bytes=16_384, unread_s=60.0)
MOST_TRIES = 20
TRIES_WITHIN_S = 60.0
_BACKLOG = 64


class Leading(Protocol):
    """What the leader's daemon does with what the others say; ``ask`` passes a question to the model's engine."""

    def hear(self, box: str, beat: Beat) -> Told: ...

    def gone(self, box: str) -> None:
        """A box has left of its own will."""
        ...

    async def ask(self, box: str, request: Request) -> Response: ...


class Joining(Protocol):
    """Told of a box that came in, or of a token that was wrong."""

    def __call__(self, action: str, box: str | None, address: str | None) -> None: ...


class _PeerProtocol(GuardedProtocol):
    """Puts the fingerprint of the peer's certificate where the application finds it; no client can put anything
    there."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        tls: Any = transport.get_extra_info("ssl_object")
        shown = None if tls is None else tls.getpeercert(binary_form=True)
        self.app_state = {**self.app_state, "certificate": None if shown is None else der_fingerprint(shown)}


class _Server(uvicorn.Server):
    """Signals are the main server's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class ClusterListener:
    """The port for one run of the daemon."""

    def __init__(self, book: ClusterBook, leading: Leading, note: Joining) -> None:
        self._book = book
        self._app = cluster_app(book, leading, note)
        self._context: ssl.SSLContext | None = None
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None
        self._socket: socket.socket | None = None

    async def start(self, address: str, port: int) -> None:
        """Listen on one address. Raises PortInUse."""
        self._socket = await asyncio.to_thread(_bind, address, port)
        try:
            self._context = await asyncio.to_thread(serving_context, self._book.files)
        except OSError as error:
            self._socket.close()
            raise PortInUse(host=address, port=port, reason=str(error)) from error
        config = uvicorn.Config(
            cast("ASGIApp", self._app),
            http=ConnectionGuard(LIMITS, _PeerProtocol),  # type: ignore[arg-type]
            log_config=None,
            access_log=False,
            ws="none",
            server_header=False,
            lifespan="off",
            proxy_headers=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=2,
        )
        await asyncio.to_thread(config.load)
        config.ssl = self._context
        self._server = _Server(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]), name="cluster listener")
        _log.info("cluster_listens", address=address, port=port)

    def renewed(self) -> None:
        """Show the leader's new certificate on new connections. Blocks."""
        if self._context is not None:
            files = self._book.files
            self._context.load_cert_chain(files.certificate, files.key)

    async def aclose(self) -> None:
        """End it. Idempotent."""
        if self._server is None or self._task is None or self._socket is None:
            return
        self._server.should_exit = True
        await asyncio.wait({self._task})
        self._socket.close()
        self._server = self._task = self._socket = None


def cluster_app(book: ClusterBook, leading: Leading, note: Joining) -> Starlette:
    """The application behind the port."""
    door = _Door(book, leading, note)
    routes = (
        ("/v1/authority", "GET", door.authority),
        ("/v1/join", "POST", door.join),
        ("/v1/beat", "POST", door.beat),
        ("/v1/renew", "POST", door.renew),
        ("/v1/leave", "POST", door.leave),
        ("/engine/v1/completions", "POST", door.ask),
        *((f"/engine/{path}", "GET", door.ask) for path in ("health", "version", "metrics", "v1/models")),
    )
    return Starlette(routes=[Route(path, _told_plainly(handle), methods=[method]) for path, method, handle in routes])


class _Door:
    """What each path does."""

    def __init__(self, book: ClusterBook, leading: Leading, note: Joining) -> None:
        self._book = book
        self._leading = leading
        self._note = note
        self._tries = _Tries()

    # -- strangers --------------------------------------------------------------------------------------------------

    async def authority(self, request: Request) -> Response:
        if not await asyncio.to_thread(self._book.has_invitations):
            raise InvitationRefused
        pem = await asyncio.to_thread(self._book.files.authority.read_bytes)
        return Response(pem, media_type="application/x-pem-file")

    async def join(self, request: Request) -> Response:
        self._tries.take(asyncio.get_running_loop().time())
        if not await asyncio.to_thread(self._book.has_invitations):
            raise InvitationRefused
        asked = await _body(request, Join, MOST_JOIN_BYTES)
        try:
            certificate = await asyncio.to_thread(
                self._book.admit, asked.invitation, bytes.fromhex(asked.secret), asked.name, asked.request.encode()
            )
        except ValueError as error:
            raise InvalidRequest(f"The certificate request cannot be used: {error}.", param="request") from error
        except InvitationRefused:
            self._note("cluster.refused", None, _address(request))
            raise
        self._note("cluster.joined", asked.name, _address(request))
        record = await asyncio.to_thread(self._book.here)
        return _reply(Joined(cluster=record.id, leader=record.name, certificate=certificate.decode("ascii")))

    # -- boxes of the cluster ---------------------------------------------------------------------------------------

    async def beat(self, request: Request) -> Response:
        box = await self._member(request)
        return _reply(self._leading.hear(box.name, await _body(request, Beat, MOST_BEAT_BYTES)))

    async def renew(self, request: Request) -> Response:
        box = await self._member(request)
        asked = await _body(request, Renew, MOST_JOIN_BYTES)
        try:
            certificate = await asyncio.to_thread(self._book.renew, box.name, asked.request.encode())
        except ValueError as error:
            raise InvalidRequest(f"The certificate request cannot be used: {error}.", param="request") from error
        return _reply(Renewed(certificate=certificate.decode("ascii")))

    async def leave(self, request: Request) -> Response:
        box = await self._member(request)
        await asyncio.to_thread(self._book.remove, box.name)
        self._leading.gone(box.name)
        self._note("cluster.left", box.name, _address(request))
        return Response(status_code=204)

    async def ask(self, request: Request) -> Response:
        box = await self._member(request)
        return await self._leading.ask(box.name, request)

    async def _member(self, request: Request) -> Member:
        """Whose certificate the connection shows. Raises RemovedFromCluster."""
        shown = request.scope.get("state", {}).get("certificate")
        record = await asyncio.to_thread(self._book.read)
        found = None if shown is None or record is None else record.member_with(shown)
        if found is None:
            raise RemovedFromCluster
        return found


def _address(request: Request) -> str | None:
    return None if request.client is None else request.client.host


class _Tries:
    """Tokens are 192 random bits: this bounds the work that strangers make, not their luck."""

    def __init__(self) -> None:
        self._since_s = 0.0
        self._count = 0

    def take(self, now_s: float) -> None:
        """Raises InvitationRefused when too many came lately."""
        if now_s - self._since_s > TRIES_WITHIN_S:
            self._since_s, self._count = now_s, 0
        self._count += 1
        if self._count > MOST_TRIES:
            raise InvitationRefused


def _told_plainly(handle: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        try:
            return await handle(request)
        except AppError as error:
            found = describe(error)
            body = msgspec.json.encode({"error": {"code": found.code, "message": found.message, "hint": found.hint}})
            return Response(body, status_code=found.http_status, media_type="application/json")

    return answer


async def _body(request: Request, kind: type[_Body], most_bytes: int) -> _Body:
    received = bytearray()
    async for chunk in request.stream():
        received += chunk
        if len(received) > most_bytes:
            raise RequestTooLarge(limit_bytes=most_bytes)
    try:
        return msgspec.json.decode(bytes(received), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"The body is not what this path takes: {error}.") from error


def _reply(body: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(body), media_type="application/json")


def _bind(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise PortInUse(host=address, port=port, reason=(error.strerror or type(error).__name__).lower()) from error
    return listener
