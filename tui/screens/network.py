"""The machine's network cards, name and time; a change is shown first, tried, and taken back unless it is kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from appliance.schemas.first_run import FirstRun, StepChange
from appliance.schemas.network import (
    ChangeLine,
    Interface,
    Network,
    NetworkChange,
    Preview,
    Trial,
    TrialConfirmation,
    TrialRequest,
    TrialStatus,
)
from tui.client import Problem
from tui.resource import Ready, Resource, Stale, known
from tui.screens.base import Keys
from tui.screens.listed import ListScreen
from tui.views import Drawing
from tui.widgets.details import blocks, facts, heading
from tui.widgets.forms import Field, FormDialog, Values
from tui.widgets.table import Column

TRIAL_S = 120
_CARD_FIELDS = ("addresses", "gateways", "dns")


class NetworkScreen(ListScreen):
    """Cards on the left, all about one and about the machine on the right; over them what is on trial."""

    NAME = "network"
    FILTERS: ClassVar[bool] = False
    KEYS: ClassVar[Keys] = (
        ("e", "change_card", "screen.change_card"),
        ("m", "change_machine", "screen.change_machine"),
        ("y", "keep_trial", "screen.keep_trial"),
        ("u", "undo_trial", "screen.undo_trial"),
        ("b", "back_first", "app.go('first_run')"),
    )

    def resource(self) -> Resource[Network]:
        """The network."""
        return self.box.network

    def rows(self, value: Network) -> Sequence[Interface]:
        """Those that somebody keeps first, then those with a cable."""
        return sorted(value.interfaces, key=lambda one: (one.manager is None, not one.carrier, one.name))

    @staticmethod
    def key(row: Interface) -> object:
        """Their names."""
        return row.name

    def own_keys(self) -> Keys:
        """Keep and undo while something is on trial, change otherwise; back while the box is new."""
        on_trial, told = self.trial() is not None, known(self.box.first_run.state())
        own = tuple(one for one in self.KEYS[:-1] if one[1].endswith("_trial") == on_trial)
        return own if told is None or told.finished else (*own, self.KEYS[-1])

    def panels(self) -> Iterator[Widget]:
        """With the line of a trial."""
        yield Static(id="trial")
        yield from super().panels()

    def paint(self) -> None:
        """The countdown too; the application paints every second."""
        super().paint()
        if self.can_draw:
            line = self._trial_line()
            self.query_one("#trial", Static).display = bool(line.plain)
            self.put("#trial", line)

    def columns(self) -> tuple[Column, ...]:
        """Card, state, whence, address."""
        words = self.drawing.words
        return (
            Column(words("network.card"), lambda one: one.name, 10),
            Column(words("network.state"), lambda one: words(f"network.state.{_state(one)}"), 9),
            Column(words("network.mode"), lambda one: words(f"network.mode.{one.mode}"), 8, rank=1),
            Column(words("network.addresses"), lambda one: _shown(one.addresses), share=1),
        )

    def note(self, value: Network | None) -> Content:
        """How the last change ended."""
        if value is not None and value.last is not None and value.trial is None:
            style = "$success" if value.last.outcome == "confirmed" else "$warning"
            return Content.styled(self.drawing.words(f"network.last.{value.last.outcome}"), style)
        return super().note(value)

    def detail(self, row: Interface) -> Content:
        """The card, then the machine."""
        words, told = self.drawing.words, known(self.box.network.state())
        speed = None if row.speed_mbps is None else f"{row.speed_mbps} Mbit/s"
        card = facts(
            [
                (words("network.mode"), words(f"network.mode.{row.mode}")),
                (words("network.addresses"), Content("\n".join(row.addresses)) if len(row.addresses) < 2 else None),
                *((words("network.addresses"), one) for one in row.addresses if len(row.addresses) > 1),
                (words("network.gateways"), _shown(row.gateways)),
                (words("network.dns"), _shown(row.dns)),
                (words("network.manager"), words(f"network.manager.{row.manager}")),
                (words("network.speed"), speed),
                ("MAC", row.mac),
                ("", row.source),
            ]
        )
        return blocks(
            self._problem(told),
            Content("\n").join([heading(row.name), card]),
            None if told is None else Content("\n").join([heading(words("network.machine")), self._machine(told)]),
        )

    def empty(self) -> Content:
        """Without any card there is still the machine."""
        told = known(self.box.network.state())
        return blocks(super().empty(), None if told is None else self._machine(told), self._problem(told))

    def _machine(self, told: Network) -> Content:
        words, clock = self.drawing.words, told.clock
        kept = {True: "network.in_step", False: "network.not_in_step", None: "network.step_unknown"}[clock.synchronized]
        return facts(
            [
                (words("network.hostname"), told.hostname),
                (words("network.dns"), _shown(told.dns)),
                (words("network.ntp"), _shown(clock.servers) if clock.servers else words("network.ntp.default")),
                (words("network.clock"), f"{words(kept)}{'' if clock.server is None else f', {clock.server}'}"),
                (words("network.zone"), clock.zone),
            ]
        )

    def _problem(self, told: Network | None) -> Content | None:
        if told is None or told.problem is None:
            return None
        lines = [Content.styled(told.problem, "$warning"), *([Content(told.hint)] if told.hint else [])]
        return Content("\n").join(lines)

    # -- the trial --------------------------------------------------------------------------------------------------

    def trial(self) -> Trial | None:
        """What is on trial, as far as it is known."""
        told = known(self.box.network.state())
        return None if told is None else told.trial

    def seconds_left(self) -> float:
        """By the box's clock and the age of its answer; the console's own clock may be wrong."""
        state, trial = self.box.network.state(), self.trial()
        age_s = state.age_s if isinstance(state, Ready | Stale) else 0.0
        return 0.0 if trial is None else max(trial.seconds_left - age_s, 0.0)

    def _trial_line(self) -> Content:
        trial, words = self.trial(), self.drawing.words
        if trial is None:
            return Content("")
        what = "; ".join(change_words(self.drawing, line) for line in trial.lines)
        parts = [Content.styled(words("network.trial", left=int(self.seconds_left()), what=what), "bold $warning")]
        if trial.gateway_answers is not None:
            good = trial.gateway_answers
            word = "network.gateway.answers" if good else "network.gateway.silent"
            parts.append(Content.styled(words(word), "$success" if good else "$error"))
        parts.append(Content(words("network.trial.keys")))
        return Content(" ").join(parts)

    def action_keep_trial(self) -> None:
        """Confirm it."""
        trial, words = self.trial(), self.drawing.words
        if trial is None:
            self.tell(words("network.no_trial"))
            return
        body = TrialConfirmation(id=trial.id)
        self._send("POST", "/api/admin/network/trial/confirm", body, "network.keeping")

    def action_undo_trial(self) -> None:
        """Take it back."""
        if self.trial() is None:
            self.tell(self.drawing.words("network.no_trial"))
            return
        self._send("DELETE", "/api/admin/network/trial", None, "network.undoing")

    def _send(self, method: str, path: str, body: TrialConfirmation | TrialRequest | None, word: str) -> None:
        words = self.drawing.words

        def done(answer: TrialStatus) -> str:
            self._put(answer)
            if answer.trial is not None:
                return words("network.tried", seconds=int(answer.trial.seconds_left))
            if answer.last is not None and answer.last.outcome == "confirmed":
                self.run_worker(self._mark_step(), group="mark")
            return words(f"network.last.{answer.last.outcome}") if answer.last is not None else ""

        self.act(words(word), lambda: self.box.client.send(method, path, TrialStatus, body), done)

    async def _mark_step(self) -> None:
        """A new box's list has a step for it; whether that can be marked is of no weight here."""
        told = known(self.box.first_run.state())
        if told is not None and not told.finished:
            path = "/api/admin/first-run/steps/network"
            await self.box.client.send("PUT", path, FirstRun, StepChange(state="done"))

    def _put(self, status: TrialStatus) -> None:
        """The trial is shown at once, before the next look at the network."""
        told = known(self.box.network.state())
        if told is not None:
            self.box.network.put(told.model_copy(update={"trial": status.trial, "last": status.last}))

    # -- changes ----------------------------------------------------------------------------------------------------

    def on_table_chosen(self) -> None:
        """Enter changes the card."""
        self.action_change_card()

    def action_change_card(self) -> None:
        """Address, gateway, name servers."""
        one, words = self.chosen, self.drawing.words
        if one is None or self._refused():
            return
        modes = tuple((mode, words(f"network.mode.{mode}")) for mode in ("dhcp", "static"))
        fields = (
            Field("mode", words("network.mode"), one.mode or "dhcp", choices=modes),
            Field("addresses", words("network.addresses"), ", ".join(one.addresses), "10.0.4.17/24"),
            Field("gateways", words("network.gateways"), ", ".join(one.gateways), "10.0.4.1"),
            Field("dns", words("network.dns"), ", ".join(one.dns), "10.0.4.1, 10.0.4.2"),
        )

        def then(values: Values | None) -> None:
            if values is not None:
                self.show_preview(card_change(one, values))

        self.app.push_screen(
            FormDialog(self.drawing, words("network.change", name=one.name), fields, about=words("network.about")), then
        )

    def action_change_machine(self) -> None:
        """Host name and time servers."""
        told, words = known(self.box.network.state()), self.drawing.words
        if told is None or self._refused():
            return
        fields = (
            Field("hostname", words("network.hostname"), told.hostname, "r1box-ward3"),
            Field("ntp", words("network.ntp"), ", ".join(told.clock.servers), "ntp.example.org"),
        )

        def then(values: Values | None) -> None:
            if values is not None:
                self.show_preview(machine_change(told, values))

        title = words("network.change", name=words("network.machine"))
        self.app.push_screen(FormDialog(self.drawing, title, fields, about=words("network.about")), then)

    def _refused(self) -> bool:
        """Say why nothing can be changed now."""
        told = known(self.box.network.state())
        if self.trial() is not None:
            self.tell(self.drawing.words("network.trial.first"))
        elif told is not None and told.problem is not None:
            self.tell(Content.assemble((told.problem, "$warning"), f" {told.hint or ''}"))
        else:
            return False
        return True

    def show_preview(self, change: NetworkChange) -> None:
        """Ask the box what would become of it, then the operator."""
        words = self.drawing.words

        async def ask() -> Preview | Problem:
            return await self.box.client.send("POST", "/api/admin/network/preview", Preview, change)

        def then(preview: Preview) -> None:
            about = preview_words(self.drawing, preview)
            question = words("network.try.ask", seconds=TRIAL_S)
            self.confirm(question, about, lambda: self._try(change))

        self.act(words("network.previewing"), ask, lambda _preview: "", then)

    def _try(self, change: NetworkChange) -> None:
        self._send("POST", "/api/admin/network/trial", TrialRequest(change=change, seconds=TRIAL_S), "network.trying")


def card_change(one: Interface, values: Values) -> NetworkChange:
    """What of a card's form is another value than before."""
    changed: dict[str, object] = {"interface": one.name}
    if values["mode"] != one.mode:
        changed["mode"] = values["mode"]
    for name in _CARD_FIELDS:
        given = split(values[name])
        static = values["mode"] == "static" or name == "dns"
        if static and (given != getattr(one, name) or ("mode" in changed and given)):
            changed[name] = given
    if values["mode"] == "dhcp" and "mode" in changed and changed.get("dns") == one.dns:
        # Name servers that were typed for the old address are not meant for what the network gives.
        del changed["dns"]
    return NetworkChange.model_validate(changed)


def machine_change(told: Network, values: Values) -> NetworkChange:
    """What of the machine's form is another value than before."""
    servers = split(values["ntp"])
    return NetworkChange(
        hostname=values["hostname"] if values["hostname"] != told.hostname else None,
        ntp=servers if servers != told.clock.servers else None,
    )


def preview_words(draw: Drawing, preview: Preview) -> str:
    """Line by line what changes, then what should be thought of."""
    lines = [f"{change_words(draw, line, before=True)}" for line in preview.lines]
    lines += [f"! {draw.words.state('network.warning', one)}" for one in preview.warnings]
    return "\n".join([*lines, draw.words("network.try.about")])


def change_words(draw: Drawing, line: ChangeLine, *, before: bool = False) -> str:
    """``Address 10.0.4.18/24``; with ``before`` also what it was."""
    words = draw.words

    def told(values: tuple[str, ...]) -> str:
        return words(f"network.mode.{values[0]}") if line.what == "mode" and values else _shown(values)

    name, after = words(f"network.{line.what}"), told(line.after)
    return f"{name}: {told(line.before)} -> {after}" if before else f"{name} {after}"


def split(text: str) -> tuple[str, ...]:
    """What stands between commas."""
    return tuple(one.strip() for one in text.split(",") if one.strip())


def _state(one: Interface) -> str:
    return "no_cable" if one.up and one.carrier is False else "up" if one.up else "down"


def _shown(values: Sequence[str]) -> str:
    return ", ".join(values) or "-"
