"""What the doctor says: frozen values. ``drivers.doctor`` makes them, ``drivers.doctor_json`` writes them."""

from __future__ import annotations

from dataclasses import dataclass

from drivers.compute_types import ComputeResult
from drivers.requirements import RequirementResult
from drivers.types import Finding, Layer, LayerReport, LayerState, Severity, Software, Vendor

NO_CARD = "pci_broken"
"""Code of the break of a vendor that was asked for and of which nothing is there."""
RUNTIMES = {Vendor.NVIDIA.value: ("CUDA", "cuda-driver"), Vendor.ASCEND.value: ("CANN", "cann")}
"""The runtime's name, which is also that of llama.cpp's backend for it, and its name as software."""


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """The engine that would serve: ``version`` is ``None`` when it is not installed; ``vendors`` are those whose cards
    this build can compute on, ``None`` when that is not known (another machine)."""

    name: str
    version: str | None = None
    vendors: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Break:
    """Something in the way. ``layer`` is ``None`` for what concerns no layer (a sick card), ``fix`` plain words,
    ``commands`` lines to paste, ``device`` a ``Device.key``."""

    vendor: str
    layer: Layer | None
    code: str
    message: str
    fix: str | None
    commands: tuple[str, ...] = ()
    severity: Severity = Severity.ERROR
    device: str | None = None


@dataclass(frozen=True, slots=True)
class VendorReport:
    """One vendor's chain, all seven layers in their order. ``usable`` of its ``devices`` can take work; ``breaks`` in
    the order of the layers; ``notes`` are what is only worth knowing."""

    vendor: str
    label: str
    devices: int
    usable: int
    layers: tuple[LayerReport, ...]
    breaks: tuple[Break, ...]
    notes: tuple[Finding, ...]
    requirements: tuple[RequirementResult, ...]
    serves: bool

    @property
    def runtime_label(self) -> str:
        """What the runtime is called at this vendor: CANN, CUDA."""
        return runtime_label(self.vendor)


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """The whole checklist. ``vendors`` are those of which something was seen or that were asked for; ``software`` is
    everything that was compared, ``notes`` the findings that belong to no vendor listed."""

    vendors: tuple[VendorReport, ...]
    engine: EngineFacts
    software: tuple[Software, ...]
    notes: tuple[Finding, ...]
    compute: tuple[ComputeResult, ...] | None = None

    @property
    def has_cards(self) -> bool:
        """Whether the machine has a card of any vendor, working or not, or a driver that should have found one."""
        return any(
            report.devices
            or report.layers[0].state is not LayerState.BROKEN
            or any(one.severity is Severity.ERROR and one.code != NO_CARD for one in report.breaks)
            for report in self.vendors
        )

    @property
    def serves_from_cards(self) -> bool:
        """Whether the cards of at least one vendor can serve."""
        return any(report.serves for report in self.vendors)

    @property
    def summary(self) -> str:
        """The verdict in one sentence."""
        if self.serves_from_cards:
            with_cards = " and ".join(report.label for report in self.vendors if report.serves)
            proviso = ", with an engine built for them" if self.engine.vendors is None else ""
            return f"This box can serve from its {with_cards} cards{proviso}."
        if self.has_cards:
            return "This box cannot serve from its cards: models run on the processor."
        return "No accelerator card: models run on the processor."


def runtime_label(vendor: str) -> str:
    """What the vendor's runtime is called."""
    return RUNTIMES.get(vendor, ("runtime", ""))[0]
