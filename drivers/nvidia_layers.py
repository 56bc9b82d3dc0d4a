"""Which link of the way from the slot to the program is missing on a machine with NVIDIA cards. Pure.

A layer is broken when nothing gets through it: one lost card of eight does not break the bus, and is its own finding.
What rests on a broken layer and was not judged is "not reached".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from drivers.nvidia_errors import (
    DRIVER_NOT_LOADED,
    LIBRARY_NOT_FOUND,
    NO_PERMISSION,
    NOUVEAU,
    OPERATING_SYSTEM,
    SOURCE,
    VFIO,
    cuda_library_missing,
    no_permission,
    node_missing,
    uvm_missing,
)
from drivers.nvidia_ground import CONTROL_NODE, GRACE_S, UVM_NODE, NvidiaGround
from drivers.nvidia_reading import NvmlReading
from drivers.types import Finding, Layer, LayerReport, LayerState, Severity

_OPEN = (LayerState.OK, LayerState.NOT_NEEDED, LayerState.UNKNOWN)
_ACCESS_ERRORS = frozenset({NO_PERMISSION, OPERATING_SYSTEM})
_LAYERS_OF_CODES = {
    "device_lost": Layer.PCI,
    "card_passed_through": Layer.PCI,
    "nouveau_bound": Layer.MODULE,
    "driver_not_loaded": Layer.MODULE,
    "driver_missing": Layer.MODULE,
    "node_missing": Layer.NODES,
    "uvm_missing": Layer.NODES,
    "no_permission": Layer.ACCESS,
    "blocked_by_system": Layer.ACCESS,
    "driver_version_mismatch": Layer.LIBRARY,
    "interrupt_problem": Layer.LIBRARY,
    "reset_required": Layer.LIBRARY,
    "driver_unknown_error": Layer.LIBRARY,
    "library_init_failed": Layer.LIBRARY,
    "probe_failed": Layer.LIBRARY,
    "probe_timed_out": Layer.LIBRARY,
    "probe_crashed": Layer.LIBRARY,
    "card_not_answering": Layer.LIBRARY,
    "device_failed": Layer.LIBRARY,
    "no_management_library": Layer.LIBRARY,
    "cuda_library_missing": Layer.RUNTIME,
}
"""The layer that a finding explains; a missing library is one of its own when the module is there."""


@dataclass
class _Chain:
    """The reports so far, and what speaks for each. ``reached``: no layer until now is broken."""

    ground: NvidiaGround
    reading: NvmlReading
    findings: list[Finding]
    states: dict[Layer, tuple[LayerState, str | None]] = field(default_factory=dict)

    @property
    def answered(self) -> bool:
        return any(device.error is None for device in self.reading.devices)

    @property
    def error(self) -> int | None:
        return self.reading.start.error if self.reading.start is not None else None

    @property
    def reached(self) -> bool:
        return all(state in _OPEN for state, _ in self.states.values())

    def add(self, layer: Layer, state: LayerState, detail: str | None = None) -> None:
        self.states[layer] = (state, detail)

    def reports(self) -> tuple[LayerReport, ...]:
        return tuple(LayerReport(SOURCE, layer, *state, self._codes(layer)) for layer, state in self.states.items())

    def _codes(self, layer: Layer) -> tuple[str, ...]:
        return tuple(dict.fromkeys(one.code for one in self.findings if self._layer_of(one) is layer))

    def _layer_of(self, finding: Finding) -> Layer | None:
        module_stands = self.states[Layer.MODULE][0] is LayerState.OK
        if finding.code in ("driver_missing", "driver_not_loaded") and module_stands:
            return Layer.LIBRARY
        return _LAYERS_OF_CODES.get(finding.code)


def judge_layers(
    ground: NvidiaGround, reading: NvmlReading, findings: Sequence[Finding]
) -> tuple[tuple[LayerReport, ...], tuple[Finding, ...]]:
    """A report for each layer from PCI to RUNTIME, and all findings: the given ones and those of nodes, access and
    runtime. No reports where nothing but a library speaks for a card."""
    answers = any(device.error is None for device in reading.devices)
    failed = reading.start is not None and reading.start.error not in (None, LIBRARY_NOT_FOUND)
    if not (ground.has_sign or answers or (failed and ground.functions is None)):
        return (), tuple(findings)
    chain = _Chain(ground, reading, list(findings))
    _pci(chain)
    _module(chain)
    _nodes(chain)
    _access(chain)
    _library(chain)
    _runtime(chain)
    return chain.reports(), tuple(chain.findings)


def _pci(chain: _Chain) -> None:
    ground = chain.ground
    functions = ground.on_bus
    if functions:
        detail = f"{len(functions)} card{'s' if len(functions) > 1 else ''}"
        lost = sum(one.address in ground.lost and one.driver != VFIO for one in functions)
        if all(one.driver == VFIO for one in functions):
            chain.add(Layer.PCI, LayerState.BROKEN, "all cards belong to virtual machines")
        elif lost == len(functions):
            chain.add(Layer.PCI, LayerState.BROKEN, f"{detail}, none answers on the bus")
        else:
            chain.add(Layer.PCI, LayerState.OK, detail + (f", {lost} lost" if lost else ""))
    elif ground.jetson is not None:
        chain.add(Layer.PCI, LayerState.NOT_NEEDED, f"Jetson {ground.jetson.chip}")
    elif chain.answered or ground.nodes.any:
        chain.add(Layer.PCI, LayerState.NOT_NEEDED, "no card on the PCI bus, but the driver has nodes or answers")
    elif ground.functions is None:
        chain.add(Layer.PCI, LayerState.UNKNOWN, "the PCI bus cannot be read")
    else:
        chain.add(Layer.PCI, LayerState.BROKEN, "no card")


def _module(chain: _Chain) -> None:
    ground = chain.ground
    start = chain.reading.start
    if chain.answered or ground.module_loaded:
        chain.add(Layer.MODULE, LayerState.OK, ground.module_version or (start.driver_version if start else None))
    elif ground.jetson is not None:
        state = LayerState.OK if ground.jetson.driver else LayerState.UNKNOWN
        chain.add(Layer.MODULE, state, "nvgpu" if ground.jetson.driver else None)
    elif not chain.reached:
        chain.add(Layer.MODULE, LayerState.NOT_REACHED)
    elif any(one.driver == "nvidia" for one in ground.on_bus):
        chain.add(Layer.MODULE, LayerState.OK)
    elif any(one.driver == NOUVEAU for one in ground.on_bus):
        chain.add(Layer.MODULE, LayerState.BROKEN, NOUVEAU)
    elif ground.module_loaded is False or chain.error in (DRIVER_NOT_LOADED, LIBRARY_NOT_FOUND):
        chain.add(Layer.MODULE, LayerState.BROKEN, "not loaded")
    else:
        chain.add(Layer.MODULE, LayerState.UNKNOWN, "the kernel's modules cannot be listed")


def _nodes(chain: _Chain) -> None:
    ground = chain.ground
    if ground.wsl and not ground.nodes.any:
        chain.add(Layer.NODES, LayerState.NOT_NEEDED, "/dev/dxg")
    elif not ground.nodes.nodes or (ground.jetson is not None and not ground.card_nodes):
        chain.add(Layer.NODES, LayerState.UNKNOWN)
    elif not chain.reached:
        chain.add(Layer.NODES, LayerState.NOT_REACHED)
    else:
        _judge_nodes(chain)


def _judge_nodes(chain: _Chain) -> None:
    ground = chain.ground
    cards = ground.card_nodes
    missing = [] if ground.nodes.get(CONTROL_NODE).exists else [CONTROL_NODE]
    missing += [] if cards else ["/dev/nvidia0"]
    detail = f"{len(cards)} card{'s' if len(cards) != 1 else ''}"
    if missing:
        waiting = ground.nodes.starting(GRACE_S)
        if chain.error == DRIVER_NOT_LOADED:
            # What the library says to a machine or a container without its nodes.
            chain.findings = [one for one in chain.findings if one.code != "driver_not_loaded"]
        chain.findings.append(node_missing(ground, missing))
        chain.add(Layer.NODES, LayerState.WAITING if waiting else LayerState.BROKEN, f"{missing[0]} is missing")
    elif not ground.nodes.get(UVM_NODE).exists:
        finding = uvm_missing(ground)
        chain.findings.append(finding)
        broken = finding.severity is Severity.ERROR
        waiting = ground.nodes.starting(GRACE_S)
        state = LayerState.WAITING if waiting else LayerState.BROKEN
        chain.add(Layer.NODES, state if broken else LayerState.OK, f"{detail}, {UVM_NODE} is missing")
    else:
        chain.add(Layer.NODES, LayerState.OK, detail)


def _access(chain: _Chain) -> None:
    ground = chain.ground
    refused = ground.nodes.refused
    told = any(one.code == "no_permission" for one in chain.findings)
    closed = {node.path for node in refused}
    if CONTROL_NODE in closed:
        # Not loaded, the library says as well where it may not ask.
        chain.findings = [one for one in chain.findings if one.code != "driver_not_loaded"]
    if refused and not told:
        chain.findings.append(no_permission(ground))
    shut = closed & {CONTROL_NODE, UVM_NODE} or (ground.card_nodes and closed.issuperset(ground.card_nodes))
    if shut or chain.error in _ACCESS_ERRORS:
        chain.add(Layer.ACCESS, LayerState.BROKEN, refused[0].described if refused else None)
    elif ground.nodes.get(CONTROL_NODE).usable and ground.card_nodes:
        chain.add(Layer.ACCESS, LayerState.OK, f"as {ground.nodes.user}" if ground.nodes.user else None)
    elif not chain.reached:
        chain.add(Layer.ACCESS, LayerState.NOT_REACHED)
    else:
        chain.add(Layer.ACCESS, LayerState.OK if chain.answered else LayerState.UNKNOWN)


def _library(chain: _Chain) -> None:
    start = chain.reading.start
    version = f"NVML {start.library_version}" if start is not None and start.library_version else None
    if chain.error == LIBRARY_NOT_FOUND and chain.ground.jetson is not None:
        chain.add(Layer.LIBRARY, LayerState.NOT_NEEDED, "none before JetPack 6")
    elif chain.error == LIBRARY_NOT_FOUND:
        chain.add(Layer.LIBRARY, LayerState.BROKEN, "libnvidia-ml.so.1 was not found")
    elif chain.reading.complete and chain.error is None:
        everything_fails = bool(chain.reading.devices) and not chain.answered
        none_listed = not chain.reading.devices and bool(chain.ground.on_bus)
        chain.add(Layer.LIBRARY, LayerState.BROKEN if everything_fails or none_listed else LayerState.OK, version)
    elif not chain.reached and chain.error is not None:
        chain.add(Layer.LIBRARY, LayerState.NOT_REACHED, version)
    else:
        # It hangs, crashes or refuses: so will whatever else is built on it.
        chain.add(Layer.LIBRARY, LayerState.BROKEN, version)


def _runtime(chain: _Chain) -> None:
    start = chain.reading.start
    if chain.states[Layer.LIBRARY][0] is not LayerState.OK:
        unknown = chain.states[Layer.LIBRARY][0] is LayerState.NOT_NEEDED
        chain.add(Layer.RUNTIME, LayerState.UNKNOWN if unknown else LayerState.NOT_REACHED)
        return
    version = cuda_version(start.cuda_version) if start is not None else None
    detail = f"CUDA {version}" if version else None
    if chain.reading.cuda_library is False:
        chain.findings.append(cuda_library_missing(chain.ground))
        chain.add(Layer.RUNTIME, LayerState.BROKEN, "libcuda.so.1 was not found")
    elif not chain.reached:
        chain.add(Layer.RUNTIME, LayerState.NOT_REACHED, detail)
    elif version is None or chain.reading.cuda_library is None:
        chain.add(Layer.RUNTIME, LayerState.UNKNOWN, detail)
    else:
        chain.add(Layer.RUNTIME, LayerState.OK, detail)


def cuda_version(number: int | None) -> str | None:
    """``12040`` -> ``12.4``."""
    return f"{number // 1000}.{number % 1000 // 10}" if number is not None and number >= 1000 else None
