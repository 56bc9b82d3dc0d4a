"""Who is answered now and who waits, and the end of one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar
from urllib.parse import quote

from textual.content import Content

from appliance.schemas.operators import LiveRequest, LiveRequests
from tui.client import Nothing
from tui.figures import bar, count
from tui.resource import Resource
from tui.screens.base import Keys
from tui.screens.listed import ListScreen
from tui.widgets.details import facts
from tui.widgets.table import Column

STYLES = {"queued": "$warning", "thinking": "$primary", "answering": "$success"}


class RequestsScreen(ListScreen):
    """Those that are answered, the oldest first, then the queue."""

    NAME = "requests"
    KEYS: ClassVar[Keys] = (("x", "end_request", "screen.end"),)

    def resource(self) -> Resource[LiveRequests]:
        """The streams."""
        return self.box.live

    def rows(self, value: LiveRequests) -> Sequence[LiveRequest]:
        """In the order that the daemon gives."""
        return value.requests

    def columns(self) -> tuple[Column, ...]:
        """Who, what it is at, how far."""
        words = self.drawing.words
        return (
            Column(words("col.state"), self._state, 10),
            Column(words("col.key"), lambda one: one.name, share=2),
            Column(words("col.model"), lambda one: one.model, share=3, rank=3),
            Column(words("col.thinking"), lambda one: _tokens(one, one.thinking_tokens), 9, right=True),
            Column(
                words("col.answer"),
                lambda one: _tokens(one, one.generated_tokens - one.thinking_tokens),
                8,
                right=True,
            ),
            Column(words("col.speed"), lambda one: _speed(one.tokens_per_s), 6, right=True),
            Column(words("col.age"), lambda one: words.age(one.age_s), 8, right=True, rank=1),
            Column(words("col.wait"), self._wait, 12, right=True, rank=2),
        )

    def list_title(self, value: LiveRequests | None, count: int) -> str:
        """How many there are in all, also beyond the list."""
        words = self.drawing.words
        if value is None:
            return words("requests.title.unknown")
        return words("requests.title", running=f"{value.running:,}", waiting=f"{value.waiting:,}")

    def _state(self, one: LiveRequest) -> Content:
        word = self.drawing.words.state("request", one.state)
        return Content.styled(word, STYLES.get(one.state, ""))

    def _wait(self, one: LiveRequest) -> str:
        """``2nd, 20 s`` of those that wait."""
        if one.position is None:
            return ""
        words = self.drawing.words
        return words("requests.place", n=one.position) + ("" if one.wait_s is None else f", {words.age(one.wait_s)}")

    def detail(self, row: LiveRequest) -> Content:
        """All that is known of a request; never what was said."""
        words = self.drawing.words
        share = row.generated_tokens / row.most_tokens if row.most_tokens else None
        return facts(
            [
                (words("col.state"), self._state(row)),
                (words("col.key"), f"{row.name}" + (f" ({row.subject})" if row.subject else "")),
                (words("col.model"), row.model),
                (words("requests.queue"), self._wait(row)),
                (words("col.age"), words.age(row.age_s)),
                (words("requests.prompt"), words("requests.tokens", n=count(row.prompt_tokens))),
                (words("col.thinking"), words("requests.tokens", n=count(row.thinking_tokens))),
                (words("col.answer"), words("requests.tokens", n=count(row.generated_tokens - row.thinking_tokens))),
                (
                    words("requests.most"),
                    Content.assemble(bar(self.drawing, share, 10), f" {count(row.most_tokens)}"),
                ),
                (words("col.speed"), None if row.tokens_per_s is None else f"{row.tokens_per_s:.1f} tok/s"),
                (words("requests.kind"), words("requests.batch") if row.batch else None),
                ("id", row.id),
            ]
        )

    def action_end(self) -> None:
        """End the request under the cursor for its client."""
        one, words = self.chosen, self.drawing.words
        if one is None:
            return

        def then() -> None:
            path = f"/api/admin/requests/live/{quote(one.id, safe='')}"
            self.act(
                words("requests.ending"),
                lambda: self.box.client.send("DELETE", path, Nothing),
                lambda _: words("requests.ended", name=one.name),
            )

        self.confirm(words("requests.end.ask", name=one.name), words("requests.end.about"), then)


def _tokens(one: LiveRequest, tokens: int) -> str:
    return "-" if one.state == "queued" else f"{tokens:,}"


def _speed(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.1f}"
