"""The doctor's report as lines for people. Pure: values in, lines out; colours are put on by the command."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from drivers.compute_types import ComputeResult, ComputeState
from drivers.doctor_types import Break, DoctorReport, VendorReport
from drivers.errors import printable
from drivers.requirements import RequirementResult, RequirementState
from drivers.types import Finding, Layer, LayerReport, LayerState, Severity

PLAIN_WIDTH = 80
_GAP = "   "
_LONGEST_DETAIL = 24
_MOST_ALIKE = 3
_MOST_CHARACTERS = 2000


@dataclass(frozen=True, slots=True)
class Marks:
    """Signs of the checklist; not every terminal has those of the first set."""

    states: Mapping[LayerState, str]
    error: str
    warning: str = "!"
    info: str = "i"
    unknown: str = "?"
    done: str = "ok"


SIGNS = Marks(
    states={
        LayerState.OK: "✓",
        LayerState.BROKEN: "✗",
        LayerState.WAITING: "…",
        LayerState.NOT_REACHED: "-",
        LayerState.NOT_NEEDED: "-",
        LayerState.UNKNOWN: "?",
    },
    error="✗",
    done="✓",
)
WORDS = Marks(
    states={
        LayerState.OK: "ok",
        LayerState.BROKEN: "FAIL",
        LayerState.WAITING: "wait",
        LayerState.NOT_REACHED: "-",
        LayerState.NOT_NEEDED: "-",
        LayerState.UNKNOWN: "?",
    },
    error="FAIL",
)


def report_lines(
    report: DoctorReport, *, marks: Marks = SIGNS, width: int | None = None, everything: bool = False
) -> Iterator[str]:
    """The whole checklist. ``width`` wraps sentences (never commands); ``None`` leaves each on its line. ``everything``
    names every known pair, not only those that the box serves with."""
    longest = max((len(one.label) for one in report.vendors), default=0)
    for number, vendor in enumerate(report.vendors):
        if number:
            yield ""
        yield from _chain_lines(vendor, longest, marks, width or PLAIN_WIDTH)
        yield from _vendor_lines(vendor, marks, width, everything=everything)
    if report.compute is not None:
        yield from _compute_lines(report.compute, marks, width)
    for note in report.notes:
        yield from _finding_lines(note, marks, width)
    if report.vendors or report.notes or report.compute is not None:
        yield ""
    yield from _wrapped(report.summary, width, "", "")


def fix_lines(report: DoctorReport, wanted: str) -> Iterator[str]:
    """Commands for the breaks of one layer or code (``all``: of every one), each under its cause as a comment: nothing
    but what a shell takes."""
    for vendor in report.vendors:
        chosen = [one for one in vendor.breaks if wanted in ("all", one.code) or wanted in layer_names(vendor, one)]
        for commands, alike in groupby(chosen, key=lambda one: one.commands):
            for one in alike:
                yield f"# {vendor.label}: {_text(one.message)}"
                if one.fix:
                    yield f"#   {_text(one.fix)}"
            yield from commands
            yield ""


def layer_names(vendor: VendorReport, one: Break) -> tuple[str, ...]:
    """What ``--fix`` may call the break's layer: ``runtime`` is also ``cann`` or ``cuda``."""
    if one.layer is None:
        return ("cards",)
    names = (one.layer.value,)
    return (*names, vendor.runtime_label.lower()) if one.layer is Layer.RUNTIME else names


def _chain_lines(vendor: VendorReport, longest: int, marks: Marks, width: int) -> Iterator[str]:
    margin = " " * (longest + len(_GAP))
    line = vendor.label.ljust(longest) + _GAP
    empty = True
    for report in vendor.layers:
        item = _item(vendor, report, marks)
        if not empty and len(line) + len(item) > width:
            yield line.rstrip()
            line, empty = margin, True
        line += item + _GAP
        empty = False
    yield line.rstrip()


def _item(vendor: VendorReport, report: LayerReport, marks: Marks) -> str:
    name = {Layer.PCI: "PCI", Layer.RUNTIME: vendor.runtime_label}.get(report.layer, report.layer.value)
    item = f"{name} {marks.states[report.state]}"
    detail = _text(report.detail or "").removeprefix(f"{name} ")
    if report.state in (LayerState.OK, LayerState.UNKNOWN) and detail and len(detail) <= _LONGEST_DETAIL:
        item += f" {detail}"
    return item


def _vendor_lines(vendor: VendorReport, marks: Marks, width: int | None, *, everything: bool) -> Iterator[str]:
    for _, alike in groupby(vendor.breaks, key=lambda one: (one.layer, one.code, one.fix, one.commands)):
        yield from _break_lines(vendor, list(alike), marks, width)
    cut = any(one.severity is Severity.ERROR for one in vendor.breaks)
    more = 0
    for result in vendor.requirements:
        # What is missing altogether was said by its layer.
        if result.state is RequirementState.MISSING and cut and not everything:
            continue
        quiet = not (result.blocks or everything)
        if result.state is RequirementState.SATISFIED and quiet:
            more += 1
            continue
        if result.state is RequirementState.UNKNOWN and quiet and not result.accepted:
            continue
        yield from _requirement_lines(result, marks, width)
    if more:
        pairs = "pair of versions is" if more == 1 else "pairs of versions are"
        yield f"{marks.info} {more} more {pairs} known to work: r1box doctor --all"
    for note in vendor.notes:
        yield from _finding_lines(note, marks, width)
    if vendor.serves and vendor.devices > vendor.usable:
        yield f"{marks.warning} {vendor.usable} of {vendor.devices} {vendor.label} devices can take work."


def _break_lines(vendor: VendorReport, alike: Sequence[Break], marks: Marks, width: int | None) -> Iterator[str]:
    first = alike[0]
    mark = _mark(first.severity, marks)
    for one in alike[:_MOST_ALIKE]:
        yield from _wrapped(_text(one.message), width, f"{mark} ", " " * (len(mark) + 1))
    if len(alike) > _MOST_ALIKE:
        yield f"{' ' * len(mark)} and {len(alike) - _MOST_ALIKE} more like this"
    margin = " " * (len(mark) + 1)
    if first.fix:
        yield from _wrapped(f"Fix: {_text(first.fix)}", width, margin, margin + "     ")
    for command in first.commands:
        yield f"{margin}  {command}"
    if first.commands:
        yield f"{margin}[r1box doctor --fix {layer_names(vendor, first)[-1]}]"


def _requirement_lines(result: RequirementResult, marks: Marks, width: int | None) -> Iterator[str]:
    mark = marks.error if result.broken and result.blocks else marks.warning if result.broken else marks.info
    if result.state is RequirementState.UNKNOWN:
        mark = marks.unknown
    grade = f" ({result.source.grade.value})"
    margin = " " * (len(mark) + 1)
    yield from _wrapped(_text(result.message) + grade, width, f"{mark} ", margin)
    if result.hint:
        yield from _wrapped(f"{'Fix' if result.broken else 'Next'}: {_text(result.hint)}", width, margin, margin)


def _compute_lines(results: Sequence[ComputeResult], marks: Marks, width: int | None) -> Iterator[str]:
    yield ""
    if not results:
        yield "Compute self-test: nothing to test here."
        return
    yield "Compute self-test"
    signs = {
        ComputeState.PASSED: marks.done,
        ComputeState.FAILED: marks.error,
        ComputeState.UNAVAILABLE: marks.unknown,
    }
    for result in results:
        mark = signs[result.state]
        margin = " " * (len(mark) + 1)
        where = result.device or result.name
        who = f"{result.backend}, {where}" if where else result.backend
        yield from _wrapped(f"{who}: {_text(result.message)}", width, f"{mark} ", margin)
        if result.hint:
            yield from _wrapped(f"Next: {_text(result.hint)}", width, margin, margin)


def _finding_lines(finding: Finding, marks: Marks, width: int | None) -> Iterator[str]:
    mark = _mark(finding.severity, marks)
    margin = " " * (len(mark) + 1)
    yield from _wrapped(_text(finding.message), width, f"{mark} ", margin)
    if finding.hint:
        yield from _wrapped(f"Next: {_text(finding.hint)}", width, margin, margin)


def _mark(severity: Severity, marks: Marks) -> str:
    return {Severity.ERROR: marks.error, Severity.WARNING: marks.warning, Severity.INFO: marks.info}[severity]


def _wrapped(text: str, width: int | None, first: str, rest: str) -> Iterator[str]:
    if width is None:
        yield first + text
        return
    lines = textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False, break_long_words=False
    )
    yield from lines or [first.rstrip()]


def _text(text: str) -> str:
    """What tools and files of other machines say, fit for a terminal."""
    return printable(text.replace("\n", " "))[:_MOST_CHARACTERS]
