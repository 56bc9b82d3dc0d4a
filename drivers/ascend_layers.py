"""Which link of the way from the slot to the program is missing on an Ascend machine: judged purely, told with a fix.

Layers rest on one another, so only the first broken one is explained; what lies behind it is "not reached". When the
driver's library fails, its code alone does not tell a missing permission from a card in use (-8005 is printed for
both): the bus, the module, the nodes and their owner are looked at first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from drivers.ascend_errors import (
    SOURCE,
    cann_missing,
    driver_incomplete,
    driver_missing,
    driver_not_loaded,
    no_card,
    no_permission,
    node_missing,
    passed_through,
)
from drivers.ascend_ground import GRACE_S, Ground
from drivers.ascend_install import CANN, DRIVER
from drivers.types import Finding, Layer, LayerReport, LayerState, Severity

_DRIVER_LINK = "devdrv_device_driver"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of asking the library. ``answered``: at least one chip. ``said`` is the failure in a few words, to be
    put before the cause that the ground shows; ``findings`` say why there is no answer when the ground shows none."""

    answered: bool = False
    detail: str | None = None
    said: str | None = None
    installed: bool = False
    findings: tuple[Finding, ...] = ()


@dataclass
class _Chain:
    """The reports so far. ``open``: every layer until now stands."""

    reports: list[LayerReport] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    open: bool = True

    def add(self, layer: Layer, state: LayerState, detail: str | None = None, findings: Sequence[Finding] = ()) -> None:
        codes = tuple(dict.fromkeys(finding.code for finding in findings))
        self.reports.append(LayerReport(SOURCE, layer, state, detail, codes))
        self.findings += findings
        self.open &= state not in (LayerState.BROKEN, LayerState.WAITING, LayerState.NOT_REACHED)


def judge_layers(ground: Ground, answer: Answer) -> tuple[tuple[LayerReport, ...], tuple[Finding, ...]]:
    """One report for each layer from PCI to RUNTIME, and the findings that explain those that do not stand."""
    chain = _Chain()
    _pci(chain, ground, answer)
    _module(chain, ground, answer)
    _nodes(chain, ground, answer)
    _access(chain, ground, answer)
    _library(chain, answer)
    _runtime(chain, ground, answer)
    return tuple(chain.reports), tuple(chain.findings)


def _pci(chain: _Chain, ground: Ground, answer: Answer) -> None:
    through = [passed_through(function) for function in ground.passed_through]
    if ground.cards:
        cards, chips = len(ground.cards), ground.chips
        detail = f"{cards} card{'s' if cards > 1 else ''}" + (f", {chips} chips" if chips > cards else "")
        chain.add(Layer.PCI, LayerState.OK, detail)
    elif answer.answered or ground.nodes.any:
        # A 310B as system-on-chip and a 950 on a UB server are on no PCI bus; a container may not see the bus.
        chain.add(Layer.PCI, LayerState.NOT_NEEDED, "no card on the PCI bus, but the driver has nodes or answers")
    elif ground.passed_through:
        chain.add(Layer.PCI, LayerState.BROKEN, "all cards belong to virtual machines", through)
        return
    elif ground.functions is None:
        chain.add(Layer.PCI, LayerState.UNKNOWN, "the PCI bus cannot be read")
    else:
        chain.add(Layer.PCI, LayerState.BROKEN, "no card", [no_card(ground, answer.said)])
    chain.findings += through


def _module(chain: _Chain, ground: Ground, answer: Answer) -> None:
    if not chain.open:
        chain.add(Layer.MODULE, LayerState.NOT_REACHED)
        return
    bound = any(function.driver == _DRIVER_LINK for function in ground.cards)
    if answer.answered or bound or ground.nodes.any or ground.install.modules:
        version = ground.install.version(DRIVER)
        chain.add(Layer.MODULE, LayerState.OK, version)
        chain.findings += [driver_incomplete()] if ground.install.complete is False else []
    elif not ground.cards and ground.install.modules is None:
        chain.add(Layer.MODULE, LayerState.UNKNOWN, "the kernel's modules cannot be listed")
    elif not answer.installed and ground.install.version(DRIVER) is None:
        chain.add(Layer.MODULE, LayerState.BROKEN, "not installed", [driver_missing(ground, answer.said)])
    else:
        chain.add(Layer.MODULE, LayerState.BROKEN, "not loaded", [driver_not_loaded(ground, answer.said)])


def _nodes(chain: _Chain, ground: Ground, answer: Answer) -> None:
    if not chain.open:
        chain.add(Layer.NODES, LayerState.NOT_REACHED)
        return
    missing = [node.path for node in ground.nodes.missing]
    chips = len(ground.chip_nodes)
    if chips == 0:
        missing.insert(0, "/dev/davinci0")
    if not missing:
        detail = f"{chips} chip{'s' if chips != 1 else ''}"
        if ground.chips > chips:
            detail += f" of {ground.chips}"
        chain.add(Layer.NODES, LayerState.OK, detail)
        return
    state = LayerState.WAITING if ground.nodes.starting(GRACE_S) else LayerState.BROKEN
    waiting = state is LayerState.WAITING
    finding = node_missing(ground, missing, answer.said, waiting=waiting)
    chain.add(Layer.NODES, state, f"{missing[0]} is missing", [finding])


def _access(chain: _Chain, ground: Ground, answer: Answer) -> None:
    refused = ground.nodes.refused
    others = {node.path for node in refused} < set(ground.chip_nodes)
    if refused and answer.answered and others:
        # Cards of somebody else beside cards that may be used.
        finding = no_permission(ground, refused, None, waiting=ground.nodes.starting(GRACE_S))
        chain.add(Layer.ACCESS, LayerState.OK, f"{len(ground.chip_nodes) - len(refused)} of {len(ground.chip_nodes)}")
        chain.findings.append(replace(finding, severity=Severity.WARNING))
    elif refused and (chain.open or answer.answered):
        waiting = ground.nodes.starting(GRACE_S)
        finding = no_permission(ground, refused, answer.said, waiting=waiting)
        chain.add(Layer.ACCESS, LayerState.WAITING if waiting else LayerState.BROKEN, refused[0].described, [finding])
    elif not chain.open:
        chain.add(Layer.ACCESS, LayerState.NOT_REACHED)
    else:
        chain.add(Layer.ACCESS, LayerState.OK, f"as {ground.nodes.user}" if ground.nodes.user else None)


def _library(chain: _Chain, answer: Answer) -> None:
    if answer.answered:
        chain.add(Layer.LIBRARY, LayerState.OK, answer.detail)
        chain.findings += answer.findings
    elif not chain.open:
        # The cause was told; what only says "no answer" again is left out.
        told = [finding for finding in answer.findings if finding.code in _ALWAYS_TOLD]
        chain.add(Layer.LIBRARY, LayerState.NOT_REACHED, None, told)
    else:
        chain.add(Layer.LIBRARY, LayerState.BROKEN, answer.detail, answer.findings)


_ALWAYS_TOLD = frozenset({"probe_timed_out", "probe_crashed"})
"""A library or tool that hangs or crashes is news even where a link before it is missing."""


def _runtime(chain: _Chain, ground: Ground, answer: Answer) -> None:
    versions = list(dict.fromkeys(part.version for part in ground.install.software if part.name == CANN))
    if versions:
        chain.add(Layer.RUNTIME, LayerState.OK, "CANN " + ", ".join(versions[:3]))
    elif not answer.answered:
        chain.add(Layer.RUNTIME, LayerState.NOT_REACHED)
    else:
        chain.add(Layer.RUNTIME, LayerState.BROKEN, "no CANN", [cann_missing(ground)])
