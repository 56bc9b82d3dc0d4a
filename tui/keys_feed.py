"""API keys by pages: a box may have ten thousand, and the console holds those that were looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

from appliance.schemas.accounts import KeyBody, KeyList
from tui.client import BoxClient, Problem
from tui.resource import Clock, Resource

PAGE_ROWS = 500


@dataclass(frozen=True, slots=True)
class SomeKeys:
    """The first keys by their number; ``next`` goes on after them, None when these are all."""

    items: tuple[KeyBody, ...]
    next: int | None


class KeysFeed(Resource[SomeKeys]):
    """As many pages as the reader came to. ``query`` is a part of the name, searched for by the daemon."""

    def __init__(self, client: BoxClient, clock: Clock, *, every_s: float, changed: Callable[[], None]) -> None:
        super().__init__(self._pages, clock, every_s=every_s, changed=changed)
        self._client = client
        self._wanted_rows = PAGE_ROWS
        self.query = ""
        self.revoked = False

    def search(self, query: str, *, revoked: bool | None = None) -> None:
        """Ask for others."""
        if revoked is not None:
            self.revoked = revoked
        self.query, self._wanted_rows = query, PAGE_ROWS
        self.wake()

    def more(self, than: int) -> None:
        """The reader comes to the end of ``than`` rows."""
        if self._wanted_rows <= than:
            self._wanted_rows = than + PAGE_ROWS
            self.wake()

    async def _pages(self) -> SomeKeys | Problem:
        found: list[KeyBody] = []
        after = 0
        asked = (self.query, self.revoked)
        while True:
            query = f"&query={quote(self.query, safe='')}" if self.query else ""
            revoked = "&revoked=true" if self.revoked else ""
            path = f"/api/admin/keys?limit={PAGE_ROWS}&after={after}{query}{revoked}"
            page = await self._client.get(path, KeyList)
            if isinstance(page, Problem):
                return page
            if asked != (self.query, self.revoked):
                # Searched for something else meanwhile.
                asked, found, after = (self.query, self.revoked), [], 0
                continue
            found += page.items
            if page.next is None or len(found) >= self._wanted_rows:
                return SomeKeys(tuple(found), page.next)
            after = page.next
