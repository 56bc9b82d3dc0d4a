"""Machines whose tables people look at. Memory and names as the vendors' tools tell them of such cards.

``python -m tests.appliance.cli.boxes`` writes the golden texts anew; then read the difference.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from appliance.cli.detect_rows import ASCII, UNICODE
from appliance.cli.detect_view import snapshot_lines
from drivers.types import (
    Device,
    DeviceFault,
    DeviceLayers,
    Disk,
    Finding,
    HardwareSnapshot,
    Health,
    Host,
    Layer,
    LayerReport,
    LayerState,
    MemoryErrors,
    Severity,
    Software,
    Vendor,
)

GIB = 1024**3
MIB = 1024**2
ANSWERS = DeviceLayers(LayerState.OK, LayerState.OK, LayerState.OK)
SILENT = DeviceLayers(LayerState.OK, LayerState.OK, LayerState.BROKEN)

KUNPENG = Host(
    hostname="box",
    architecture="aarch64",
    cpu_model="Kunpeng 920",
    cpu_cores=96,
    cpu_threads=96,
    memory_total_bytes=512 * GIB,
    memory_available_bytes=471 * GIB,
    disks=(Disk("/", "ext4", 100 * GIB, 40 * GIB), Disk("/var/lib/r1box", "xfs", 3600 * GIB, 3277 * GIB)),
)
XEON = replace(
    KUNPENG,
    architecture="x86_64",
    cpu_model="Intel(R) Xeon(R) Platinum 8480+",
    cpu_cores=112,
    memory_total_bytes=2015 * GIB,
    memory_available_bytes=1960 * GIB,
)


def ascend(chip: str, card: int, die: int, index: int | None, used_mib: int, total_mib: int) -> Device:
    return Device(
        Vendor.ASCEND,
        index,
        f"Ascend {chip}",
        chip=chip,
        card_id=card,
        chip_id=die,
        memory_total_bytes=total_mib * MIB,
        memory_free_bytes=(total_mib - used_mib) * MIB,
        health=Health.OK,
        utilization_percent=0,
        temperature_celsius=51,
        driver_version="25.2.0",
        layers=ANSWERS,
    )


def nvidia(name: str, index: int, used_mib: int, total_mib: int) -> Device:
    return Device(
        Vendor.NVIDIA,
        index,
        f"NVIDIA {name}",
        chip=name,
        memory_total_bytes=total_mib * MIB,
        memory_free_bytes=(total_mib - used_mib) * MIB,
        health=Health.OK,
        utilization_percent=97,
        temperature_celsius=66,
        power_watts=381.4,
        driver_version="550.54.15",
        layers=ANSWERS,
    )


def layers(vendor: Vendor, **states: str) -> tuple[LayerReport, ...]:
    """``library="broken"``, with words behind a colon: ``pci="ok:4 cards"``."""
    parts = {name: state.partition(":") for name, state in states.items()}
    return tuple(
        LayerReport(vendor, Layer(name), LayerState(state), detail or None)
        for name, (state, _, detail) in parts.items()
    )


EIGHT_910B3 = HardwareSnapshot(
    replace(KUNPENG, cpu_cores=192, memory_total_bytes=1511 * GIB, memory_available_bytes=1490 * GIB),
    tuple(
        replace(ascend("910B3", card, 0, card, used, 65536), power_watts=watts, utilization_percent=use)
        for card, (used, watts, use) in enumerate(
            [(60156, 316, 92), (60156, 314.6, 90), (3397, 92, 0), (3397, 91, 0), *[(3398, 93.4, 0)] * 4]
        )
    ),
    layers=layers(Vendor.ASCEND, pci="ok:8 cards", module="ok", nodes="ok", access="ok", library="ok", runtime="ok"),
    software=(
        Software("ascend-driver", "25.2.0"),
        Software("ascend-firmware", "7.7.0.6.236"),
        Software("cann", "8.5.0"),
    ),
)

TWO_DUOS = HardwareSnapshot(
    KUNPENG,
    (
        ascend("310P3", 0, 0, 0, 1625, 44278),
        ascend("310P3", 0, 1, 1, 1333, 43693),
        Device(
            Vendor.ASCEND,
            None,
            "Ascend 310P",
            chip="310P",
            pci_address="0000:81:00.0",
            layers=SILENT,
        ),
    ),
    findings=(
        Finding("cann_missing", "CANN is not installed.", "Install CANN 8.5.0.", Severity.WARNING, "ascend"),
        Finding(
            "card_not_answering",
            "Ascend 310P at 0000:81:00.0 is on the PCI bus and its nodes exist, but the driver gives no answer (-8012, "
            "not ready).",
            "Read dmesg, then power the box off and on; r1box doctor shows what else is missing.",
            Severity.ERROR,
            "ascend",
            "ascend:0000:81:00.0",
        ),
        Finding("old", "Driver 23.0.0 is older than 24.1.", None, Severity.INFO, "ascend"),
    ),
    layers=layers(
        Vendor.ASCEND,
        pci="ok:2 cards",
        module="ok:drv_pcie_host",
        nodes="ok:4 of 4",
        access="ok",
        library="broken:2 of 4 devices",
        runtime="not_reached",
        engine="unknown",
    ),
)

A3 = HardwareSnapshot(
    replace(KUNPENG, cpu_cores=640),
    tuple(
        replace(
            ascend("Ascend910", card, die, 2 * card + die, 3100 + 10 * die, 65536),
            power_watts=171.5 + card if die == 0 else None,
            utilization_percent=7,
        )
        for card in range(8)
        for die in range(2)
    ),
)

EIGHT_H20 = HardwareSnapshot(
    XEON,
    (
        *(nvidia("H20", index, 88_000, 97_871) for index in range(5)),
        replace(
            nvidia("H20", 5, 88_000, 97_871),
            temperature_celsius=91,
            health=Health.WARNING,
            throttle_reasons=("hw_thermal", "sw_thermal"),
        ),
        replace(
            nvidia("H20", 6, 500, 97_871),
            health=Health.ALARM,
            faults=(DeviceFault("xid:48", "Double-bit memory error.", "Reset the card.", Severity.ERROR),),
            memory_errors=MemoryErrors(uncorrected=2, repair_pending=True),
            recovery_action="gpu_reset",
        ),
        Device(
            Vendor.NVIDIA,
            7,
            "NVIDIA card",
            chip="H20",
            pci_address="0000:c1:00.0",
            health=Health.CRITICAL,
            layers=SILENT,
        ),
    ),
    findings=(
        Finding(
            "device_lost",
            "Card 7 (NVIDIA card, 0000:c1:00.0) has fallen off the bus: the driver has lost it.",
            "Read journalctl -k -g Xid (79 is typical): check power, cooling and the riser, then power the box off and "
            "on.",
            Severity.ERROR,
            "nvidia",
            "nvidia:7",
        ),
    ),
)

MIG = HardwareSnapshot(
    XEON,
    (
        replace(
            nvidia("A100-SXM4-80GB", 0, 600, 81_920),
            power_watts=61.2,
            utilization_percent=None,
            partitioned=True,
        ),
        nvidia("A100-SXM4-80GB", 1, 70_000, 81_920),
        *(
            Device(
                Vendor.NVIDIA,
                None,
                f"NVIDIA A100-SXM4-80GB MIG {name}",
                chip="A100-SXM4-80GB",
                card_id=0,
                chip_id=number,
                memory_total_bytes=total * MIB,
                memory_free_bytes=(total - used) * MIB,
                health=Health.OK,
                selector=f"MIG-{number}",
                parent="nvidia:0",
                layers=ANSWERS,
            )
            for number, name, used, total in [(1, "3g.40gb", 30_000, 40_192), (5, "1g.10gb", 12, 9_728)]
        ),
    ),
)

GB10 = HardwareSnapshot(
    Host(
        cpu_model="Cortex-X925",
        cpu_cores=20,
        memory_total_bytes=122_572 * MIB,
        memory_available_bytes=101_000 * MIB,
        disks=(Disk("/", "ext4", 4000 * GIB, 3500 * GIB),),
    ),
    (
        replace(
            nvidia("GB10", 0, 21_572, 122_572),
            unified_memory=True,
            power_watts=12.1,
            utilization_percent=0,
            temperature_celsius=43,
            driver_version="580.95.05",
        ),
    ),
)

NO_CARD = HardwareSnapshot(
    Host(
        cpu_model="AMD Ryzen 7 7840U w/ Radeon 780M Graphics",
        cpu_cores=1,
        memory_total_bytes=30 * GIB,
        memory_available_bytes=22 * GIB,
        disks=(Disk("/", "ext4", 500 * GIB, 120 * GIB),),
    )
)

NO_DRIVER = HardwareSnapshot(
    XEON,
    findings=(
        Finding(
            "driver_missing",
            "2 NVIDIA cards are on the PCI bus (NVIDIA L20 at 0000:01:00.0, NVIDIA L20 at 0000:41:00.0), but the "
            "driver's library libnvidia-ml.so.1 was not found.",
            "Install NVIDIA's driver (with its kernel module) and reboot.",
            Severity.ERROR,
            "nvidia",
        ),
    ),
    layers=layers(
        Vendor.NVIDIA,
        pci="ok:2 cards",
        module="broken",
        nodes="not_reached",
        access="not_reached",
        library="not_reached",
    ),
)

BOXES = {
    "8x910B3": EIGHT_910B3,
    "2xDuo-one-silent": TWO_DUOS,
    "a3": A3,
    "8xH20": EIGHT_H20,
    "mig": MIG,
    "gb10": GB10,
    "no-card": NO_CARD,
    "no-driver": NO_DRIVER,
}

GOLDEN = Path(__file__).with_name("golden")
FORMS = {"80": (80, UNICODE), "200": (200, UNICODE), "80-ascii": (80, ASCII)}
LABELS = {"nvidia": "NVIDIA", "ascend": "Ascend"}


def rendered(box: str, form: str) -> str:
    """The text that ``r1box detect`` prints of a box, without colours."""
    width, glyphs = FORMS[form]
    lines = snapshot_lines(BOXES[box], width=width, glyphs=glyphs, labels=LABELS)
    return "".join(f"{line.plain.rstrip()}\n" for line in lines)


if __name__ == "__main__":
    for name in BOXES:
        for form in FORMS:
            (GOLDEN / f"{name}-{form}.txt").write_text(rendered(name, form), "utf-8")
