"""API keys and people: who may ask, how much, and the end of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, ClassVar, cast

from textual.content import Content
from textual.timer import Timer

from appliance.schemas.accounts import KeyBody, KeyCreate, KeyCreated, Scope
from tui.figures import since
from tui.keys_feed import SomeKeys
from tui.resource import Resource
from tui.screens.base import Keys
from tui.screens.listed import ListScreen
from tui.widgets.details import blocks, facts
from tui.widgets.dialogs import TextDialog
from tui.widgets.forms import Field, FormDialog, Values
from tui.widgets.table import Column

SEARCH_AFTER_S = 0.25
_NEAR_END = 100
SCOPE_CHOICES: tuple[tuple[str, tuple[Scope, ...]], ...] = (
    ("inference", ("inference",)),
    ("metrics", ("metrics",)),
    ("console", ("admin:read", "admin:write", "accounts:read", "metrics", "inference")),
    (
        "all",
        (
            "inference",
            "metrics",
            "admin:read",
            "admin:write",
            "accounts:read",
            "accounts:write",
            "audit:read",
            "settings:write",
        ),
    ),
)
"""What an operator chooses from; the command line has every combination."""


class KeysScreen(ListScreen):
    """The keys by their number. They come in pages; the daemon searches."""

    NAME = "keys"
    KEYS: ClassVar[Keys] = (
        ("n", "new_key", "screen.new"),
        ("x", "revoke", "screen.revoke"),
        ("v", "show_revoked", "screen.show_revoked"),
        ("p", "people", "app.go('users')"),
    )

    def __init__(self) -> None:
        super().__init__()
        self._search: Timer | None = None

    def resource(self) -> Resource[SomeKeys]:
        """The pages that were looked at."""
        return self.box.keys

    def rows(self, value: SomeKeys) -> Sequence[KeyBody]:
        """By their number."""
        return value.items

    def matches(self, row: KeyBody, text: str) -> bool:
        """The daemon searched already; what is typed since then is looked for here too."""
        return text in row.name.casefold()

    def columns(self) -> tuple[Column, ...]:
        """Who, what for, when last."""
        words, now = self.drawing.words, self.box.clock.now
        return (
            Column("id", lambda one: str(one.id), 6, right=True),
            Column(words("col.key"), lambda one: one.name, share=2),
            Column(words("keys.begins"), lambda one: f"{one.prefix}...", 13, rank=3),
            Column(words("keys.owner"), lambda one: one.user_name or "", share=1, rank=2),
            Column(words("keys.used"), lambda one: since(words, one.last_used_at, now()) or words("keys.never"), 13),
            Column(words("keys.limits"), _limits, 15, rank=4),
            Column(words("col.state"), self._state, 9, rank=1),
        )

    def list_title(self, value: SomeKeys | None, count: int) -> str:
        """With a plus while there are more."""
        more = "+" if value is not None and value.next is not None else ""
        return self.drawing.words("keys.title", n="?" if value is None else f"{count:,}{more}")

    def _state(self, one: KeyBody) -> Content:
        words = self.drawing.words
        if one.revoked_at is not None:
            return Content.styled(words("keys.revoked"), "$text-muted")
        if one.expires_at is not None and one.expires_at <= self.box.clock.now():
            return Content.styled(words("keys.expired"), "$warning")
        return Content.styled(words("keys.valid"), "$success")

    def detail(self, row: KeyBody) -> Content:
        """What it may, how much, since when."""
        words, now = self.drawing.words, self.box.clock.now()
        limits = [
            (words(f"keys.{name}"), None if getattr(row, name) is None else f"{getattr(row, name):,}")
            for name in ("requests_per_minute", "tokens_per_minute", "tokens_per_day")
        ]
        expires = None
        if row.expires_at is not None:
            expires = row.expires_at.astimezone(self.console.zone).strftime("%Y-%m-%d %H:%M")
        return blocks(
            facts(
                [
                    (words("col.key"), Content.styled(row.name, "bold")),
                    (words("keys.begins"), f"{row.prefix}..."),
                    (words("col.state"), self._state(row)),
                    (words("keys.owner"), row.user_name),
                    (words("keys.scopes"), ", ".join(row.scopes)),
                    (words("keys.models"), None if row.models is None else ", ".join(row.models)),
                    (words("keys.priority"), words(f"keys.priority.{row.priority}")),
                    *limits,
                    (words("keys.used"), since(words, row.last_used_at, now) or words("keys.never")),
                    (words("keys.made"), since(words, row.created_at, now)),
                    (words("keys.expires"), expires),
                    ("id", str(row.id)),
                ]
            )
        )

    def filter_by(self, text: str) -> None:
        """Have the daemon search, a moment after the last letter."""
        super().filter_by(text)
        if self._search is not None:
            self._search.stop()
        self._search = self.set_timer(SEARCH_AFTER_S, lambda: self.box.keys.search(text))

    def on_table_moved(self) -> None:
        """More rows, before the last one is reached."""
        super().on_table_moved()
        rows = len(self.table.rows)
        if rows - self.table.place < _NEAR_END:
            self.box.keys.more(rows)

    # -- what an operator does --------------------------------------------------------------------------------------

    def action_new(self) -> None:
        """Make a key; its secret is shown once."""
        words = self.drawing.words
        scopes = tuple((name, words(f"keys.for.{name}")) for name, _ in SCOPE_CHOICES)
        priorities = (("interactive", words("keys.priority.interactive")), ("batch", words("keys.priority.batch")))
        fields = (
            Field("name", words("keys.name"), "", words("keys.name.hint")),
            Field("scopes", words("keys.for"), "inference", choices=scopes),
            Field("days", words("keys.days"), "", words("keys.no_limit")),
            Field("requests_per_minute", words("keys.requests_per_minute"), "", words("keys.no_limit")),
            Field("tokens_per_minute", words("keys.tokens_per_minute"), "", words("keys.no_limit")),
            Field("tokens_per_day", words("keys.tokens_per_day"), "", words("keys.no_limit")),
            Field("priority", words("keys.priority"), "interactive", choices=priorities),
        )
        numbers = ("days", "requests_per_minute", "tokens_per_minute", "tokens_per_day")

        def check(values: Values) -> str | None:
            if not values["name"]:
                return words("keys.name.missing")
            if any(values[name] and not (values[name].isdecimal() and int(values[name])) for name in numbers):
                return words("form.number", least=1)
            return None

        def then(values: Values | None) -> None:
            if values is not None:
                self._create(values)

        self.app.push_screen(FormDialog(self.drawing, words("keys.new.title"), fields, check=check), then)

    def _create(self, values: Values) -> None:
        words = self.drawing.words

        def number(name: str) -> int | None:
            return int(values[name]) if values[name] else None

        days = number("days")
        wish = KeyCreate(
            name=values["name"],
            scopes=dict(SCOPE_CHOICES)[values["scopes"]],
            expires_at=None if days is None else self.box.clock.now() + timedelta(days=days),
            requests_per_minute=number("requests_per_minute"),
            tokens_per_minute=number("tokens_per_minute"),
            tokens_per_day=number("tokens_per_day"),
            priority=cast("Any", values["priority"]),
        )

        def show(made: KeyCreated) -> None:
            text = Content("\n").join(
                [
                    Content(words("keys.made.once", name=made.name)),
                    Content(""),
                    Content.styled(made.key, "bold $success"),
                ]
            )
            self.app.push_screen(TextDialog(self.drawing, words("keys.made.title"), text))

        self.act(
            words("keys.making"),
            lambda: self.box.client.send("POST", "/api/admin/keys", KeyCreated, wish),
            lambda made: words("keys.made.done", name=made.name),
            show,
        )

    def action_revoke(self) -> None:
        """End the key under the cursor for ever, after its name was typed."""
        one, words = self.chosen, self.drawing.words
        if one is None:
            return
        if one.revoked_at is not None:
            self.tell(words("keys.revoked.already", name=one.name))
            return

        def then() -> None:
            self.act(
                words("keys.revoking"),
                lambda: self.box.client.send("DELETE", f"/api/admin/keys/{one.id}", KeyBody),
                lambda answer: words("keys.revoked.done", name=answer.name),
            )

        self.confirm_typed(words("keys.revoke.ask", name=one.name), words("keys.revoke.about"), one.name, then)

    def action_show_revoked(self) -> None:
        """Revoked keys too, or not."""
        keys = self.box.keys
        keys.search(keys.query, revoked=not keys.revoked)
        self.tell(self.drawing.words("keys.with_revoked" if keys.revoked else "keys.without_revoked"))


def _limits(one: KeyBody) -> str:
    """``30/min 20k/min``."""
    parts = []
    if one.requests_per_minute is not None:
        parts.append(f"{one.requests_per_minute}/min")
    if one.tokens_per_minute is not None:
        parts.append(f"{one.tokens_per_minute // 1000}k/min")
    if one.tokens_per_day is not None:
        parts.append(f"{one.tokens_per_day // 1000}k/d")
    return " ".join(parts)
