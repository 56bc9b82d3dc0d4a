"""The daemon's log as it comes: the newest lines are kept, and a stream that ends is begun again where it ended."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from urllib.parse import urlencode

from pydantic import ValidationError

from appliance.schemas.logs import LevelWord, LogItem
from tui.client import BoxClient, Problem
from tui.resource import Clock, Resource

KEPT_LINES = 5000
FIRST_LINES = 500
_FLUSH_S = 0.2
_RETRY_S = 2.0
_COMMENTS_S = 15.0
"""How often the daemon shows that a quiet log is still followed."""


class LogFeed(Resource[tuple[LogItem, ...]]):
    """``level`` is the least one; ``text`` stands anywhere in the line. The daemon filters by both."""

    def __init__(self, client: BoxClient, clock: Clock, *, every_s: float, changed: Callable[[], None]) -> None:
        super().__init__(self._never, clock, every_s=_COMMENTS_S, changed=changed)
        self._client = client
        self._pause_s = min(_RETRY_S, every_s)
        self._lines: deque[LogItem] = deque(maxlen=KEPT_LINES)
        self._fresh = False
        self._restart = asyncio.Event()
        self.level: LevelWord = "info"
        self.text = ""

    def search(self, *, level: LevelWord | None = None, text: str | None = None) -> None:
        """Follow other lines."""
        self.level = level or self.level
        self.text = self.text if text is None else text
        self._lines.clear()
        self._restart.set()

    async def poll(self) -> None:
        """Follow until cancelled."""
        self._begin()
        flusher = asyncio.create_task(self._flush())
        try:
            while True:
                self._restart.clear()
                following = asyncio.create_task(self._follow())
                restart = asyncio.create_task(self._restart.wait())
                try:
                    await asyncio.wait({following, restart}, return_when=asyncio.FIRST_COMPLETED)
                    if not restart.done():
                        following.result()
                        await asyncio.wait({restart}, timeout=self._pause_s)
                finally:
                    for task in (following, restart):
                        task.cancel()
                    await asyncio.gather(following, restart, return_exceptions=True)
        finally:
            flusher.cancel()

    async def _follow(self) -> None:
        wanted: dict[str, object] = {"level": self.level}
        if self.text:
            wanted["text"] = self.text
        if self._lines:
            wanted["after"] = self._lines[-1].seq
        else:
            wanted["tail"] = FIRST_LINES
        async for event in self._client.events(f"/api/admin/logs/events?{urlencode(wanted)}"):
            if isinstance(event, Problem):
                self.fail(event)
                return
            if not event.startswith(":"):
                try:
                    item = LogItem.model_validate_json(event)
                except ValidationError:
                    continue  # an event that tells of lost lines
                if self._lines and item.seq <= self._lines[-1].seq:
                    # The daemon was started anew and counts from 1.
                    self._lines.clear()
                self._lines.append(item)
            self._fresh = True
        self.fail(Problem("unreachable", detail="the log ended"))

    async def _flush(self) -> None:
        """Show what came, some times a second: a log may be quick."""
        while True:
            await asyncio.sleep(_FLUSH_S)
            if self._fresh:
                self._fresh = False
                self.put(tuple(self._lines))

    async def _never(self) -> tuple[LogItem, ...] | Problem:
        raise NotImplementedError("a log is followed, not asked for")
