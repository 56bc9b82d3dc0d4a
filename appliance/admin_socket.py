"""The admin API on a unix socket, for the console of this machine: the same application in the same process.

Whoever the kernel says is root, the service's user or in the group ``r1box`` is an administrator there, without a key
or a login: they own the box anyhow, and it is the way back in when every password is forgotten.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Generator
from pathlib import Path
from typing import Any, Self, cast

import structlog
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from appliance.errors import PortInUse
from appliance.paths import default_admin_socket
from appliance.security.peer import admin_group, peer_of_socket
from appliance.settings import Settings

_BACKLOG = 64
_LONGEST_PATH_BYTES = 107
"""unix(7): ``sun_path`` has 108 bytes with its zero."""

_log = structlog.get_logger(__name__)


def bind_admin_socket(path: Path) -> socket.socket:
    """The listening socket: mode 0660 and group ``r1box`` where that group is ours, else 0600. Blocks.

    One that was left behind by a daemon that was killed is replaced; one that answers is not. Raises PortInUse.
    """
    if len(os.fsencode(path)) > _LONGEST_PATH_BYTES:
        raise PortInUse(host=str(path), port="unix", reason="the path is too long for a socket")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _is_alive(path):
            raise OSError(98, "another daemon listens there")
        path.parent.mkdir(parents=True, exist_ok=True)
        # Bound under another name and closed to everybody, then put in place: at no moment is it open to others.
        temporary = path.with_name(f".{path.name[:20]}.{os.getpid()}")
        temporary.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            listener.bind(str(temporary))
        finally:
            os.umask(before)
        group = admin_group()
        if group is not None:
            # The service's own group made it already, and the unit's filter of system calls refuses every chown.
            if temporary.stat().st_gid != group:
                os.chown(temporary, -1, group)
            temporary.chmod(0o660)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
        temporary.replace(path)
    except OSError as error:
        listener.close()
        raise PortInUse(host=str(path), port="unix", reason=(error.strerror or type(error).__name__).lower()) from error
    return listener


def _is_alive(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


class PeerProtocol(HttpToolsProtocol):
    """HTTP on the admin socket. Puts the peer's credentials, as of its connection, where ``peer_of`` finds them; no
    client can put anything there."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        connection: Any = transport.get_extra_info("socket")
        self.app_state = {**self.app_state, "peer": peer_of_socket(connection)}


class AdminServer(uvicorn.Server):
    """Serves the socket until it is told to stop; signals are the main server's."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=PeerProtocol,
                log_config=None,
                access_log=False,
                ws="none",
                server_header=False,
                lifespan="off",
                proxy_headers=False,
                timeout_graceful_shutdown=2,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class AdminSocket:
    """The socket's server for one run of the daemon. ``is_default``: nobody named the path, so that it cannot be had is
    told in the log and no reason not to serve."""

    def __init__(self, path: Path, app: ASGIApp, *, is_default: bool) -> None:
        self._path = path
        self._app = app
        self._is_default = is_default
        self._listener: socket.socket | None = None
        self._server: AdminServer | None = None
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def beside(cls, server: uvicorn.Server, settings: Settings) -> Self:
        """A started one for the application of ``server``. Raises PortInUse for a path that the settings name."""
        path = settings.admin_socket or default_admin_socket(settings.state_dir)
        console = cls(path, cast("ASGIApp", server.config.app), is_default=settings.admin_socket is None)
        await console.start()
        return console

    async def start(self) -> None:
        """Listen. Raises PortInUse for a path that the settings name."""
        try:
            self._listener = await asyncio.to_thread(bind_admin_socket, self._path)
        except PortInUse as error:
            if not self._is_default:
                raise
            _log.warning("admin_socket_unavailable", reason=error.message)
            return
        self._server = AdminServer(self._app)
        await asyncio.to_thread(self._server.config.load)
        self._task = asyncio.create_task(self._server.serve(sockets=[self._listener]), name="admin-socket")

    async def aclose(self) -> None:
        """End it, requests that run get a moment, and take the socket's file away."""
        if self._server is None or self._task is None or self._listener is None:
            return
        self._server.should_exit = True
        await asyncio.wait({self._task})
        self._listener.close()
        await asyncio.to_thread(self._path.unlink, missing_ok=True)
