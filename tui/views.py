"""What the panels say, as values: pure functions from the daemon's bodies to styled text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from rich.cells import cell_len, set_cell_size
from textual.content import Content

from appliance.schemas.health import Readiness
from appliance.schemas.issues import Issue, IssueList
from appliance.schemas.models import ModelEntries, ModelEntry
from appliance.schemas.offload import Offload, OffloadList
from appliance.schemas.operators import ServingHistory
from appliance.schemas.telemetry import DeviceTelemetry, HostTelemetry, MonitorTelemetry, Telemetry
from tui.look import Look
from tui.plots import plot_rows
from tui.strings import Words, byte_size

HEALTH = {"ok": "$success", "warning": "$warning", "alarm": "bold $error", "critical": "bold $error"}
_OFFLOAD = {"VERIFIED": "$success", "DEGRADED": "bold $warning", "CPU": "bold $warning"}
_ENGINE = {"ready": "bold $success", "failed": "bold $error", "starting": "bold $warning"}
SEVERITY = {"error": ("x", "bold $error"), "warning": ("!", "bold $warning"), "info": ("i", "$primary")}
"""Mark and style; a mark says it without colour too."""
QUIET = "$text-muted"


@dataclass(frozen=True, slots=True)
class Drawing:
    """How to write: for which terminal, in which language."""

    look: Look
    words: Words


def engine_word(draw: Drawing, readiness: Readiness) -> Content:
    """The engine's state for the top line."""
    return Content.styled(draw.words.state("engine", readiness.state), _ENGINE.get(readiness.state, "bold"))


def model_line(
    draw: Drawing, readiness: Readiness, models: ModelEntries | None, verdicts: OffloadList | None
) -> Content:
    """The model that is served by default, where it runs and how that is known."""
    words, parts = draw.words, list[Content]()
    entries = () if models is None else models.models
    loaded = [one for one in entries if one.state != "installed"]
    entry = next((one for one in loaded if one.id == readiness.model), None)
    if readiness.model is None:
        return Content.styled(readiness.error or words("model.none"), "bold $warning")
    parts.append(Content.styled(readiness.model if entry is None else _name(words, entry), "bold"))
    if entry is not None and entry.state in ("ready", "starting"):
        parts.append(Content(_places(entry.devices) or words("model.processor")))
    if readiness.load_fraction is not None and readiness.state == "starting":
        parts.append(Content.styled(words("model.loading", percent=int(readiness.load_fraction * 100)), "$warning"))
    if readiness.state == "ready":
        parts.append(_verdict(words, readiness, verdicts))
    if readiness.restarts:
        parts.append(Content.styled(words("model.restarts", n=readiness.restarts), "$warning"))
    others = len(loaded) - (entry is not None)
    if others > 0:
        parts.append(Content(words("model.more", n=others)))
    line = Content(f" {draw.look.dot} ").join(parts)
    if readiness.error and readiness.state != "ready":
        line = Content("\n").join([line, Content.styled(readiness.error, "$error")])
    return line


def _verdict(words: Words, readiness: Readiness, verdicts: OffloadList | None) -> Content:
    found: Sequence[Offload] = () if verdicts is None else verdicts.models
    detail = next((one for one in found if one.model == readiness.model), None)
    word = readiness.offload
    text = words("offload", word=words("offload.none") if word is None else words.state("offload", word))
    if detail is not None and detail.decode_tokens_per_s is not None:
        text += ", " + words("offload.speed", rate=f"{detail.decode_tokens_per_s:.3g}")
    return Content.styled(text, _OFFLOAD.get(word or "", "$warning"))


def _places(devices: Sequence[str]) -> str:
    """``ascend 0,1`` for ``ascend:0`` and ``ascend:1``."""
    vendors: dict[str, list[str]] = {}
    for device in devices:
        vendor, _, index = device.partition(":")
        vendors.setdefault(vendor, []).append(index)
    return " ".join(f"{vendor} {','.join(indexes)}".strip() for vendor, indexes in vendors.items())


def _name(words: Words, entry: ModelEntry) -> str:
    return words("model.line", name=entry.name, quantization=entry.quantization)


def serving(draw: Drawing, models: ModelEntries, history: ServingHistory | None, *, width: int, height: int) -> Content:
    """Seats, queue, speed and the plot of an hour, over all loaded models."""
    words = draw.words
    loaded = [one for one in models.models if one.seats is not None]
    seats, running = sum(one.seats or 0 for one in loaded), sum(one.running for one in loaded)
    waiting = sum(one.waiting for one in models.models)
    default = next((one for one in loaded if one.default), loaded[0] if loaded else None)
    current = None if history is None else history.now_tokens_per_s
    rows = [
        ("serving.seats", words("serving.seats.value", running=running, seats=seats), "bold"),
        ("serving.queue", str(waiting), "bold $warning" if waiting else "bold"),
        (
            "serving.speed",
            words("serving.speed.measuring")
            if current is None
            else words("serving.speed.value", rate=f"{current:.0f}" if current >= 9.95 else f"{current:.1f}"),
            "bold",
        ),
    ]
    if default is not None and default.context_tokens is not None:
        value = words("serving.context.value", tokens=f"{default.context_tokens:,}")
        rows.insert(2, ("serving.context", value, ""))
    pad = max(cell_len(words(key)) for key, _, _ in rows) + 2
    lines = [Content.assemble((_fit(words(key), pad), QUIET), (value, style)) for key, value, style in rows]
    room = height - len(lines) - 1
    if room >= 1 and width >= 10:
        lines += _plot(draw, history, width, min(room, 12))
    return Content("\n").join(lines)


def _plot(draw: Drawing, history: ServingHistory | None, width: int, height: int) -> list[Content]:
    values = () if history is None else history.tokens_per_s[-width:]
    if history is None or all(value is None for value in values):
        return [Content.styled(draw.words("serving.plot.empty"), QUIET)]
    top = max(value for value in values if value is not None)
    minutes = round(len(values) * history.step_s / 60)
    caption = draw.words("serving.plot", minutes=minutes, top=f"{top:.3g}")
    rows = plot_rows(values, height, top, draw.look.plot)
    return [*(Content.styled(row, "$primary") for row in rows), Content.styled(_fit(caption, width), QUIET)]


def cards(draw: Drawing, telemetry: Telemetry, width: int) -> Content:
    """Every card and the host, a line each (two where one is lost or slowed)."""
    words = draw.words
    if not telemetry.enabled:
        return Content.styled(words("cards.off"), "$warning")
    lines: list[Content] = []
    label = max((cell_len(_label(one)) for one in telemetry.devices), default=0)
    health = max((cell_len(words.state("health", one.health)) for one in telemetry.devices), default=0)
    label = min(max(label, cell_len(words("cards.host")) + 1), max(width - 36, 8)) + 1
    for device in telemetry.devices:
        lines += _device(draw, device, label, width - health)
    if not telemetry.devices:
        lines += _silence(draw, telemetry.monitors)
    if telemetry.host is not None:
        lines += _host(draw, telemetry.host, label, width - health)
    return Content("\n").join(lines)


def _silence(draw: Drawing, monitors: tuple[MonitorTelemetry, ...]) -> list[Content]:
    failed = [one for one in monitors if one.state == "failed"]
    if not failed:
        return [Content.styled(draw.words("cards.none"), QUIET)]
    return [
        Content.styled(draw.words("cards.unavailable", name=one.name, reason=one.reason or one.code or ""), "$error")
        for one in failed
    ]


def _label(device: DeviceTelemetry) -> str:
    place = device.key if device.index is None else str(device.index)
    return f"{place} {device.chip or device.name or device.vendor}"


def _device(draw: Drawing, device: DeviceTelemetry, label: int, width: int) -> list[Content]:
    """``width`` is that of everything but the health."""
    words = draw.words
    name = _fit(_label(device), label)
    if device.state != "present":
        word = words(f"cards.{device.state}")
        style = "bold $error" if device.state == "lost" else "$warning"
        lines = [Content.assemble((name, style), (word, style))]
        if device.problem:
            lines.append(Content.styled(f"  {device.problem}", QUIET))
        return lines
    figures = [
        _figure(device.utilization_percent, "%", 4, draw),
        _figure(device.temperature_celsius, "C", 4, draw),
        _figure(device.power_watts, "W", 5, draw),
    ]
    health = Content.styled(words.state("health", device.health), HEALTH.get(device.health, QUIET))
    memory = _memory(draw, device.memory_used_bytes, device.memory_total_bytes, width - label - 17)
    lines = [Content.assemble(name, memory, "".join(figures), " ", health)]
    if device.throttle_reasons:
        reasons = ", ".join(device.throttle_reasons)
        lines.append(Content.styled(f"  {words('cards.throttled', reasons=reasons)}", "$warning"))
    return lines


def _host(draw: Drawing, host: HostTelemetry, label: int, width: int) -> list[Content]:
    memory = _memory(draw, host.memory_used_bytes, host.memory_total_bytes, width - label - 17)
    figures = _figure(host.cpu_percent, "%", 4, draw) + _figure(host.cpu_temperature_celsius, "C", 4, draw)
    lines = [Content.assemble(_fit(draw.words("cards.host"), label), memory, figures)]
    if host.disk_free_bytes is not None:
        lines.append(
            Content.styled(" " * label + draw.words("cards.disk", free=byte_size(host.disk_free_bytes)), QUIET)
        )
    return lines


def _figure(value: float | None, unit: str, width: int, draw: Drawing) -> str:
    text = draw.look.dash if value is None else f"{value:.0f}{unit}"
    return f" {text:>{width}}"


def _memory(draw: Drawing, used: int | None, total: int | None, room: int) -> Content:
    """A bar where there is room for one, and "used/total" in GiB; always as wide."""
    text = draw.look.dash if used is None else byte_size(used)
    text = f"{text}/{draw.look.dash if total is None else byte_size(total)}G"
    # A terabyte of memory has nine characters, used and total.
    cells = min(max(room - 10, 0), 40)
    if cells < 4:
        return Content(f"{text:>10}")
    filled = 0 if not used or not total else max(round(min(used / total, 1.0) * cells), 1)
    empty, full = draw.look.bar[0], draw.look.bar[1]
    return Content.assemble((full * filled, "$primary"), (empty * (cells - filled), QUIET), f" {text:>9}")


def attention(draw: Drawing, issues: IssueList) -> Content:
    """The gravest issues and where their buttons are."""
    if not issues.issues:
        return Content.styled(draw.words("attention.none"), "$success")
    lines = [issue_line(one) for one in issues.issues]
    return Content("\n").join([Content.styled(draw.words("attention.open"), QUIET), *lines])


def issue_line(issue: Issue) -> Content:
    """Mark and message."""
    mark, style = SEVERITY[issue.severity]
    return Content.assemble((f"{mark} ", style), issue.message)


def issue_detail(draw: Drawing, issue: Issue, now: datetime) -> Content:
    """All that is known of an issue."""
    words = draw.words
    mark, style = SEVERITY[issue.severity]
    since = words("issues.since", age=words.age((now - issue.since).total_seconds()))
    facts = [issue.code, *([issue.subject] if issue.subject else []), since]
    parts = [
        Content.styled(f"{mark} {words(f'severity.{issue.severity}')}", style),
        Content(issue.message),
    ]
    if issue.hint:
        parts.append(Content.assemble((f"{words('issues.next')}: ", "bold"), issue.hint))
    parts.append(Content.styled(f" {draw.look.dot} ".join(facts), QUIET))
    return Content("\n").join(parts)


def shorten(content: Content, width: int, mark: str) -> Content:
    """As much as there is room for; ``mark`` ends what is longer."""
    if content.cell_length <= width:
        return content
    return Content.assemble(content.truncate(max(width - 1, 0)), mark)


def _fit(text: str, width: int) -> str:
    return set_cell_size(text, width)
