"""Described machines for the doctor, one for each thing that goes wrong on the way from the slot to the engine.

What their probes report is written as those of this project write it; versions and messages are of real machines
(npu-smi captures, reports of users).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drivers.doctor import diagnose
from drivers.doctor_types import DoctorReport, EngineFacts
from drivers.requirements import load_requirements
from drivers.types import (
    Device,
    DeviceLayers,
    Finding,
    HardwareSnapshot,
    Health,
    Host,
    Layer,
    LayerReport,
    LayerState,
    Severity,
    Software,
)

GIB = 1 << 30
LABELS = {"nvidia": "NVIDIA", "ascend": "Ascend"}
ANSWERS = DeviceLayers(LayerState.OK, LayerState.OK, LayerState.OK)
SILENT = DeviceLayers(LayerState.OK, LayerState.OK, LayerState.BROKEN)
OK, BROKEN, WAITING, NOT_REACHED = LayerState.OK, LayerState.BROKEN, LayerState.WAITING, LayerState.NOT_REACHED

CPU_BUILD = EngineFacts("llama.cpp", "0.3.36", frozenset())
CUDA_BUILD = EngineFacts("llama.cpp", "0.3.36", frozenset({"nvidia"}))
CANN_BUILD = EngineFacts("llama.cpp", "0.3.36", frozenset({"ascend"}))
CUDA_12 = Software("llama-cpp-cuda", "12", "/opt/r1box/lib/libggml-cuda.so")


@dataclass(frozen=True, slots=True)
class Machine:
    """What the doctor is given."""

    snapshot: HardwareSnapshot
    engine: EngineFacts
    installed: tuple[Software, ...] = ()


def chain(
    vendor: str, *states: LayerState | tuple[LayerState, str | None, *tuple[str, ...]]
) -> tuple[LayerReport, ...]:
    """Reports from PCI on; a tuple is state, detail and finding codes."""
    reports = []
    for layer, state in zip(Layer, states, strict=False):
        if isinstance(state, tuple):
            reports.append(LayerReport(vendor, layer, state[0], state[1], tuple(state[2:])))
        else:
            reports.append(LayerReport(vendor, layer, state))
    return tuple(reports)


def h20(index: int, layers: DeviceLayers = ANSWERS, health: Health = Health.OK, capability: str = "9.0") -> Device:
    answers = layers is ANSWERS
    return Device(
        "nvidia",
        index,
        "NVIDIA H20",
        chip="H20",
        pci_address=f"0000:{0x18 + index:02x}:00.0",
        memory_total_bytes=96 * GIB if answers else None,
        memory_free_bytes=95 * GIB if answers else None,
        compute_capability=capability if answers else None,
        health=health,
        layers=layers,
    )


def duo(card: int, chip: int, index: int, layers: DeviceLayers = ANSWERS) -> Device:
    answers = layers is ANSWERS
    return Device(
        "ascend",
        index,
        "310P3",
        chip="310P3",
        card_id=card,
        chip_id=chip,
        pci_address="0000:01:00.0" if card == 0 else "0000:81:00.0",
        memory_total_bytes=43 * GIB if answers else None,
        memory_free_bytes=42 * GIB if answers else None,
        health=Health.OK if answers else Health.UNKNOWN,
        firmware_version="7.7.0.6.236" if answers else None,
        layers=layers,
    )


def snapshot(
    devices: Sequence[Device] = (),
    layers: Sequence[LayerReport] = (),
    findings: Sequence[Finding] = (),
    software: Sequence[Software] = (),
) -> HardwareSnapshot:
    return HardwareSnapshot(Host(), tuple(devices), tuple(findings), tuple(layers), tuple(software))


def error(vendor: str, code: str, message: str, hint: str | None = None, device: str | None = None) -> Finding:
    return Finding(code, message, hint, Severity.ERROR, vendor, device)


NVIDIA_DRIVER = Software("nvidia-driver", "550.54.15")
NVIDIA_CUDA = Software("cuda-driver", "12.4")
ASCEND_DRIVER = Software("ascend-driver", "25.2.0", "/usr/local/Ascend/driver/version.info")
CANN = Software("cann", "8.5.0", "/usr/local/Ascend/cann")
NVIDIA_OK = ((OK, "2 cards"), (OK, "550.54.15"), OK, OK, OK, OK)
ASCEND_OK = ((OK, "2 cards, 4 chips"), (OK, "25.2.0"), (OK, "4 chips"), OK, OK, (OK, "CANN 8.5.0"))
FOUR_CHIPS = (duo(0, 0, 0), duo(0, 1, 1), duo(32768, 0, 4), duo(32768, 1, 5))
ON_THE_BUS = "2 NVIDIA cards are on the PCI bus (0000:18:00.0 H20, 0000:19:00.0 H20)"

MACHINES: dict[str, Machine] = {
    "nvidia-well": Machine(
        snapshot((h20(0), h20(1)), chain("nvidia", *NVIDIA_OK), (), (NVIDIA_DRIVER, NVIDIA_CUDA)),
        CUDA_BUILD,
        (CUDA_12,),
    ),
    "ascend-well": Machine(snapshot(FOUR_CHIPS, chain("ascend", *ASCEND_OK), (), (ASCEND_DRIVER, CANN)), CANN_BUILD),
    "no-cards": Machine(snapshot(), CPU_BUILD),
    "nvidia-no-driver": Machine(
        snapshot(
            (),
            chain(
                "nvidia",
                (OK, "2 cards"),
                (BROKEN, "not installed", "driver_missing"),
                *[NOT_REACHED] * 4,
            ),
            (
                error(
                    "nvidia",
                    "driver_missing",
                    f"{ON_THE_BUS}, but NVIDIA's driver is not installed.",
                    "Install NVIDIA's driver (with its kernel module) and reboot.",
                ),
            ),
        ),
        CPU_BUILD,
    ),
    "nvidia-nouveau": Machine(
        snapshot(
            (),
            chain("nvidia", (OK, "2 cards"), (BROKEN, "nouveau", "nouveau_bound"), *[NOT_REACHED] * 4),
            (
                error(
                    "nvidia",
                    "nouveau_bound",
                    f"{ON_THE_BUS}, held by the driver nouveau, which cannot compute.",
                    "Install NVIDIA's driver (it blocks nouveau), reboot.",
                ),
            ),
        ),
        CUDA_BUILD,
        (CUDA_12,),
    ),
    "nvidia-version-mismatch": Machine(
        snapshot(
            (),
            chain(
                "nvidia",
                (OK, "2 cards"),
                (OK, "550.54.15"),
                OK,
                OK,
                (BROKEN, None, "driver_version_mismatch"),
                NOT_REACHED,
            ),
            (
                error(
                    "nvidia",
                    "driver_version_mismatch",
                    "NVIDIA's library and its loaded kernel module have different versions.",
                    "The driver package was upgraded while the old module is still loaded: reboot.",
                ),
            ),
        ),
        CUDA_BUILD,
        (CUDA_12,),
    ),
    "nvidia-build-without-cuda": Machine(
        snapshot((h20(0), h20(1)), chain("nvidia", *NVIDIA_OK), (), (NVIDIA_DRIVER, NVIDIA_CUDA)), CPU_BUILD
    ),
    "nvidia-driver-too-old": Machine(
        snapshot(
            (h20(0), h20(1)), chain("nvidia", *NVIDIA_OK), (), (Software("nvidia-driver", "550.54.15"), NVIDIA_CUDA)
        ),
        CUDA_BUILD,
        (Software("llama-cpp-cuda", "13"),),
    ),
    "nvidia-one-lost": Machine(
        snapshot(
            (h20(0), h20(1, SILENT)),
            chain("nvidia", *NVIDIA_OK),
            (
                error(
                    "nvidia",
                    "device_lost",
                    "Card 1 (H20, 0000:19:00.0) has fallen off the bus: the driver has lost it.",
                    "Power the machine off and on; read the kernel log for Xid 79.",
                    "nvidia:1",
                ),
            ),
            (NVIDIA_DRIVER, NVIDIA_CUDA),
        ),
        CUDA_BUILD,
        (CUDA_12,),
    ),
    "ascend-access": Machine(
        snapshot(
            (),
            chain(
                "ascend",
                (OK, "2 cards, 4 chips"),
                (OK, "25.2.0"),
                (OK, "4 chips"),
                (BROKEN, "/dev/davinci_manager belongs to HwHiAiUser:HwHiAiUser (0660)", "no_permission"),
                NOT_REACHED,
                (OK, "CANN 8.5.0"),
            ),
            (
                error(
                    "ascend",
                    "no_permission",
                    "/dev/davinci_manager belongs to HwHiAiUser (0660); r1box runs as r1box, which is not in it.",
                    "usermod -aG HwHiAiUser r1box, then restart the service.",
                ),
            ),
            (ASCEND_DRIVER, CANN),
        ),
        CANN_BUILD,
    ),
    "ascend-no-cann": Machine(
        snapshot(
            FOUR_CHIPS,
            chain("ascend", *ASCEND_OK[:5], (BROKEN, "no CANN", "cann_missing")),
            (
                error(
                    "ascend", "cann_missing", "The cards answer, but CANN is not installed.", "Install CANN's toolkit."
                ),
            ),
            (ASCEND_DRIVER,),
        ),
        CANN_BUILD,
    ),
    "ascend-booting": Machine(
        snapshot(
            (),
            chain(
                "ascend",
                (OK, "2 cards, 4 chips"),
                (OK, "25.2.0"),
                (WAITING, "/dev/davinci0 is missing", "nodes_waiting"),
                *[NOT_REACHED] * 3,
            ),
            (
                Finding(
                    "nodes_waiting",
                    "The driver was started a moment ago and has not made its nodes yet.",
                    "Wait four minutes.",
                    Severity.WARNING,
                    "ascend",
                ),
            ),
            (ASCEND_DRIVER, CANN),
        ),
        CANN_BUILD,
    ),
    "ascend-pair-refused": Machine(
        snapshot(
            FOUR_CHIPS,
            chain("ascend", *ASCEND_OK[:5], (OK, "CANN 9.1.0")),
            (),
            (Software("ascend-driver", "25.0.rc1"), Software("cann", "9.1.0")),
        ),
        CANN_BUILD,
        (Software("torch-npu", "2.9.0"), Software("torch", "2.8.0"), Software("python", "3.11.7")),
    ),
    "ascend-passed-through": Machine(
        snapshot(
            (),
            chain(
                "ascend", (BROKEN, "all cards belong to virtual machines", "card_passed_through"), *[NOT_REACHED] * 5
            ),
            (
                Finding(
                    "card_passed_through",
                    "0000:01:00.0 310P is reserved for a virtual machine (vfio-pci) and not used here.",
                    None,
                    Severity.INFO,
                    "ascend",
                ),
                error("ascend", "driver_not_ready", "npu-smi could not start the driver's library (DCMI -8005)."),
            ),
        ),
        CPU_BUILD,
    ),
    "both-one-works": Machine(
        snapshot(
            (h20(0), h20(1), *FOUR_CHIPS),
            chain("nvidia", *NVIDIA_OK) + chain("ascend", *ASCEND_OK),
            (),
            (NVIDIA_DRIVER, NVIDIA_CUDA, ASCEND_DRIVER, CANN),
        ),
        CUDA_BUILD,
        (CUDA_12,),
    ),
}


def examined(name: str, *, asked: Sequence[str] = ()) -> DoctorReport:
    """The doctor's report on one of the machines."""
    machine = MACHINES[name]
    return diagnose(
        machine.snapshot, machine.installed, machine.engine, load_requirements(), labels=LABELS, asked=asked
    )
