"""What is set, where it comes from, and changes of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar

from textual.content import Content

from appliance.schemas.settings import SettingItem, SettingList, SettingsChange
from tui.resource import Resource
from tui.screens.base import Keys
from tui.screens.listed import ListScreen
from tui.widgets.details import blocks, facts
from tui.widgets.forms import Field, FormDialog, Values
from tui.widgets.table import Column

_EMPTY = object()


class SettingsScreen(ListScreen):
    """All settings by name; those that wait for a restart have a mark."""

    NAME = "settings"
    KEYS: ClassVar[Keys] = (("e", "change", "screen.change"), ("d", "default", "screen.default"))

    def resource(self) -> Resource[SettingList]:
        """The settings."""
        return self.box.settings

    def rows(self, value: SettingList) -> Sequence[SettingItem]:
        """As the daemon has them."""
        return value.items

    @staticmethod
    def key(row: SettingItem) -> object:
        """Their names."""
        return row.name

    def columns(self) -> tuple[Column, ...]:
        """Name, value, whence."""
        words = self.drawing.words
        return (
            Column("", lambda one: Content.styled("!", "bold $warning") if one.pending else " ", 1),
            Column(words("settings.name"), lambda one: one.name, 30),
            Column(words("settings.value"), lambda one: _shown(self, one.value), share=1),
            Column(words("settings.source"), lambda one: words.state("settings.source", one.source), 12, rank=1),
            Column(words("settings.applies"), lambda one: words.state("settings.applies", one.applies), 14, rank=2),
        )

    def note(self, value: SettingList | None) -> Content:
        """What waits for a restart."""
        if value is not None and value.restart_needed:
            waiting = ", ".join(value.restart_needed)
            return Content.styled(self.drawing.words("settings.restart", names=waiting), "$warning")
        return super().note(value)

    def detail(self, row: SettingItem) -> Content:
        """What it is for, what it is, when a change holds."""
        words = self.drawing.words
        return blocks(
            Content.styled(row.name, "bold"),
            Content(row.description),
            facts(
                [
                    (words("settings.value"), _shown(self, row.value)),
                    (words("settings.stored"), _shown(self, row.stored) if row.pending else None),
                    (words("settings.default"), _shown(self, row.default)),
                    (words("settings.source"), words.state("settings.source", row.source)),
                    ("", row.origin),
                    (words("settings.applies"), words.state("settings.applies", row.applies)),
                    (words("settings.form"), _form(row.kind)),
                ]
            ),
            Content.styled(words("settings.locked"), "$warning") if row.locked else None,
        )

    def on_table_chosen(self) -> None:
        """Enter changes it."""
        self.action_change()

    def action_change(self) -> None:
        """Another value."""
        one, words = self.chosen, self.drawing.words
        if one is None:
            return
        if one.locked or one.applies == "file":
            self.tell(words("settings.locked" if one.locked else "settings.only_file"))
            return
        choices = _choices(one.kind)
        value = "" if one.secret or one.stored is None else _text(one.stored)
        field = Field("value", one.name, value, _form(one.kind), tuple((c, c) for c in choices), secret=one.secret)

        def check(values: Values) -> str | None:
            return words("settings.bad", form=_form(one.kind)) if _parsed(values["value"], one.kind) is _EMPTY else None

        def then(values: Values | None) -> None:
            if values is not None:
                self._send(one, _parsed(values["value"], one.kind))

        dialog = FormDialog(self.drawing, words("settings.change.title"), (field,), about=one.description, check=check)
        self.app.push_screen(dialog, then)

    def action_default(self) -> None:
        """Back to what the file or the default says."""
        one, words = self.chosen, self.drawing.words
        if one is None:
            return
        about = words("settings.default.about", value=_shown(self, one.default))
        self.confirm(words("settings.default.ask", name=one.name), about, lambda: self._send(one, None))

    def _send(self, one: SettingItem, value: Any) -> None:
        words = self.drawing.words

        def done(answer: SettingList) -> str:
            self.box.settings.put(answer)
            word = "settings.done.restart" if one.name in answer.restart_needed else f"settings.done.{one.applies}"
            return words(word, name=one.name)

        self.act(
            words("settings.sending", name=one.name),
            lambda: self.box.client.send(
                "PATCH", "/api/admin/settings", SettingList, SettingsChange(values={one.name: value}), keep_none=True
            ),
            done,
        )


def _shown(screen: SettingsScreen, value: Any) -> str:
    return screen.drawing.words("settings.none.value") if value is None else _text(value)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ", ".join(value)
    return json.dumps(value, ensure_ascii=False)


def _types(kind: dict[str, Any]) -> set[str]:
    """The JSON types that a schema allows."""
    found = {kind["type"]} if isinstance(kind.get("type"), str) else set(kind.get("type") or ())
    for one in kind.get("anyOf") or ():
        found |= _types(one)
    return found


def _choices(kind: dict[str, Any]) -> list[str]:
    """The words that are allowed, where there are few."""
    if "enum" in kind:
        return [str(one) for one in kind["enum"]]
    if _types(kind) == {"boolean"}:
        return ["true", "false"]
    for one in kind.get("anyOf") or ():
        if "enum" in one:
            return [str(choice) for choice in one["enum"]]
    return []


def _form(kind: dict[str, Any]) -> str:
    """What may be typed, in a few words."""
    choices = _choices(kind)
    if choices:
        return " | ".join(choices)
    words = sorted(_types(kind) - {"null"})
    bounds = [
        f"{sign} {one[name]}"
        for one in (kind, *(kind.get("anyOf") or ()))
        for name, sign in (("minimum", ">="), ("exclusiveMinimum", ">"), ("maximum", "<="))
        if name in one
    ]
    return ", ".join([*words, *bounds])


def _parsed(text: str, kind: dict[str, Any]) -> Any:
    """The value that was typed; ``_EMPTY`` for what is none. The daemon checks the rest."""
    types = _types(kind)
    if not text and "null" in types:
        return None
    if "array" in types:
        return [one.strip() for one in text.split(",") if one.strip()]
    for name, made in (("boolean", bool), ("integer", int), ("number", (int, float))):
        if name in types:
            try:
                value = json.loads(text)
            except ValueError:
                continue
            if isinstance(value, made) and (name == "boolean" or not isinstance(value, bool)):
                return value
    return text if "string" in types or not types or "enum" in kind else _EMPTY
