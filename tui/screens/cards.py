"""The cards: how each is, what it did in the last hour, who uses it, what it reaches, and the doctor's checklist."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from textual.content import Content

from appliance.schemas.jobs import DoctorWish, Job
from appliance.schemas.telemetry import DeviceTelemetry, Hardware, HistorySeries, Telemetry, TelemetryHistory
from tui.client import Problem
from tui.figures import bar, size
from tui.plots import plot_rows
from tui.resource import Resource, known
from tui.screens.base import Keys, quiet
from tui.screens.jobs import ENDED, doctor_report
from tui.screens.listed import ListScreen
from tui.views import HEALTH
from tui.widgets.details import blocks, bullets, facts, heading
from tui.widgets.dialogs import TextDialog
from tui.widgets.panel import Panel
from tui.widgets.table import Column

_JOB_POLL_S = 0.5
_PLOTS = (
    ("utilization_percent", 100.0, "%"),
    ("memory_used_bytes", None, "GiB"),
    ("temperature_celsius", 100.0, "C"),
    ("power_watts", None, "W"),
)
"""(field, top of the plot; None: the highest there was)."""


class CardsScreen(ListScreen):
    """All devices that telemetry knows; of the chosen one everything."""

    NAME = "cards"
    FILTERS = False
    KEYS: ClassVar[Keys] = (
        ("d", "doctor", "screen.doctor"),
        ("f", "find_cards", "screen.find"),
        ("p", "topology", "screen.topology"),
    )

    def resource(self) -> Resource[Telemetry]:
        """What the monitors told."""
        return self.box.telemetry

    def feeds(self) -> tuple[Resource[object], ...]:
        """With the hour of the chosen card, and what detection found."""
        return (self.box.telemetry, self.box.hardware, self.box.history)  # type: ignore[return-value]

    def rows(self, value: Telemetry) -> Sequence[DeviceTelemetry]:
        """As the daemon has them."""
        return value.devices

    @staticmethod
    def key(row: DeviceTelemetry) -> object:
        """The device's."""
        return row.key

    def columns(self) -> tuple[Column, ...]:
        """One line says how it is."""
        words = self.drawing.words
        return (
            Column(words("col.card"), lambda one: one.key, 14),
            Column(words("col.chip"), lambda one: one.chip or one.name or "", share=1, least=8),
            Column(words("col.memory"), self._memory, 21, rank=2),
            Column(words("col.use"), lambda one: _figure(one.utilization_percent, "%"), 5, right=True),
            Column(words("col.temperature"), lambda one: _figure(one.temperature_celsius, "C"), 5, right=True),
            Column(words("col.power"), lambda one: _figure(one.power_watts, "W"), 6, right=True, rank=1),
            Column(words("col.health"), self._health, 9),
        )

    def list_title(self, value: Telemetry | None, count: int) -> str:
        """How many there are."""
        return self.drawing.words("cards.list", n="?" if value is None else count)

    def _health(self, one: DeviceTelemetry) -> Content:
        words = self.drawing.words
        if one.state != "present":
            return Content.styled(words(f"cards.{one.state}"), "bold $error" if one.state == "lost" else "$warning")
        return Content.styled(words.state("health", one.health), HEALTH.get(one.health, "$text-muted"))

    def _memory(self, one: DeviceTelemetry) -> Content:
        if one.memory_used_bytes is None or not one.memory_total_bytes:
            return Content(self.drawing.look.dash)
        cells = bar(self.drawing, one.memory_used_bytes / one.memory_total_bytes, 8)
        used, total = one.memory_used_bytes / 2**30, one.memory_total_bytes / 2**30
        return Content.assemble(cells, f" {used:.0f}/{total:.0f} GiB")

    def empty(self) -> Content:
        """Why there are none."""
        words, told = self.drawing.words, known(self.box.telemetry.state())
        if told is not None and not told.enabled:
            return Content.styled(words("cards.off"), "$warning")
        failed = [] if told is None else [one for one in told.monitors if one.state == "failed"]
        if failed:
            reasons = [words("cards.unavailable", name=one.name, reason=one.reason or one.code or "") for one in failed]
            return blocks(bullets("x", "bold $error", reasons), quiet(words("cards.doctor")))
        return blocks(quiet(words("cards.none")), quiet(words("cards.doctor")))

    def paint(self) -> None:
        """Table, detail; the hour of another card is asked for when one is chosen."""
        super().paint()
        row = self.chosen if self.can_draw else None
        if row is not None and row.key != self.box.card:
            self.box.card = row.key
            self.box.history.wake()

    def detail(self, row: DeviceTelemetry) -> Content:
        """Now, the last hour, and what detection knows."""
        words = self.drawing.words
        hardware = known(self.box.hardware.state())
        device = None if hardware is None else device_of(hardware, row.key)
        head = facts(
            [
                (words("col.card"), Content.styled(f"{row.key}  {row.chip or row.name or ''}", "bold")),
                (words("col.health"), self._health(row)),
                ("", None if row.problem is None else Content.styled(row.problem, "$error")),
                (words("col.memory"), self._memory(row)),
                (words("col.use"), _known(row.utilization_percent, "%")),
                (words("col.temperature"), _known(row.temperature_celsius, "C")),
                (words("col.power"), _power(row, device)),
                (words("cards.clock"), _known(row.clock_mhz, " MHz")),
                (words("cards.slowed"), Content.styled(", ".join(row.throttle_reasons), "$warning")),
            ]
        )
        return blocks(head, self._plots(row), None if device is None else self._found(device, hardware))

    def _plots(self, row: DeviceTelemetry) -> Content | None:
        history = known(self.box.history.state())
        if history is None:
            return None
        series = {one.field: one for one in history.series if one.subject == row.key}
        size_now = self.query_one("#detail", Panel).scrollable_content_region
        width = max(size_now.width, 30)
        if size_now.height >= 30 and width >= 60:
            half = (width - 4) // 2
            made = [self._plot(series.get(name), name, top, unit, half, 6, history) for name, top, unit in _PLOTS]
            return Content("\n\n").join([_beside(made[0], made[1], half), _beside(made[2], made[3], half)])
        made = [self._plot(series.get(name), name, top, unit, width, 2, history) for name, top, unit in _PLOTS]
        return Content("\n").join([line for one in made for line in one])

    def _plot(
        self,
        series: HistorySeries | None,
        name: str,
        top: float | None,
        unit: str,
        width: int,
        height: int,
        history: TelemetryHistory,
    ) -> list[Content]:
        words = self.drawing.words
        values = [] if series is None else _columns(series.maximum, width)
        scale = 2**30 if unit == "GiB" else 1
        highest = max((value for value in values if value is not None), default=None)
        caption = words(f"cards.plot.{name}", minutes=round(history.buckets * history.step_s / 60))
        if highest is None:
            return [quiet(f"{caption}: {self.drawing.look.dash}")]
        head = f"{caption}, {words('cards.plot.top')} {highest / scale:.0f} {unit}"
        rows = plot_rows(values, height, max(top or 0, highest), self.drawing.look.plot)
        return [quiet(head[:width]), *(Content.styled(one, "$primary") for one in rows)]

    def _found(self, device: Mapping[str, Any], hardware: Hardware | None) -> Content:
        """Programs, links, versions, faults."""
        words = self.drawing.words
        parts: list[Content | None] = []
        processes = [
            f"{one['pid']} {one.get('name') or '?'}  {size(one.get('memory_bytes')) or ''}"
            for one in device.get("processes") or ()
        ]
        none = quiet(words("cards.processes.none"))
        listed = bullets("-", "$text-muted", processes) if processes else none
        parts.append(Content("\n").join([heading(words("cards.processes")), listed]))
        links = [_link(one) for one in device.get("links") or ()]
        if links:
            parts.append(Content("\n").join([heading(words("cards.links")), bullets("-", "$text-muted", links)]))
        faults = [f"{one['code']}: {one.get('meaning') or '?'}" for one in device.get("faults") or ()]
        if faults:
            parts.append(bullets("x", "bold $error", faults))
        parts.append(
            facts(
                [
                    (words("cards.driver"), device.get("driver_version")),
                    (words("cards.firmware"), device.get("firmware_version")),
                    ("PCI", device.get("pci_address")),
                    ("NUMA", _text(device.get("numa_node"))),
                    ("UUID", device.get("uuid")),
                    (words("cards.node"), device.get("node")),
                    (words("cards.kind"), device.get("memory_kind")),
                    (words("cards.compute"), device.get("compute_capability")),
                ]
            )
        )
        found = [] if hardware is None else hardware.snapshot.get("findings", ())
        mine = [one for one in found if one.get("device") == device_key(device)]
        parts += [
            Content("\n").join(
                [Content.assemble(("! ", "$warning"), str(one.get("message"))), quiet(f"  {one.get('hint') or ''}")]
            )
            for one in mine
        ]
        return blocks(*parts)

    # -- what an operator does --------------------------------------------------------------------------------------

    def action_find(self) -> None:
        """Look for cards anew."""
        words = self.drawing.words

        async def find() -> Hardware | Problem:
            return await self.box.client.send("POST", "/api/admin/hardware/refresh", Hardware)

        def done(found: Hardware) -> str:
            self.box.hardware.put(found)
            return words("cards.found", n=len(found.snapshot.get("devices", ())), seconds=f"{found.duration_s:.1f}")

        self.act(words("cards.finding"), find, done)

    def action_doctor(self) -> None:
        """Have the doctor look, and show its checklist."""
        words = self.drawing.words

        async def examine() -> Job | Problem:
            job = await self.box.submit(DoctorWish())
            while not isinstance(job, Problem) and job.state not in ENDED:
                await asyncio.sleep(_JOB_POLL_S)
                job = await self.box.client.get(f"/api/admin/jobs/{job.id}", Job)
            return job

        def show(job: Job) -> None:
            if job.result is not None:
                report = doctor_report(self.drawing, job.result)
                self.app.push_screen(TextDialog(self.drawing, words("cards.doctor.title"), report))

        def done(job: Job) -> str:
            return words("cards.doctor.done") if job.error is None else job.error.message

        self.act(words("cards.doctor.looking"), examine, done, show)

    def action_topology(self) -> None:
        """What reaches what, as a table."""
        words, hardware = self.drawing.words, known(self.box.hardware.state())
        if hardware is None:
            self.tell(words("panel.loading.text"))
            return
        text = topology(hardware, words("cards.topology.none"))
        self.app.push_screen(TextDialog(self.drawing, words("cards.topology"), text))


def device_key(device: Mapping[str, Any]) -> str:
    """The name of a device of a snapshot, as the daemon makes it."""
    vendor, card, chip, index = (device.get(name) for name in ("vendor", "card_id", "chip_id", "index"))
    if card is not None:
        return f"{vendor}:{card}" + ("" if chip is None else f".{chip}")
    return f"{vendor}:{index}" if index is not None else f"{vendor}:{device.get('pci_address') or '?'}"


def device_of(hardware: Hardware, key: str) -> Mapping[str, Any] | None:
    """The device of that name in the last detection."""
    return next((one for one in hardware.snapshot.get("devices", ()) if device_key(one) == key), None)


def topology(hardware: Hardware, none: str) -> Content:
    """A matrix of links, as vendors' tools print it."""
    devices = list(hardware.snapshot.get("devices", ()))
    keys = [device_key(one) for one in devices]
    if not any(one.get("links") for one in devices):
        return quiet(none)
    pad = max(len(key) for key in keys) + 2
    lines = [quiet(" " * pad + "".join(f"{key:>{pad}}" for key in keys))]
    for device, key in zip(devices, keys, strict=True):
        ways = {one["peer"]: _way(one) for one in device.get("links") or ()}
        cells = "".join(f"{'-' if other == key else ways.get(other, '?'):>{pad}}" for other in keys)
        numa = device.get("numa_node")
        lines.append(Content(f"{key:<{pad}}{cells}" + ("" if numa is None else f"   NUMA {numa}")))
    return Content("\n").join(lines)


def _way(link: Mapping[str, Any]) -> str:
    lanes = link.get("lanes")
    return str(link.get("kind")) + ("" if lanes is None else f" x{lanes}")


def _link(link: Mapping[str, Any]) -> str:
    return f"{link.get('peer')}  {_way(link)}"


def _columns(values: Sequence[float | None], width: int) -> list[float | None]:
    """The newest values, stretched where there is more room than values."""
    times = max(width // max(len(values), 1), 1)
    return [value for value in values for _ in range(times)][-width:]


def _beside(left: list[Content], right: list[Content], width: int) -> Content:
    lines = []
    for place in range(max(len(left), len(right))):
        one = left[place] if place < len(left) else Content("")
        other = right[place] if place < len(right) else Content("")
        lines.append(Content.assemble(one, " " * max(width - one.cell_length, 0), "    ", other))
    return Content("\n").join(lines)


def _figure(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.0f}{unit}"


def _known(value: float | None, unit: str) -> str | None:
    return None if value is None else f"{value:.0f}{unit}"


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _power(row: DeviceTelemetry, device: Mapping[str, Any] | None) -> str | None:
    limit = None if device is None else device.get("power_limit_watts")
    told = _known(row.power_watts, "W")
    return f"{told or '-'} / {limit:.0f}W" if limit else told
