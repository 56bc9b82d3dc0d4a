"""An installed box as far as an update sees it: RAUC (a fake that speaks as the real one), the boot loader's notes, the
kernel's arguments."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from drivers.command import CommandResult
from installer.update.door import serve
from installer.update.rauc import Rauc
from installer.update.work import Updater
from tests.fakes import rauc as fake

COMPATIBLE = "r1box-x86_64"


@dataclass
class SlotBox:
    """``root`` has proc/cmdline and efi/grub/grubenv; ``restarts`` counts what would restart the machine."""

    root: Path
    program: Path
    restarts: int = 0
    argv: list[tuple[str, ...]] = field(default_factory=list)

    @property
    def updater(self) -> Updater:
        return Updater(Rauc(self.root, str(self.program)), self.run, self.root / "lock")

    def run(self, argv: object, timeout_s: float, ok_codes: object) -> CommandResult:
        words = tuple(argv)  # type: ignore[arg-type]
        self.argv.append(words)
        self.restarts += words[:1] == ("systemctl",)
        return CommandResult(words, 0, "", "", 0.0)

    @property
    def notes(self) -> dict[str, str]:
        lines = (self.root / "efi/grub/grubenv").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))

    def note(self, **values: str) -> None:
        text = "# GRUB Environment Block\n" + "".join(f"{k}={v}\n" for k, v in {**self.notes, **values}.items())
        (self.root / "efi/grub/grubenv").write_text(text.ljust(1024, "#"))

    def bundle(self, name: str = "r1box-0.2.0-x86_64.raucb", **told: str) -> Path:
        """A bundle that is trusted and fits, unless ``told`` says otherwise."""
        file = self.root / name
        usual = {"signed_by": fake.TRUSTED, "compatible": COMPATIBLE, "version": "0.2.0"}
        file.write_text(json.dumps(usual | told))
        return file

    def start(self) -> str:
        """What the boot loader would do (installer.stages.boot): choose, note the try, start."""
        notes = self.notes
        for name in notes["ORDER"].split():
            if notes[f"{name}_OK"] == "1" and notes[f"{name}_TRY"] == "0":
                self.note(**{f"{name}_TRY": "1"})
                self.boot(name)
                return name
        raise AssertionError(f"nothing to start: {notes}")

    def boot(self, name: str, more: str = "") -> None:
        (self.root / "proc/cmdline").write_text(f"BOOT_IMAGE=/slot/vmlinuz rauc.slot={name} panic=10 {more}\n")
        told = json.loads((self.root / "efi/grub/slots").read_text())
        (self.root / "efi/grub/slots").write_text(json.dumps(told | {"booted": name}))


def make_box(folder: Path, monkeypatch: pytest.MonkeyPatch) -> SlotBox:
    """Slot A runs and is proved; B is empty."""
    state = folder / "efi/grub"
    state.mkdir(parents=True)
    (folder / "proc").mkdir()
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", str(state))
    told = {"booted": "A", "compatible": COMPATIBLE, "versions": {"A": "0.1.0"}}
    (state / "slots").write_text(json.dumps(told))
    (state / "grubenv").write_text(
        "# GRUB Environment Block\nORDER=A B\nA_OK=1\nA_TRY=0\nB_OK=0\nB_TRY=0\n".ljust(1024, "#")
    )
    program = folder / "rauc"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(fake.__file__)} "$@"\n')
    program.chmod(0o755)
    box = SlotBox(folder, program)
    box.boot("A")
    return box


@contextmanager
def door(box: SlotBox, path: Path) -> Iterator[None]:
    """What systemd does with r1box-update.socket: for each connection the helper, with the connection as its input and
    output."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def answer() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection, connection.makefile("r") as source, connection.makefile("w") as sink:
                    if connection.recv(1, socket.MSG_PEEK):
                        serve(box.updater, source, sink)

        thread = threading.Thread(target=answer)
        thread.start()
        yield
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(timeout=60)
    path.unlink()
