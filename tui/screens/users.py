"""People: who may log in, as what, and the end of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, cast

from textual.content import Content

from appliance.schemas.accounts import PasswordReset, UserBody, UserChange, UserCreate, UserList
from tui.client import Nothing
from tui.figures import since
from tui.resource import Resource
from tui.screens.base import Keys
from tui.screens.listed import ListScreen
from tui.widgets.details import facts
from tui.widgets.forms import Field, FormDialog, Values
from tui.widgets.table import Column

ROLES = ("viewer", "user", "operator", "admin")


class UsersScreen(ListScreen):
    """The first 500 people by their number."""

    NAME = "users"
    KEYS: ClassVar[Keys] = (
        ("n", "new_user", "screen.new"),
        ("e", "change_role", "screen.role"),
        ("x", "disable", "screen.disable"),
        ("w", "reset_password", "screen.password"),
        ("b", "back_keys", "app.go('keys')"),
    )

    def resource(self) -> Resource[UserList]:
        """The people."""
        return self.box.users

    def rows(self, value: UserList) -> Sequence[UserBody]:
        """By their number."""
        return value.items

    def columns(self) -> tuple[Column, ...]:
        """Who, as what, when last."""
        words, now = self.drawing.words, self.box.clock.now
        return (
            Column("id", lambda one: str(one.id), 6, right=True),
            Column(words("users.name"), lambda one: one.name, share=1),
            Column(words("users.role"), lambda one: words.state("role", one.role), 12),
            Column(words("users.login"), lambda one: since(words, one.last_login_at, now()) or words("keys.never"), 13),
            Column(words("col.state"), self._state, 14),
        )

    def _state(self, one: UserBody) -> Content:
        words = self.drawing.words
        if one.disabled:
            return Content.styled(words("users.disabled"), "$text-muted")
        if not one.has_password:
            return Content.styled(words("users.no_password"), "$warning")
        if one.must_change_password:
            return Content.styled(words("users.must_change"), "$warning")
        return Content.styled(words("users.active"), "$success")

    def detail(self, row: UserBody) -> Content:
        """All that is known of a person."""
        words, now = self.drawing.words, self.box.clock.now()
        return facts(
            [
                (words("users.name"), Content.styled(row.name, "bold")),
                (words("users.role"), words.state("role", row.role)),
                ("", words.state("role.about", row.role)),
                (words("col.state"), self._state(row)),
                (words("users.language"), {"en": "English", "zh": "中文"}[row.language]),
                (words("users.login"), since(words, row.last_login_at, now) or words("keys.never")),
                (words("users.password"), since(words, row.password_changed_at, now)),
                (words("keys.made"), since(words, row.created_at, now)),
                (words("users.disabled"), since(words, row.disabled_at, now)),
                ("id", str(row.id)),
            ]
        )

    # -- what an operator does --------------------------------------------------------------------------------------

    def action_new(self) -> None:
        """A new person with a password to be changed at the first login."""
        words = self.drawing.words
        fields = (
            Field("name", words("users.name")),
            Field("role", words("users.role"), "user", choices=self._roles()),
            Field("language", words("users.language"), "en", choices=(("en", "English"), ("zh", "中文"))),
            Field("password", words("users.first_password"), "", words("users.password.hint"), secret=True),
            Field("again", words("users.again"), secret=True),
        )

        def check(values: Values) -> str | None:
            if not values["name"]:
                return words("users.name.missing")
            return _password_problem(self, values, empty=True)

        def then(values: Values | None) -> None:
            if values is None:
                return
            wish = UserCreate(
                name=values["name"],
                role=cast("Any", values["role"]),
                language=cast("Any", values["language"]),
                password=values["password"] or None,
            )
            self.act(
                words("users.making"),
                lambda: self.box.client.send("POST", "/api/admin/users", UserBody, wish),
                lambda made: words("users.made", name=made.name),
            )

        about = words("users.new.about")
        self.app.push_screen(FormDialog(self.drawing, words("users.new.title"), fields, about=about, check=check), then)

    def action_role(self) -> None:
        """Another role."""
        one, words = self.chosen, self.drawing.words
        if one is None:
            return
        field = Field("role", words("users.role"), one.role, choices=self._roles())

        def then(values: Values | None) -> None:
            if values is not None and values["role"] != one.role:
                self._change(one, UserChange(role=cast("Any", values["role"])), "users.changed")

        self.app.push_screen(FormDialog(self.drawing, words("users.role.title", name=one.name), (field,)), then)

    def action_disable(self) -> None:
        """Let somebody in no more, or again."""
        one, words = self.chosen, self.drawing.words
        if one is None:
            return
        word = "enable" if one.disabled else "disable"

        def then() -> None:
            self._change(one, UserChange(disabled=not one.disabled), f"users.{word}.done")

        self.confirm(words(f"users.{word}.ask", name=one.name), words(f"users.{word}.about"), then)

    def action_password(self) -> None:
        """A new password for somebody; only on the box itself."""
        one, words = self.chosen, self.drawing.words
        if one is None:
            return
        fields = (
            Field("password", words("users.first_password"), "", words("users.password.hint"), secret=True),
            Field("again", words("users.again"), secret=True),
        )

        def then(values: Values | None) -> None:
            if values is None:
                return
            wish = PasswordReset(password=values["password"])
            self.act(
                words("users.setting"),
                lambda: self.box.client.send("POST", f"/api/admin/users/{one.id}/password", Nothing, wish),
                lambda _: words("users.password.done", name=one.name),
            )

        title = words("users.password.title", name=one.name)
        about = words("users.password.about")
        dialog = FormDialog(
            self.drawing, title, fields, about=about, check=lambda values: _password_problem(self, values)
        )
        self.app.push_screen(dialog, then)

    def _roles(self) -> tuple[tuple[str, str], ...]:
        words = self.drawing.words
        return tuple((role, words.state("role", role)) for role in ROLES)

    def _change(self, one: UserBody, change: UserChange, word: str) -> None:
        words = self.drawing.words
        self.act(
            words("users.changing"),
            lambda: self.box.client.send("PATCH", f"/api/admin/users/{one.id}", UserBody, change),
            lambda answer: words(word, name=answer.name),
        )


def _password_problem(screen: UsersScreen, values: Values, *, empty: bool = False) -> str | None:
    words = screen.drawing.words
    if values["password"] != values["again"]:
        return words("users.password.differ")
    if not values["password"] and not empty:
        return words("users.password.missing")
    return None
