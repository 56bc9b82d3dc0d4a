"""A virtual machine for trials of the medium: QEMU without hardware support, its serial console as a log with times.

``-accel tcg`` is named always: where /dev/kvm is there and does not work, the default would hang for ever.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

Firmware = Literal["bios", "uefi", "uefi-secure"]
_OVMF = Path("/usr/share/OVMF")
_WAIT_STEP_S = 1.0


@dataclass(frozen=True, slots=True)
class Drive:
    """``bus`` virtio is a disk of the machine with this serial number, usb a stick."""

    image: Path
    bus: Literal["virtio", "usb"]
    serial: str | None = None
    read_only: bool = False
    boot: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """``forward``: ports of this machine's loopback that lead to ports of the guest, which reaches nothing itself."""

    firmware: Firmware
    drives: tuple[Drive, ...]
    forward: tuple[tuple[int, int], ...] = ()
    memory_mib: int = 2560
    processors: int = int(os.environ.get("R1BOX_VM_PROCESSORS", "2"))
    restarts: bool = False


def qemu_argv(plan: Plan, variables: Path | None) -> list[str]:
    """The command line. ``variables``: this machine's copy of the firmware's memory, None for old firmware."""
    argv = [
        "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", str(plan.processors),
        "-m", str(plan.memory_mib), "-nographic", "-serial", "mon:stdio", "-rtc", "base=utc",
    ]  # fmt: skip
    if not plan.restarts:
        argv.append("-no-reboot")
    secure = plan.firmware == "uefi-secure"
    argv += ["-machine", "q35,smm=on" if secure else "q35"]
    if variables is not None:
        code = _OVMF / ("OVMF_CODE_4M.ms.fd" if secure else "OVMF_CODE_4M.fd")
        argv += ["-global", "driver=cfi.pflash01,property=secure,value=on"] if secure else []
        argv += ["-drive", f"if=pflash,format=raw,readonly=on,file={code}"]
        argv += ["-drive", f"if=pflash,format=raw,file={variables}"]
    argv += ["-device", "qemu-xhci"]
    for number, drive in enumerate(plan.drives):
        flags = ",readonly=on" if drive.read_only else ",cache=unsafe"
        argv += ["-drive", f"file={drive.image},format=raw,if=none,id=d{number}{flags}"]
        kind = "usb-storage" if drive.bus == "usb" else "virtio-blk-pci"
        serial = f",serial={drive.serial}" if drive.serial else ""
        boot = ",bootindex=0" if drive.boot else ""
        argv += ["-device", f"{kind},drive=d{number}{serial}{boot}"]
    if plan.forward:
        rules = "".join(f",hostfwd=tcp:127.0.0.1:{ours}-:{theirs}" for ours, theirs in plan.forward)
        argv += ["-nic", f"user,restrict=on,model=virtio-net-pci{rules}"]
    else:
        argv += ["-nic", "none"]
    return argv


class Guest:
    """A running machine. Its console goes to ``log`` with seconds since the start; leaving the block ends it."""

    def __init__(self, plan: Plan, log: Path) -> None:
        variables = None
        if plan.firmware != "bios":
            secure = plan.firmware == "uefi-secure"
            variables = log.with_suffix(".vars")
            shutil.copyfile(_OVMF / ("OVMF_VARS_4M.ms.fd" if secure else "OVMF_VARS_4M.fd"), variables)
        self.lines: list[tuple[float, str]] = []
        self._news = threading.Condition()
        self._log = log
        self._started = time.monotonic()
        self.process = subprocess.Popen(
            qemu_argv(plan, variables), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def kill(self) -> None:
        """As a power cut does. Idempotent."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(timeout=60)
        self._reader.join(timeout=60)

    def elapsed_s(self) -> float:
        return time.monotonic() - self._started

    def wait_for_next(self, pattern: str, timeout_s: float) -> str:
        """The first line from now on that the pattern is found in. Raises AssertionError."""
        return self.wait_for(pattern, timeout_s, len(self.lines))

    def wait_for(self, pattern: str, timeout_s: float, seen: int = 0) -> str:
        """The first line that the pattern is found in, after the first ``seen``. Raises AssertionError with the log's
        end."""
        wanted = re.compile(pattern)
        deadline = time.monotonic() + timeout_s
        while True:
            with self._news:
                fresh, ended = self.lines[seen:], self.process.poll() is not None
                if not fresh and not ended:
                    self._news.wait(_WAIT_STEP_S)
            seen += len(fresh)
            for _, line in fresh:
                if wanted.search(line):
                    return line
            if ended and not fresh:
                raise AssertionError(f"the machine ended before {pattern!r}:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"no {pattern!r} in {timeout_s:.0f} s:\n{self.tail()}")

    def wait_ended(self, timeout_s: float) -> float:
        """Seconds from start to power-off. Raises AssertionError."""
        try:
            self.process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the machine still runs after {timeout_s:.0f} s:\n{self.tail()}") from None
        self._reader.join(timeout=60)
        return self.elapsed_s()

    def tail(self, count: int = 40) -> str:
        return "\n".join(f"{when:7.1f} {line}" for when, line in self.lines[-count:])

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self._log.open("w", encoding="utf-8") as log:
            for raw in self.process.stdout:
                when, line = self.elapsed_s(), raw.decode("utf-8", "replace").rstrip()
                log.write(f"{when:7.1f} {line}\n")
                log.flush()
                with self._news:
                    self.lines.append((when, line))
                    self._news.notify_all()
        with self._news:
            self._news.notify_all()
