"""The stages of an installation, in order. Each is pure: facts and answers in, actions out, none when nothing is due.

| module | stages |
|---|---|
| `base` | what a stage is |
| `disk` | preflight; partition table and file systems; the root file system |
| `boot` | the boot loader for old firmware and UEFI |
| `system` | users; network |
| `payload` | vendor stack; models |
| `services` | services; verify |
"""

from __future__ import annotations

from installer.stages import boot, disk, payload, services, system
from installer.stages.base import Stage

STAGES: tuple[Stage, ...] = (
    disk.PREFLIGHT,
    disk.DISK,
    disk.ROOT_FILE_SYSTEM,
    boot.BOOT_LOADER,
    system.USERS,
    system.NETWORK,
    payload.VENDOR_STACK,
    payload.MODELS_STAGE,
    services.SERVICES,
    services.VERIFY,
)
