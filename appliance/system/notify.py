"""Tells systemd how the daemon is: ready, busy with what, alive, stopping (sd_notify(3), sd_watchdog_enabled(3)).

systemd hands a service of Type=notify a datagram socket in NOTIFY_SOCKET and, with WatchdogSec=, the watchdog's time in
WATCHDOG_USEC. Started in any other way the daemon has neither, and nothing is sent.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping
from typing import Self

import structlog

_log = structlog.get_logger(__name__)

STARTING_BEAT_S = 20.0
"""Time between two signs of life when there is no watchdog, or a slow one."""

STARTING_GRACE_S = 90
"""How much longer systemd waits for READY=1 after each sign of life; the unit's own TimeoutStartSec is as long."""


class ServiceNotifier:
    """The daemon's line to systemd. Sending never raises and never waits: a daemon that serves is worth more than word
    of it, and systemd notices silence by itself.

    ``address`` is a path or, with a leading ``@``, an abstract name; ``None`` sends nothing. ``watchdog_s`` is the time
    after which systemd ends a silent service; ``None`` without a watchdog.
    """

    def __init__(self, address: str | None, watchdog_s: float | None = None) -> None:
        self._address = address
        self._watchdog_s = watchdog_s
        self._starting = True
        self._failed = False
        self._status = ""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Self:
        """As NOTIFY_SOCKET and WATCHDOG_USEC say. WATCHDOG_PID may name another process: then there is no watchdog."""
        values = os.environ if environ is None else environ
        address = values.get("NOTIFY_SOCKET", "")
        usec = values.get("WATCHDOG_USEC", "")
        ours = values.get("WATCHDOG_PID", "") in {"", str(os.getpid())}
        watched = ours and usec.isascii() and usec.isdigit() and int(usec) > 0
        # Other forms, such as vsock:, are for virtual machines' managers.
        return cls(address if address[:1] in {"/", "@"} else None, int(usec) / 1e6 if watched else None)

    @property
    def interval_s(self) -> float | None:
        """Seconds between two signs of life: half the watchdog's time, as sd_watchdog_enabled(3) advises.

        ``None`` when nobody listens.
        """
        if self._address is None:
            return None
        return STARTING_BEAT_S if self._watchdog_s is None else min(self._watchdog_s / 2, STARTING_BEAT_S)

    def ready(self) -> None:
        """The start is over: requests are answered."""
        self._starting = False
        self._send("READY=1")

    def status(self, text: str) -> None:
        """One line for ``systemctl status``; the same line is not sent twice."""
        line = " ".join(text.split())
        if line != self._status:
            self._status = line
            self._send(f"STATUS={line}")

    def stopping(self) -> None:
        """The end has begun."""
        self._starting = False
        self._send("STOPPING=1")

    def beat(self) -> None:
        """One sign of life. During the start it also asks for more time: loading a large model takes minutes."""
        lines = ["WATCHDOG=1"] if self._watchdog_s is not None else []
        if self._starting:
            lines.append(f"EXTEND_TIMEOUT_USEC={STARTING_GRACE_S * 1_000_000}")
        if lines:
            self._send(*lines)

    async def keep_beating(self) -> None:
        """Send signs of life until cancelled. It runs in the daemon's event loop, so a loop that hangs falls silent."""
        interval_s = self.interval_s
        while interval_s is not None:
            self.beat()
            await asyncio.sleep(interval_s)

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        # An abstract name begins with a null byte on the wire.
        name = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
                line.setblocking(False)
                line.connect(name)
                line.send("\n".join(lines).encode())
        except OSError as error:
            if not self._failed:
                _log.warning("systemd_not_told", reason=error.strerror or type(error).__name__, socket=self._address)
            self._failed = True
