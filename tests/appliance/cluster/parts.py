"""Boxes of a cluster without daemons: the book, the listener, what it calls."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from appliance.cluster.book import ClusterBook, folder_of
from appliance.cluster.listener import ClusterListener
from appliance.cluster.wire import Beat, Told

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


@dataclass
class Leading:
    """Remembers what boxes said."""

    beats: list[tuple[str, Beat]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    notes: list[tuple[str, str | None]] = field(default_factory=list)

    def hear(self, box: str, beat: Beat) -> Told:
        self.beats.append((box, beat))
        return Told(answers=beat.number)

    def gone(self, box: str) -> None:
        self.left.append(box)

    async def ask(self, box: str, request: Request) -> Response:
        return Response(box)

    def note(self, action: str, box: str | None, address: str | None) -> None:
        self.notes.append((action, box))


@dataclass
class Leader:
    """A box that leads, and listens."""

    book: ClusterBook
    leading: Leading
    listener: ClusterListener
    port: int


@asynccontextmanager
async def leader(folder: Path) -> AsyncIterator[Leader]:
    book, leading, port = ClusterBook(folder_of(folder)), Leading(), free_port()
    await asyncio.to_thread(book.begin, "box-1", LOOPBACK, port)
    listener = ClusterListener(book, leading, leading.note)
    await listener.start(LOOPBACK, port)
    try:
        yield Leader(book, leading, listener, port)
    finally:
        await listener.aclose()
