"""From the medium to an answer: an unattended installation in a virtual machine, then the installed box by itself."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path

import pytest
from openai import OpenAI

from tests.e2e.box import goldens
from tests.vm.conftest import REUSES, Medium
from tests.vm.machine import Drive, Firmware, Guest, Plan
from tests.vm.stick import make_stick, read_file

DISK_BYTES = 12 << 30
SERIAL = "R1BOXTEST0001"
PASSWORD = "only-for-this-test"
INSTALL_S = 1800
START_S = 1200

ANSWERS = """\
schema = 1

[disk]
wipe = "{serial}"
slot_gib = 2
state_gib = 2

[disk.match]
serial = "{serial}"

[admin]
name = "boxadmin"
password_hash = "{password_hash}"
ssh_keys = ["{ssh_key}"]

[system]
hostname = "r1box-vm"

[models]
bundles = ["tiny-r1"]

[service]
tls = "off"

[finish]
on_success = "poweroff"
on_error = "poweroff"
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def password_hash() -> str:
    argv = ["openssl", "passwd", "-6", "-salt", "r1boxtest", PASSWORD]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def blank_disk(path: Path) -> Path:
    with path.open("wb") as file:
        file.truncate(DISK_BYTES)
    return path


def stick_of(medium: Medium, path: Path) -> Path:
    ssh_key = medium.ssh_key.with_suffix(".pub").read_text().strip()
    answers = ANSWERS.format(serial=SERIAL, ssh_key=ssh_key, password_hash=password_hash())
    make_stick(path, "R1BOX-SEED", 128, {"answers.toml": answers}, [medium.bundle])
    return path


def on_guest(medium: Medium, port: int, command: str) -> str:
    """What a command prints that the operator gives by ssh, as root."""
    argv = [
        "ssh", "-i", str(medium.ssh_key), "-p", str(port), "-o", "StrictHostKeyChecking=no",
        "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=60",
        "boxadmin@127.0.0.1", f"sudo -S -p '' {command}",
    ]  # fmt: skip
    done = subprocess.run(argv, input=f"{PASSWORD}\n", capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout} {done.stderr}"
    return done.stdout


def install(medium: Medium, firmware: Firmware) -> Path:
    """A disk with an installation that was made in that firmware; one of an earlier run where that is wanted."""
    disk, done = medium.work / f"{firmware}.img", medium.work / f"{firmware}-installed"
    if REUSES and done.is_file():
        return disk
    blank_disk(disk)
    stick = stick_of(medium, medium.work / f"{firmware}-seed.img")
    drives = (Drive(medium.iso, "usb", read_only=True, boot=True), Drive(stick, "usb"), Drive(disk, "virtio", SERIAL))
    with Guest(Plan(firmware, drives), medium.work / f"{firmware}-install.log") as guest:
        guest.wait_for(r"R1 Box is installed|was not installed", INSTALL_S)
        took_s = guest.wait_ended(300)
    log = read_file(stick, "r1box-install.log")
    assert log is not None
    assert "R1 Box is installed." in log, log[-3000:]
    assert json.loads(read_file(stick, "r1box-installed.json") or "{}")["disk"] == SERIAL
    print(f"\n{firmware}: installed and off after {took_s:.0f} s", flush=True)
    done.touch()
    return disk


def copy_of(disk: Path, name: str) -> Drive:
    """A disk to change, with the same content."""
    target = disk.with_name(name)
    subprocess.run(["cp", "--sparse=always", str(disk), str(target)], check=True, timeout=600)
    return Drive(target, "virtio", SERIAL)


def chat(web: int, key: str) -> int:
    """Ask the box through its forwarded port, by the official client; the answer's tokens."""
    client = OpenAI(base_url=f"http://127.0.0.1:{web}/v1", api_key=key, max_retries=0, timeout=300)
    answer = client.chat.completions.create(
        model=client.models.list().data[0].id,
        messages=goldens("capital")[0].messages,  # type: ignore[arg-type]
        max_tokens=400,
    )
    assert answer.choices[0].message.content
    assert answer.usage is not None
    return answer.usage.completion_tokens


@pytest.mark.timeout(2 * (INSTALL_S + START_S))
@pytest.mark.parametrize("firmware", ["bios", "uefi"])
def test_install_start_and_chat(medium: Medium, firmware: Firmware) -> None:
    target = copy_of(install(medium, firmware), f"{firmware}-start.img")
    web, ssh = free_port(), free_port()
    with Guest(Plan(firmware, (target,), ((web, 8080), (ssh, 22))), medium.work / f"{firmware}-start.log") as guest:
        guest.wait_for(r"Slot A is good", START_S)
        print(f"{firmware}: the slot was good after {guest.elapsed_s():.0f} s", flush=True)
        key = on_guest(medium, ssh, "-u r1box r1box keys create test --quiet --scope all").strip()
        tokens = chat(web, key)
        print(f"{firmware}: {tokens} tokens, after {guest.elapsed_s():.0f} s in all", flush=True)
        assert "A_OK=1 A_TRY=0" in " ".join(on_guest(medium, ssh, "grub-editenv /efi/grub/grubenv list").split())
        failed = on_guest(medium, ssh, "systemctl --failed --no-legend --plain")
        assert failed.strip() == ""
        on_guest(medium, ssh, "systemctl poweroff --no-block")
        guest.wait_ended(300)


@pytest.mark.timeout(INSTALL_S + START_S)
@pytest.mark.parametrize("firmware", ["uefi", "uefi-secure"])
def test_a_disk_of_old_firmware_starts_in_uefi_too(medium: Medium, firmware: Firmware) -> None:
    target = copy_of(install(medium, "bios"), f"other-{firmware}.img")
    with Guest(Plan(firmware, (target,)), medium.work / f"other-{firmware}.log") as guest:
        if firmware == "uefi-secure":
            guest.wait_for("Secure boot enabled", START_S)
        guest.wait_for(r"Slot A is good", START_S)
        print(f"{firmware}, installed in old firmware: good after {guest.elapsed_s():.0f} s", flush=True)


@pytest.mark.timeout(INSTALL_S)
def test_the_medium_starts_with_secure_boot(medium: Medium) -> None:
    plan = Plan("uefi-secure", (Drive(medium.iso, "usb", read_only=True, boot=True),))
    with Guest(plan, medium.work / "medium-secure.log") as guest:
        guest.wait_for("Secure boot enabled", START_S)
        guest.wait_for("this medium installs from an answer file", START_S)
        print(f"secure boot: the medium asks for its answers after {guest.elapsed_s():.0f} s", flush=True)
