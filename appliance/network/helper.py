"""The helper that runs as root: takes requests on a unix socket and carries out those few that it knows.

The daemon has no rights (systemd/r1box.service); whoever takes it over must not get the machine. So a request is never
a path, a file's content or a command: only values that are checked here again, with the same functions that the daemon
checked them with. Who may ask is decided by the socket's owner and mode (r1box-system.socket: root and the group
r1box, who may use the admin socket too), and every request is logged with its sender.

It is started by the first request and ends when it has had nothing to do for a while, but never while a trial goes on.
When it is told to stop in the middle of one it takes it back first.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
from pydantic import TypeAdapter, ValidationError

from appliance.errors import describe, is_typed
from appliance.network.arp import who_has
from appliance.network.errors import HelperRefused
from appliance.network.machine import Machine
from appliance.network.messages import LARGEST_BYTES, Confirm, Reply, Request, RollBack, SetKeymap, SetZone, Try
from appliance.network.networkd import Networkd
from appliance.network.networkmanager import NetworkManager
from appliance.network.read import Reader
from appliance.network.tools import Tools
from appliance.network.trial import Backend, Parts, Trials
from drivers.command import CommandFailed

_log = structlog.get_logger(__name__)

LISTEN_FDS_START = 3
TALK_TIMEOUT_S = 5.0
IDLE_S = 60.0
_REQUEST: TypeAdapter[Request] = TypeAdapter(Request)


def backends(tools: Tools) -> dict[str, Backend]:
    """By the name of the service that keeps an interface."""
    return {"networkd": Networkd(tools), "networkmanager": NetworkManager(tools)}


class _Stopped(BaseException):
    """Raised by the signal that ends the helper, wherever it is."""


class Helper:
    """``serve`` until idle or stopped. ``idle_s``: None never ends by itself."""

    def __init__(self, trials: Trials, machine: Machine, idle_s: float | None = IDLE_S) -> None:
        self._trials = trials
        self._machine = machine
        self._idle_s = idle_s

    def serve(self, listener: socket.socket) -> None:
        """Answer one request after the other. What is on trial when it is stopped is taken back, also when its putting
        in force was interrupted."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _stop)
        try:
            self.answer(listener)
        except _Stopped:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            self._trials.give_up()

    def answer(self, listener: socket.socket, over: Callable[[], bool] = lambda: False) -> None:
        """``serve`` without signals: until nothing has come for long, or ``over`` after a request."""
        self._trials.wake()
        quiet_since_s = time.monotonic()
        while True:
            wait_s = self._wait_s(quiet_since_s)
            if wait_s is not None and wait_s <= 0 and self._trials.next_s() is None:
                return
            listener.settimeout(None if wait_s is None else max(wait_s, 0.01))
            try:
                line, _ = listener.accept()
            except TimeoutError:
                self._trials.wake()
                continue
            with line:
                self._talk(line)
            if over():
                return
            quiet_since_s = time.monotonic()
            self._trials.wake()

    def _wait_s(self, quiet_since_s: float) -> float | None:
        trial_s = self._trials.next_s()
        if trial_s is not None:
            return trial_s
        return None if self._idle_s is None else quiet_since_s + self._idle_s - time.monotonic()

    def _talk(self, line: socket.socket) -> None:
        """One request, one reply. A sender that says nothing is not waited for."""
        line.settimeout(TALK_TIMEOUT_S)
        try:
            request = _receive(line)
            reply = self._reply(request, _sender(line))
            line.sendall(reply.model_dump_json().encode() + b"\n")
        except OSError as error:
            _log.warning("request_lost", reason=error.strerror or type(error).__name__)

    def _reply(self, content: bytes, uid: int) -> Reply:
        try:
            request = _REQUEST.validate_json(content)
        except ValidationError as error:
            _log.warning("request_refused", uid=uid, errors=error.error_count())
            bad = HelperRefused(code="bad_request", problem="The helper knows no such request.", hint=None, status=400)
            return _refusal(bad)
        _log.info("request", uid=uid, do=request.do)
        try:
            self._carry_out(request)
        except Exception as error:  # noqa: BLE001 - one request must not end the helper
            if not is_typed(error):
                _log.exception("request_failed", do=request.do)
            return _refusal(error)
        return Reply(status=self._trials.status())

    def _carry_out(self, request: Request) -> None:
        if isinstance(request, Try):
            self._trials.begin(request.change, request.seconds)
        elif isinstance(request, Confirm):
            self._trials.confirm(request.id)
        elif isinstance(request, RollBack):
            self._trials.roll_back()
        elif isinstance(request, SetZone):
            self._machine.set_zone(request.zone)
        elif isinstance(request, SetKeymap):
            self._machine.set_keymap(request.keymap)


def run_helper(
    *,
    record: Path,
    path: Path | None = None,
    root: Path = Path("/"),
    search: str | None = None,
    idle_s: float | None = IDLE_S,
    prober: Any = who_has,
    hostname: tuple[Callable[[], str], Callable[[str], None]] = (socket.gethostname, socket.sethostname),
) -> None:
    """The helper as a process: on the socket that systemd hands over, or on one of its own at ``path``. ``root``,
    ``search``, ``prober`` and ``hostname`` put a made-up machine under it, for tests."""
    tools = Tools(root, search)
    machine = Machine(tools, hostname[1])
    parts = Parts(Reader(tools, hostname[0]), backends(tools), machine, prober)
    # Nobody would start it again for the next request where it has a socket of its own.
    helper = Helper(Trials(parts, record), machine, idle_s if path is None else None)

    with handed_over() or _listen(path) as listener:
        helper.serve(listener)


def _stop(*_: object) -> None:
    raise _Stopped


def handed_over() -> socket.socket | None:
    """The listening socket that systemd passes on (sd_listen_fds(3))."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS") != "1":
        return None
    return socket.socket(fileno=LISTEN_FDS_START)


def _listen(path: Path | None) -> socket.socket:
    if path is None:
        raise HelperRefused(
            code="no_socket",
            problem="No socket was handed over, and none is named.",
            hint="systemd starts the helper: systemctl start r1box-system.socket",
            status=500,
        )
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    path.unlink(missing_ok=True)
    before = os.umask(0o117)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(8)
    return listener


def _receive(line: socket.socket) -> bytes:
    """Up to the line's end. Raises OSError for what is longer than a request can be."""
    received = bytearray()
    until_s = time.monotonic() + TALK_TIMEOUT_S
    while not received.endswith(b"\n"):
        if len(received) > LARGEST_BYTES or time.monotonic() > until_s:
            raise OSError("no whole request")
        part = line.recv(65536)
        if not part:
            break
        received += part
    return bytes(received)


def _sender(line: socket.socket) -> int:
    _, uid, _ = struct.unpack("3i", line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return int(uid)


def _refusal(error: BaseException) -> Reply:
    if isinstance(error, CommandFailed):
        refused = HelperRefused(
            code="system_refused", problem=f"The system refused it: {error.message}", hint=error.hint, status=502
        )
        return _refusal(refused)
    told = describe(error)
    return Reply.model_validate(
        {
            "error": {
                "code": told.code,
                "message": told.message,
                "hint": told.hint,
                "http_status": told.http_status,
                "param": told.param,
            }
        }
    )
