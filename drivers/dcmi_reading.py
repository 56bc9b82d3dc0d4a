"""What the DCMI child (``drivers.dcmi``) prints, one JSON object a line, as values.

The child only measures: units are the library's own (MB of 1024*1024 bytes, tenths of a watt), errors are its numbers.
``drivers.ascend`` judges. Prototypes and units: hicann/driver, dcmi_interface_api.h and its DCMI API documents.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec


class DcmiStart(msgspec.Struct, tag="start", tag_field="kind", frozen=True):
    """How the library began. ``error`` is the code of a failed init or list of chips, ``missing`` the loader's word
    when the library or one that it needs cannot be loaded, ``api`` the version that answers: 1, or 2 on the 950.
    ``listed`` are the chips in the order in which they are asked, as ``card.device`` (API 2: ``card``): a child that
    hangs does so at the first one that it did not print."""

    api: int | None = None
    error: int | None = None
    missing: str | None = None
    library: str | None = None
    driver_version: str | None = None
    dcmi_version: str | None = None
    listed: tuple[str, ...] = ()


class DcmiProcess(msgspec.Struct, frozen=True):
    """A program on a chip; ``pid`` is the host's."""

    pid: int
    memory_bytes: int | None = None


class DcmiEcc(msgspec.Struct, frozen=True):
    """Counters of one memory: since the driver was loaded and over the life; retired ("isolated") pages. ``enabled``
    false: errors are not looked for, the counters say nothing."""

    single_bit: int | None = None
    double_bit: int | None = None
    single_bit_total: int | None = None
    double_bit_total: int | None = None
    single_bit_retired_pages: int | None = None
    double_bit_retired_pages: int | None = None
    enabled: bool | None = None


class DcmiChip(msgspec.Struct, tag="chip", tag_field="kind", frozen=True):
    """One NPU chip. ``device_id`` is ``None`` with API 2, which names devices by one number (then ``card_id``).

    ``errors`` has DCMI's code of each call that failed, by the word of its field(s); -8255 is "not supported", and
    -99998 stands for a function that this library does not export. ``error_codes`` are the chip's active fault codes,
    ``error_texts`` the library's own words for them by eight hex digits. ``topology`` is DCMI's number for the way to
    each chip listed before this one (every pair is asked once), keyed ``card.device`` (API 2: ``card``). Rates are
    percent with the virtual-function flag (bit 9) already judged: such a value is left out and named in ``errors`` as
    -8255.

    ``error`` is the code of the call that tells health (then only the identity is known), or of the one that counts
    the chips of the card (then ``device_id`` 0 stands for all of them).
    The words of ``errors``: type, chips, logic_id, phy_id, chip, pci, health, error_codes, error_texts, temperature,
    power, aicore, npu, aicore_mhz, hbm, ddr (asked only where there is no HBM), ecc_hbm, ecc_ddr, firmware,
    cpu_affinity, processes, topology.
    """

    card_id: int
    device_id: int | None = None
    error: int | None = None
    errors: dict[str, int] = {}
    logic_id: int | None = None
    phy_id: int | None = None
    chip_type: str | None = None
    chip_name: str | None = None
    npu_name: str | None = None
    pci_address: str | None = None
    health: int | None = None
    error_codes: tuple[int, ...] = ()
    error_texts: dict[str, str] = {}
    temperature_celsius: int | None = None
    power_deciwatts: int | None = None
    aicore_percent: int | None = None
    npu_percent: int | None = None
    aicore_mhz: int | None = None
    hbm_total_mb: int | None = None
    hbm_used_mb: int | None = None
    hbm_mhz: int | None = None
    ddr_total_mb: int | None = None
    ddr_available_mb: int | None = None
    ecc_hbm: DcmiEcc | None = None
    ecc_ddr: DcmiEcc | None = None
    firmware_version: str | None = None
    cpu_affinity: str | None = None
    processes: tuple[DcmiProcess, ...] | None = None
    topology: dict[str, int] = {}


class DcmiEnd(msgspec.Struct, tag="end", tag_field="kind", frozen=True):
    """The child asked everything it wanted to ask."""


class DcmiChipSample(msgspec.Struct, frozen=True):
    """What changes on one chip; fields as in ``DcmiChip``. ``error`` is the code of the call that tells health when
    that call fails: the chip gives no answer."""

    card_id: int
    device_id: int | None = None
    error: int | None = None
    health: int | None = None
    temperature_celsius: int | None = None
    power_deciwatts: int | None = None
    aicore_percent: int | None = None
    npu_percent: int | None = None
    aicore_mhz: int | None = None
    hbm_total_mb: int | None = None
    hbm_used_mb: int | None = None
    ddr_total_mb: int | None = None
    ddr_available_mb: int | None = None


class DcmiSample(msgspec.Struct, tag="sample", tag_field="kind", frozen=True):
    """One answer of the watching child (``--watch``: a start line, then one of these for each line it reads)."""

    chips: tuple[DcmiChipSample, ...] = ()


@dataclass(frozen=True, slots=True)
class DcmiReading:
    """All lines of one child. ``complete`` is false when it stopped before the end."""

    start: DcmiStart | None = None
    chips: tuple[DcmiChip, ...] = ()
    complete: bool = False


def child_argv(watch: bool = False, *, libraries: Sequence[str] = (), preload: Sequence[str] = ()) -> list[str]:
    """How to run the child: as a module in an isolated interpreter, so that no file of the current folder is imported.

    ``libraries`` are paths where libdcmi.so may be, tried in this order before its bare name (LD_LIBRARY_PATH);
    ``preload`` are libraries to load before it.
    """
    argv = [sys.executable, "-I", "-m", "drivers.dcmi"]
    for path in libraries:
        argv += ["--library", path]
    for path in preload:
        argv += ["--preload", path]
    return [*argv, "--watch"] if watch else argv


def parse_reading(text: str) -> DcmiReading:
    """Read the child's lines; stops at the first one that is not whole. Never raises."""
    start: DcmiStart | None = None
    chips: list[DcmiChip] = []
    for line in text.splitlines():
        try:
            record = msgspec.json.decode(line.encode(), type=DcmiStart | DcmiChip | DcmiEnd)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            break
        if isinstance(record, DcmiStart):
            start = record
        elif isinstance(record, DcmiChip):
            chips.append(record)
        else:
            return DcmiReading(start, tuple(chips), complete=True)
    failed = start is not None and (start.error is not None or start.missing is not None)
    return DcmiReading(start, tuple(chips), complete=failed)
