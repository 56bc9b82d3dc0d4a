"""The two system slots of an installed box: what RAUC says of them, and the boot loader's own notes.

RAUC 1.8's ``rauc status --detailed --output-format=json`` knows devices, versions and marks; which slot is started next
follows from GRUB's environment block (grub-editenv(1)): the first name in ORDER whose NAME_OK is 1 and whose NAME_TRY
is 0. The boot loader sets NAME_TRY before it starts a slot, and the health check takes it away once the box serves.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drivers.command import CommandFailed, CommandResult, FailureKind, minimal_environment, run
from drivers.errors import DriverError

ENVIRONMENT = Path("efi/grub/grubenv")
"""Below the root. Readable for everybody: it holds no secret."""
RESCUE = "r1box.rescue"
"""The kernel argument with which the boot loader starts a slot when none was proved."""
_ARGUMENT = "rauc.slot="
_BLOCK_BYTES = 1024
_HEADER = "# GRUB Environment Block"
_STATUS_S = 30.0

StatusRunner = Callable[[Sequence[str]], CommandResult]


class NoSlots(DriverError):
    """This machine has no slots (``no_slots``), or RAUC cannot be asked about them (``slots_unreadable``)."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One system partition. ``good``: it may be started. ``tried``: the boot loader has started it and nobody has
    proved since that it serves. ``version`` and ``installed_at`` (RFC 3339) are unknown before RAUC wrote it."""

    name: str
    device: str
    booted: bool
    good: bool
    tried: bool | None = None
    version: str | None = None
    installed_at: str | None = None


@dataclass(frozen=True, slots=True)
class Slots:
    """All slots by name. ``booted`` runs now, ``next`` is started next (unknown where the boot loader's notes cannot be
    read). ``fell_back``: another one was to be started, was tried and did not serve. ``rescue``: none was proved."""

    compatible: str
    booted: str | None
    next: str | None
    slots: tuple[Slot, ...]
    fell_back: str | None = None
    rescue: bool = False

    def slot(self, name: str | None) -> Slot | None:
        """By its name."""
        return next((one for one in self.slots if one.name == name), None)

    @property
    def other(self) -> Slot | None:
        """The one that does not run now."""
        return next((one for one in self.slots if not one.booted), None)


def booted_slot(kernel_arguments: Sequence[str]) -> str | None:
    """The name of the slot that runs; None on a machine without slots."""
    return next((text.removeprefix(_ARGUMENT) for text in kernel_arguments if text.startswith(_ARGUMENT)), None)


def kernel_arguments(root: Path = Path("/")) -> tuple[str, ...]:
    """What the kernel was started with; nothing where that cannot be read."""
    try:
        return tuple((root / "proc/cmdline").read_text("utf-8").split())
    except (OSError, UnicodeDecodeError):
        return ()


def parse_environment(content: bytes) -> dict[str, str]:
    """The names and values of GRUB's environment block. Raises NoSlots (``slots_unreadable``)."""
    text = content.decode("utf-8", "replace")
    if len(content) != _BLOCK_BYTES or not text.startswith(_HEADER):
        raise NoSlots("slots_unreadable", "The boot loader's notes are damaged.", "rauc status mark-good")
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return {name: value for name, mark, value in (line.partition("=") for line in lines) if mark}


def next_slot(environment: Mapping[str, str]) -> str | None:
    """What the boot loader would choose; None when every slot was tried in vain."""
    for name in environment.get("ORDER", "").split():
        if environment.get(f"{name}_OK") == "1" and environment.get(f"{name}_TRY") == "0":
            return name
    return None


def given_up(environment: Mapping[str, str], booted: str | None) -> str | None:
    """A slot that comes before the booted one, was tried and was never proved: the boot loader went on to the next."""
    for name in environment.get("ORDER", "").split():
        if name == booted:
            return None
        if environment.get(f"{name}_OK") == "1" and environment.get(f"{name}_TRY") == "1":
            return name
    return None


def parse_status(text: str, environment: Mapping[str, str] | None, arguments: Sequence[str] = ()) -> Slots:
    """RAUC's own words joined with the boot loader's. Raises NoSlots (``slots_unreadable``)."""
    try:
        told: dict[str, Any] = json.loads(text)
        slots = tuple(
            _slot(one, environment) for part in told["slots"] for one in part.values() if one["class"] == "rootfs"
        )
        primary = str(told.get("boot_primary"))
        names = {name: one["bootname"] for part in told["slots"] for name, one in part.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NoSlots("slots_unreadable", "What RAUC says of the slots cannot be read.", "rauc status") from error
    booted = told.get("booted") or booted_slot(arguments)
    following = names.get(primary)
    if environment is not None:
        # The running one was tried, too, until the health check has proved it: then it is next.
        following = next_slot({**environment, f"{booted}_TRY": "0"})
    return Slots(
        compatible=str(told["compatible"]),
        booted=booted,
        next=following,
        slots=tuple(sorted(slots, key=lambda one: one.name)),
        fell_back=None if environment is None else given_up(environment, booted),
        rescue=RESCUE in arguments,
    )


def _slot(told: Mapping[str, Any], environment: Mapping[str, str] | None) -> Slot:
    name = str(told["bootname"])
    status = told.get("slot_status") or {}
    tried = None if environment is None else environment.get(f"{name}_TRY")
    # RAUC calls a slot that was tried "bad", as if it held nothing.
    noted = None if environment is None else environment.get(f"{name}_OK")
    return Slot(
        name=name,
        device=str(told["device"]),
        booted=told["state"] == "booted",
        good=noted == "1" if noted is not None else told.get("boot_status") == "good",
        tried=None if tried is None else tried != "0",
        version=(status.get("bundle") or {}).get("version"),
        installed_at=(status.get("installed") or {}).get("timestamp"),
    )


def ask_rauc(argv: Sequence[str]) -> CommandResult:
    """The runner of a real box."""
    return run(argv, timeout_s=_STATUS_S, environment=minimal_environment(("DBUS_SYSTEM_BUS_ADDRESS",)))


def read_slots(ask: StatusRunner = ask_rauc, root: Path = Path("/")) -> Slots:
    """The slots as they are now. Blocks. Raises NoSlots."""
    arguments = kernel_arguments(root)
    if booted_slot(arguments) is None:
        raise NoSlots(
            "no_slots",
            "This system has one slot only: it was not installed from R1 Box's medium.",
            "Update it by its package: apt-get install ./r1box_VERSION_amd64.deb",
            http_status=409,
        )
    try:
        told = ask(("rauc", "status", "--detailed", "--output-format=json"))
    except CommandFailed as error:
        missing = error.kind is FailureKind.NOT_FOUND
        said = (error.result.stderr.strip().splitlines() or [error.message])[-1]
        problem = "RAUC is not installed here." if missing else f"RAUC does not say how the slots are: {said}"
        raise NoSlots("slots_unreadable", problem, "systemctl status rauc", http_status=503) from error
    return parse_status(told.stdout, read_environment(root), arguments)


def read_environment(root: Path = Path("/")) -> dict[str, str] | None:
    """The boot loader's notes; None where they cannot be read."""
    try:
        return parse_environment((root / ENVIRONMENT).read_bytes())
    except (OSError, NoSlots):
        return None
