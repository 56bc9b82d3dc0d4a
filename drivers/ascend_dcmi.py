"""What the DCMI child read, judged: chips as devices, those without an answer apart, topology as links. Pure.

Units and words: ``drivers.dcmi_reading``. A chip is named by (card_id, chip_id) as npu-smi names it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from drivers.ascend_device_errors import query_failed
from drivers.ascend_errors import NO_FUNCTION, NOT_SUPPORTED
from drivers.ascend_faults import code_text, faults
from drivers.dcmi_reading import DcmiChip, DcmiChipSample, DcmiEcc, DcmiReading, DcmiStart
from drivers.errors import printable
from drivers.npu_smi import chip_name
from drivers.pci import normalize_address
from drivers.types import (
    Device,
    DeviceLayers,
    DeviceLink,
    DeviceProcess,
    DeviceSample,
    Finding,
    Health,
    LayerState,
    LinkKind,
    MemoryErrors,
    Vendor,
)

ABSENT = 0xFFFFFFFF
"""Health of a chip that is gone."""
ABSENT_CODE = -8008
TIMED_OUT_CODE = -8006

_MB = 1 << 20
_MAX_MB = 1 << 30
_MAX_NUMBER = 1 << 16
"""More than any machine has chips, and more MHz than any chip: what an unset value would be."""
_HEALTH = {0: Health.OK, 1: Health.WARNING, 2: Health.ALARM, 3: Health.CRITICAL}
_BENIGN = frozenset({NOT_SUPPORTED, NO_FUNCTION, -8013})
"""The chip or this library has no such figure, or not in a container."""
_UNIMPORTANT = frozenset({"error_texts", "cpu_affinity", "type", "chips"})
_FIELDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "power_watts": ("power",),
        "temperature_celsius": ("temperature",),
        "utilization_percent": ("aicore", "npu"),
        "clock_mhz": ("aicore_mhz",),
        "memory_total_bytes": ("hbm", "ddr"),
        "memory_clock_mhz": ("hbm",),
        "memory_errors": ("ecc_hbm", "ecc_ddr"),
        "firmware_version": ("firmware",),
        "processes": ("processes",),
        "links": ("topology",),
        "faults": ("error_codes",),
        "pci_address": ("pci",),
        "health": ("health",),
    }
)
"""Fields of a device by the child's words: a field is unsupported when all its words are."""
_LINKS: Mapping[int, LinkKind] = MappingProxyType(
    {1: LinkKind.SYS, 2: LinkKind.PHB, 3: LinkKind.HCCS, 4: LinkKind.PXB, 5: LinkKind.PIX}
)
_LATER_LINKS: Mapping[str, Mapping[int, LinkKind]] = MappingProxyType(
    {
        "910C": {6: LinkKind.SIO, 7: LinkKind.HCCS_SW},
        "950": {6: LinkKind.SIO, 7: LinkKind.HCCS_SW, 8: LinkKind.UB},
    }
)
"""Numbers that mean "unknown" in the header of an older generation and a link in that of a newer one."""


@dataclass(frozen=True, slots=True)
class Chips:
    """``devices`` answer; ``silent`` are listed and do not, with DCMI's code (``None``: the child had ended before)."""

    devices: tuple[Device, ...] = ()
    silent: tuple[tuple[Device, int | None], ...] = ()
    findings: tuple[Finding, ...] = ()


def interpret_chips(reading: DcmiReading, *, timed_out: bool = False) -> Chips:
    """Devices of a reading. With ``timed_out`` the first chip listed but not printed is the one that hangs."""
    start = reading.start or DcmiStart()
    devices: list[Device] = []
    silent: list[tuple[Device, int | None]] = []
    findings: list[Finding] = []
    for chip in reading.chips:
        device = device_of(chip, start)
        if any(device.key == other.key for other in [*devices, *(one for one, _ in silent)]):
            continue
        code = chip.error if chip.error is not None else ABSENT_CODE if chip.health == ABSENT else None
        if code is not None:
            silent.append((_broken(device), code))
            continue
        devices.append(device)
        failed = {word: code for word, code in chip.errors.items() if code not in _BENIGN and word not in _UNIMPORTANT}
        if failed:
            findings.append(query_failed(device, failed))
    if not reading.complete:
        printed = {_place(chip.card_id, chip.device_id) for chip in reading.chips}
        unread = [place for place in dict.fromkeys(start.listed) if place not in printed]
        for number, place in enumerate(unread):
            unread_device = _unread(place, start)
            if unread_device is not None:
                code = TIMED_OUT_CODE if timed_out and number == 0 else None
                silent.append((unread_device, code))
    named = _third_generation(power_once(devices))
    return Chips(_linked(named, reading.chips), tuple(silent), tuple(findings))


def device_of(chip: DcmiChip, start: DcmiStart) -> Device:
    """One chip as a device, without its links."""
    raw = printable(chip.chip_name or chip.npu_name or "").strip() or None
    short = None if raw is None else chip_name(raw, has_phy_id=(chip.npu_name or "").startswith(("93", "910_93")))
    kind, total, free = _memory(chip.hbm_total_mb, chip.hbm_used_mb, chip.ddr_total_mb, chip.ddr_available_mb)
    ecc = chip.ecc_ddr if kind == "ddr" else chip.ecc_hbm or chip.ecc_ddr
    return Device(
        vendor=Vendor.ASCEND,
        index=_number(chip.logic_id),
        name=f"Ascend {short}" if short else raw or "Ascend",
        chip=short,
        card_id=chip.card_id,
        chip_id=chip.device_id,
        pci_address=_address(chip.pci_address),
        memory_kind=kind,
        memory_total_bytes=total,
        memory_free_bytes=free,
        health=_HEALTH.get(chip.health if chip.health is not None else -1, Health.UNKNOWN),
        utilization_percent=_utilization(chip.aicore_percent, chip.npu_percent),
        temperature_celsius=_within(chip.temperature_celsius, -60, 200),
        power_watts=_power(chip.power_deciwatts),
        driver_version=start.driver_version,
        node=None if _number(chip.phy_id) is None else f"/dev/davinci{chip.phy_id}",
        layers=DeviceLayers(library=LayerState.OK),
        firmware_version=chip.firmware_version,
        clock_mhz=_number(chip.aicore_mhz) or None,
        memory_clock_mhz=_number(chip.hbm_mhz) or None,
        faults=faults((code_text(code) for code in chip.error_codes), _texts(chip.error_texts)),
        memory_errors=_memory_errors(ecc),
        processes=tuple(DeviceProcess(one.pid, memory_bytes=one.memory_bytes) for one in chip.processes or ()),
        unsupported=_unsupported(chip.errors),
    )


def sample_of(chip: DcmiChipSample) -> DeviceSample:
    """One chip of a sample; its key is the ``Device.key`` of the same chip."""
    key = Device(Vendor.ASCEND, None, "", card_id=chip.card_id, chip_id=chip.device_id).key
    code = chip.error if chip.error is not None else ABSENT_CODE if chip.health == ABSENT else None
    if code is not None:
        return DeviceSample(key, problem=f"the driver gives no answer (DCMI {code})")
    _, total, free = _memory(chip.hbm_total_mb, chip.hbm_used_mb, chip.ddr_total_mb, chip.ddr_available_mb)
    return DeviceSample(
        key,
        health=_HEALTH.get(chip.health if chip.health is not None else -1, Health.UNKNOWN),
        utilization_percent=_utilization(chip.aicore_percent, chip.npu_percent),
        memory_used_bytes=None if total is None or free is None else total - free,
        memory_total_bytes=total,
        temperature_celsius=_within(chip.temperature_celsius, -60, 200),
        power_watts=_power(chip.power_deciwatts),
        clock_mhz=_number(chip.aicore_mhz) or None,
    )


def samples_of(chips: Sequence[DcmiChipSample]) -> tuple[DeviceSample, ...]:
    """All chips of a sample; the power of a card stands on its first chip that has one."""
    told: set[int] = set()
    samples: list[DeviceSample] = []
    for chip in chips:
        sample = sample_of(chip)
        if sample.power_watts is not None and chip.card_id in told:
            sample = replace(sample, power_watts=None)
        elif sample.power_watts is not None:
            told.add(chip.card_id)
        samples.append(sample)
    return tuple(samples)


def power_once(devices: Iterable[Device]) -> tuple[Device, ...]:
    """Power belongs to the card, and drivers tell it for each of its chips: it is kept on the first that has it."""
    told: set[int | None] = set()
    kept: list[Device] = []
    for device in devices:
        if device.power_watts is not None and device.card_id in told:
            device = replace(device, power_watts=None)
        elif device.power_watts is not None:
            told.add(device.card_id)
        kept.append(device)
    return tuple(kept)


def _third_generation(devices: tuple[Device, ...]) -> tuple[Device, ...]:
    """A plain 910 that shares its card with another chip: only the A3 has two dies with HBM."""
    cards = [device.card_id for device in devices]
    return tuple(
        replace(device, chip="910C", name="Ascend 910C")
        if device.chip == "910" and device.memory_kind == "hbm" and cards.count(device.card_id) > 1
        else device
        for device in devices
    )


def _linked(devices: tuple[Device, ...], chips: Sequence[DcmiChip]) -> tuple[Device, ...]:
    """Each pair is asked once; the way leads in both directions."""
    by_place = {_place(device.card_id, device.chip_id): device for device in devices}
    links: dict[str, list[DeviceLink]] = {device.key: [] for device in devices}
    for chip in chips:
        one = by_place.get(_place(chip.card_id, chip.device_id))
        for place, number in chip.topology.items():
            other = by_place.get(place)
            kind = None if one is None or other is None else _link(number, one, other)
            if one is not None and other is not None and kind is not None and one is not other:
                links[one.key].append(DeviceLink(other.key, kind))
                links[other.key].append(DeviceLink(one.key, kind))
    return tuple(replace(device, links=_ordered(links[device.key])) for device in devices)


def _ordered(links: Iterable[DeviceLink]) -> tuple[DeviceLink, ...]:
    """Fastest first, each peer once."""
    first = {link.peer: link for link in links}
    order = list(LinkKind)
    return tuple(sorted(first.values(), key=lambda link: order.index(link.kind)))


def _link(number: int, one: Device, other: Device) -> LinkKind | None:
    later: Mapping[int, LinkKind] = {}
    for family, numbers in _LATER_LINKS.items():
        if all((device.chip or "").startswith(family) for device in (one, other)):
            later = numbers
    return _LINKS.get(number) or later.get(number)


def _unread(place: str, start: DcmiStart) -> Device | None:
    words = place.split(".")
    if len(words) not in (1, 2) or not all(word.isascii() and word.isdigit() and len(word) <= 9 for word in words):
        return None
    chip_id = int(words[1]) if len(words) == 2 else None
    chip = DcmiChip(card_id=int(words[0]), device_id=chip_id)
    return _broken(device_of(chip, start))


def _broken(device: Device) -> Device:
    """Who the chip is; what it told before it fell silent says nothing of now."""
    return Device(
        vendor=device.vendor,
        index=device.index,
        name=device.name,
        chip=device.chip,
        card_id=device.card_id,
        chip_id=device.chip_id,
        pci_address=device.pci_address,
        driver_version=device.driver_version,
        node=device.node,
        layers=DeviceLayers(library=LayerState.BROKEN),
    )


def _place(card_id: int | None, chip_id: int | None) -> str:
    return f"{card_id}" if chip_id is None else f"{card_id}.{chip_id}"


def _address(text: str | None) -> str | None:
    """A chip on no PCI bus (310B, 950 on UB) gives zeros."""
    address = None if text is None else normalize_address(text)
    return None if address == "0000:00:00.0" else address


def _memory(
    hbm_total: int | None, hbm_used: int | None, ddr_total: int | None, ddr_available: int | None
) -> tuple[str | None, int | None, int | None]:
    """(kind, total bytes, free bytes): HBM where there is any, else DDR. What cannot be a size is none."""
    for kind, total, free in (
        ("hbm", hbm_total, None if hbm_total is None or hbm_used is None else hbm_total - hbm_used),
        ("ddr", ddr_total, ddr_available),
    ):
        if total is not None and 0 < total <= _MAX_MB:
            known = free is not None and 0 <= free <= total
            return kind, total * _MB, free * _MB if known and free is not None else None
    return None, None, None


def _memory_errors(ecc: DcmiEcc | None) -> MemoryErrors | None:
    if ecc is None or ecc.enabled is False:
        return None
    pages = (ecc.single_bit_retired_pages, ecc.double_bit_retired_pages)
    retired = None if pages[0] is None or pages[1] is None else pages[0] + pages[1]
    return MemoryErrors(
        ecc.single_bit, ecc.double_bit, ecc.single_bit_total, ecc.double_bit_total, retired_pages=retired
    )


def _texts(texts: Mapping[str, str]) -> dict[str, str]:
    return {code.upper(): text for code, text in texts.items()}


def _unsupported(errors: Mapping[str, int]) -> tuple[str, ...]:
    return tuple(field for field, words in _FIELDS.items() if all(errors.get(word) in _BENIGN for word in words))


def _utilization(aicore: int | None, npu: int | None) -> float | None:
    found = _within(aicore, 0, 100)
    return _within(npu, 0, 100) if found is None else found


def _power(deciwatts: int | None) -> float | None:
    """0 is what a broken sensor gives (310B4, fault 80E3A203); a chip that answers draws power."""
    return None if deciwatts is None or not 0 < deciwatts <= 1_000_000 else deciwatts / 10


def _number(value: int | None) -> int | None:
    return value if value is not None and 0 <= value <= _MAX_NUMBER else None


def _within(value: int | None, low: float, high: float) -> float | None:
    return float(value) if value is not None and low <= value <= high else None
