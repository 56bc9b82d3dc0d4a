"""Tells the local network that the box is there: ``r1box.local`` and a web service, by multicast DNS (RFC 6762, 6763).

The host name is claimed only where nobody else answers to it; a second box becomes ``r1box-2.local``. Announcing is a
convenience: where it cannot be done the log says so and the box serves.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

import structlog
from zeroconf import AddressResolverIPv4, InterfaceChoice, IPVersion  # type: ignore[attr-defined]
from zeroconf import Error as ZeroconfError
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

_log = structlog.get_logger(__name__)

SERVICE = "_http._tcp.local."
SECURE_SERVICE = "_https._tcp.local."
MOST_NAMES = 20
ASK_MS = 700


class Announcement:
    """One announced box. ``interfaces`` are addresses to speak from; without them all of them."""

    def __init__(
        self,
        name: str,
        *,
        port: int,
        secure: bool,
        version: str,
        addresses: Sequence[str],
        interfaces: Sequence[str] | None = None,
    ) -> None:
        self._name = name
        self._port = port
        self._secure = secure
        self._version = version
        self._addresses = [address for address in addresses if ":" not in address]
        self._interfaces = interfaces
        self._zeroconf: AsyncZeroconf | None = None
        self.tried = False
        """Whether it was announced or found impossible."""
        self.host: str | None = None
        """The name it is reached by, such as ``r1box.local``; None while it is not announced."""

    async def start(self) -> None:
        """Announce. Never raises: see ``host``."""
        try:
            if self._addresses:
                await self._start()
        except (OSError, ZeroconfError, TimeoutError) as error:
            _log.warning("not_announced", reason=str(error) or type(error).__name__)
        finally:
            self.tried = True

    async def _start(self) -> None:
        interfaces = list(self._interfaces) if self._interfaces else InterfaceChoice.All
        self._zeroconf = AsyncZeroconf(interfaces=interfaces, ip_version=IPVersion.V4Only)
        host = await self._free_name()
        if host is None:
            _log.warning("not_announced", reason=f"{MOST_NAMES} names beginning with {self._name} are taken")
            return
        await (await self._zeroconf.async_register_service(self._info(host), allow_name_change=True))
        self.host = host
        _log.info("announced", host=host, port=self._port)

    async def stop(self) -> None:
        """Say goodbye, so that nobody goes on looking. Idempotent."""
        zeroconf, self._zeroconf, self.host = self._zeroconf, None, None
        if zeroconf is None:
            return
        try:
            await zeroconf.async_unregister_all_services()
            await zeroconf.async_close()
        except (OSError, ZeroconfError, TimeoutError) as error:
            _log.warning("announcement_not_ended", reason=str(error))

    async def _free_name(self) -> str | None:
        for number in range(1, MOST_NAMES + 1):
            host = f"{self._name}.local" if number == 1 else f"{self._name}-{number}.local"
            if await self._answering(f"{host}.") <= set(self._addresses):
                return host
        return None

    async def _answering(self, host: str) -> set[str]:
        """Addresses that somebody gives for a host name."""
        assert self._zeroconf is not None
        resolver = AddressResolverIPv4(host)
        await resolver.async_request(self._zeroconf.zeroconf, ASK_MS)
        return set(resolver.parsed_addresses())

    def _info(self, host: str) -> AsyncServiceInfo:
        kind = SECURE_SERVICE if self._secure else SERVICE
        label = f"R1 Box {host.removesuffix('.local')}"
        return AsyncServiceInfo(
            kind,
            f"{label}.{kind}",
            addresses=[socket.inet_aton(address) for address in self._addresses],
            port=self._port,
            properties={"path": "/", "version": self._version},
            server=f"{host}.",
        )


async def announce_until_cancelled(announcement: Announcement) -> None:
    """Announce now, and say goodbye when cancelled."""
    try:
        await announcement.start()
        await asyncio.get_running_loop().create_future()
    finally:
        await announcement.stop()
