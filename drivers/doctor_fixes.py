"""Command lines for what the doctor finds: printed for the operator to paste, never run by this program.

Package names have ``*`` for their version: they are run in the folder that holds the vendor's files, so they work on a
box without a network. Sources: the installation guides of NVIDIA's driver, Ascend HDK and CANN.
"""

from __future__ import annotations

from collections.abc import Mapping

from drivers.types import Layer, Vendor

_NVIDIA_INSTALL = ("sudo sh ./NVIDIA-Linux-$(uname -m)-*.run --dkms", "sudo reboot")
_NVIDIA_LOG = "sudo dmesg | grep -iE 'nvrm|nvidia|nouveau' | tail -n 20"
_NVIDIA_NODES = ("ls -l /dev/nvidia*", "sudo nvidia-modprobe -u -c 0")
_ASCEND_INSTALL = (
    "sudo sh ./Ascend-hdk-*-npu-driver_*.run --full --install-for-all",
    "sudo sh ./Ascend-hdk-*-npu-firmware_*.run --full",
    "sudo reboot",
)
_ASCEND_LOG = "sudo dmesg | grep -iE 'ascend|davinci|devdrv|drv_' | tail -n 20"
_RESTART = "sudo systemctl restart r1box"
_JOIN = ("sudo usermod -aG {group} {user}", _RESTART)
_NVIDIA_ACCESS = ("ls -l /dev/nvidia*", "grep -rs NVreg_DeviceFile /etc/modprobe.d", *_JOIN)

_BY_CODE: Mapping[tuple[str, str], tuple[str, ...]] = {
    (Vendor.NVIDIA, "driver_missing"): _NVIDIA_INSTALL,
    (Vendor.NVIDIA, "driver_not_loaded"): ("sudo modprobe nvidia", "dkms status", "mokutil --sb-state", _NVIDIA_LOG),
    (Vendor.NVIDIA, "driver_version_mismatch"): ("cat /proc/driver/nvidia/version", "sudo reboot"),
    (Vendor.NVIDIA, "no_permission"): _NVIDIA_ACCESS,
    (Vendor.NVIDIA, "uvm_missing"): ("sudo modprobe nvidia-uvm", _NVIDIA_NODES[1]),
    (Vendor.NVIDIA, "device_lost"): (_NVIDIA_LOG, "sudo reboot"),
    (Vendor.NVIDIA, "reset_required"): ("sudo systemctl stop r1box", "sudo nvidia-smi --gpu-reset", "sudo reboot"),
    (Vendor.NVIDIA, "recovery_needed"): ("sudo systemctl stop r1box", "sudo nvidia-smi --gpu-reset", "sudo reboot"),
    (Vendor.NVIDIA, "memory_repair_pending"): ("sudo systemctl stop r1box", "sudo nvidia-smi --gpu-reset"),
    (Vendor.NVIDIA, "gsp_failed"): (_NVIDIA_LOG, "sudo systemctl stop r1box", "sudo reboot"),
    (Vendor.NVIDIA, "persistence_off"): ("sudo systemctl enable --now nvidia-persistenced",),
    (Vendor.ASCEND, "driver_missing"): _ASCEND_INSTALL,
    (Vendor.ASCEND, "tool_missing"): _ASCEND_INSTALL[:1],
    (Vendor.ASCEND, "driver_not_loaded"): ("lsmod | grep drv_", "dkms status", _ASCEND_LOG),
    (Vendor.ASCEND, "driver_incomplete"): _ASCEND_INSTALL,
    # An upgrade goes the other way round than a first installation.
    (Vendor.ASCEND, "firmware_incompatible"): (_ASCEND_INSTALL[1], _ASCEND_INSTALL[0], _ASCEND_INSTALL[2]),
    (Vendor.ASCEND, "device_in_use"): ("sudo fuser -v /dev/davinci*",),
    (Vendor.ASCEND, "no_permission"): ("ls -l /dev/davinci*", *_JOIN),
    (Vendor.ASCEND, "device_unhealthy"): ("npu-smi info", "npu-smi info -t health -i {card}"),
}
_NOUVEAU = (
    "printf 'blacklist nouveau\\noptions nouveau modeset=0\\n' | sudo tee /etc/modprobe.d/r1box-nouveau.conf",
    "sudo update-initramfs -u || sudo dracut --force",
    *_NVIDIA_INSTALL,
)
_BY_LAYER: Mapping[tuple[str, Layer], tuple[str, ...]] = {
    (Vendor.NVIDIA, Layer.PCI): ("lspci -nn -d 10de:",),
    (Vendor.NVIDIA, Layer.MODULE): ("sudo modprobe nvidia", "dkms status", _NVIDIA_LOG),
    (Vendor.NVIDIA, Layer.NODES): _NVIDIA_NODES,
    (Vendor.NVIDIA, Layer.ACCESS): _NVIDIA_ACCESS,
    (Vendor.NVIDIA, Layer.LIBRARY): ("ldconfig -p | grep libnvidia-ml", "nvidia-smi"),
    (Vendor.NVIDIA, Layer.RUNTIME): ("ldconfig -p | grep libcuda", "nvidia-smi"),
    (Vendor.NVIDIA, Layer.ENGINE): (
        'sudo env CMAKE_ARGS="-DGGML_CUDA=on" make -C /opt/r1box setup LEVEL=run',
        _RESTART,
    ),
    (Vendor.ASCEND, Layer.PCI): ("lspci -nn -d 19e5:",),
    (Vendor.ASCEND, Layer.MODULE): ("lsmod | grep drv_", "dkms status", _ASCEND_LOG),
    (Vendor.ASCEND, Layer.NODES): ("ls -l /dev/davinci* /dev/devmm_svm /dev/hisi_hdc", _ASCEND_LOG),
    (Vendor.ASCEND, Layer.ACCESS): ("ls -l /dev/davinci*", *_JOIN),
    (Vendor.ASCEND, Layer.LIBRARY): ("npu-smi info", _ASCEND_LOG),
    (Vendor.ASCEND, Layer.RUNTIME): (
        "sudo sh ./Ascend-cann-toolkit_*.run --install",
        "sudo sh ./Ascend-cann-*-ops_*.run --install",
        _RESTART,
    ),
    (Vendor.ASCEND, Layer.ENGINE): (
        'sudo env CMAKE_ARGS="-DGGML_CANN=on" make -C /opt/r1box setup LEVEL=run',
        _RESTART,
    ),
}


def commands_for(
    vendor: str,
    layer: Layer | None,
    code: str,
    *,
    user: str = "r1box",
    group: str | None = None,
    card: int | None = None,
) -> tuple[str, ...]:
    """What to paste for one break: by its code, else by its layer; empty when there is nothing to type.

    ``user`` is who runs the daemon, ``group`` the one to join, ``card`` the card's id: lines that need one that is not
    known are left out.
    """
    by_layer = () if layer is None else _BY_LAYER.get((vendor, layer), ())
    found = _NOUVEAU if "nouveau" in code else _BY_CODE.get((vendor, code), by_layer)
    values = {"{user}": user, "{group}": group, "{card}": None if card is None else str(card)}
    lines = []
    for line in found:
        for name, value in values.items():
            line = line if value is None else line.replace(name, value)
        if not any(name in line for name in values):
            lines.append(line)
    return tuple(lines)
