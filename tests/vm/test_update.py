"""Updates of an installed box in a virtual machine: a newer system and back, and one that does not serve.

One machine runs through all of it and is never told to restart from outside.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from installer.media.bundle import AUTHORITY, CERTIFICATE, KEY, BundleOrder, make_bundle
from tests.vm.conftest import REUSES, ROOT, Medium
from tests.vm.machine import Drive, Guest, Plan
from tests.vm.stick import make_stick
from tests.vm.test_install import INSTALL_S, START_S, chat, copy_of, free_port, install, on_guest

SIGNER = ROOT / "build/test-signer"
SQUASHFS = ROOT / "build/iso/live-build/binary/live/filesystem.squashfs"
UPDATE_S = 1800
POLL_S = 2.0
BROKEN = "[Service]\nExecStart=\nExecStart=/bin/false\nRestartSec=2\n"


@pytest.fixture(scope="module")
def stick(medium: Medium) -> Path:
    """A stick with a newer system, and with one whose service does not come up."""
    image = medium.work / "updates.img"
    if REUSES and image.is_file():
        return image
    authority = ROOT / "build/iso/live-build/chroot/usr/lib/r1box/update-ca.pem"
    assert (SIGNER / AUTHORITY).read_bytes() == authority.read_bytes(), "the image has another authority: see conftest"
    tree = medium.work / "broken"
    broken = medium.work / "broken.squashfs"
    _run("unsquashfs", "-quiet", "-no-progress", "-dest", tree, SQUASHFS)
    drop_in = tree / "etc/systemd/system/r1box.service.d/99-broken.conf"
    drop_in.write_text(BROKEN)
    _run("mksquashfs", tree, broken, "-noappend", "-quiet", "-no-progress", "-comp", "zstd", "-Xcompression-level", "3")
    shutil.rmtree(tree)
    made = [_bundle(medium, "0.2.0", SQUASHFS), _bundle(medium, "0.3.0", broken)]
    broken.unlink()
    size_mib = sum(file.stat().st_size for file in made) // (1 << 20) + 64
    make_stick(image, "UPDATES", size_mib, {}, made)
    return image


def _bundle(medium: Medium, version: str, squashfs: Path) -> Path:
    order = BundleOrder(
        version, "x86_64", squashfs, ROOT / "dist/r1box", SIGNER / CERTIFICATE, SIGNER / KEY, medium.work, medium.work
    )
    return make_bundle(order)


def _run(*argv: object) -> None:
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


class Console:
    """The box's admin API through the forwarded port."""

    def __init__(self, guest: Guest, web: int, key: str) -> None:
        self._guest = guest
        headers = {"Authorization": f"Bearer {key}"}
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{web}", headers=headers, timeout=120, trust_env=False)

    def updates(self) -> dict[str, Any]:
        told: dict[str, Any] = self._client.get("/api/admin/updates").raise_for_status().json()
        return told

    def states(self) -> dict[str, tuple[str, str | None]]:
        return {one["name"]: (one["state"], one["version"]) for one in self.updates()["slots"]}

    def install(self, name: str) -> float:
        """Have an update of the stick written and the machine restarted; the seconds of the writing."""
        begun = time.monotonic()
        job = self.begin(name)
        while job["state"] in {"queued", "running"}:
            time.sleep(POLL_S)
            try:
                job = self._client.get(f"/api/admin/jobs/{job['id']}").json()
            except httpx.TransportError:
                # It restarts already.
                break
        assert job["state"] != "failed", job["error"]
        return time.monotonic() - begun

    def begin(self, name: str) -> dict[str, Any]:
        """The job that writes an update of the stick."""
        path = next(one["path"] for one in self.updates()["files"] if name in one["name"])
        answer = self._client.post("/api/admin/updates", json={"path": path, "restart": True})
        assert answer.status_code == 202, answer.text
        job: dict[str, Any] = answer.json()
        return job

    def wait_for_phase(self, job: dict[str, Any], words: str) -> None:
        """Until RAUC says that it does this."""
        while words not in (job["progress"]["phase"] or ""):
            assert job["state"] in {"queued", "running"}, job
            time.sleep(POLL_S / 4)
            job = self._client.get(f"/api/admin/jobs/{job['id']}").json()

    def roll_back(self) -> None:
        answer = self._client.post("/api/admin/updates/rollback", json={})
        assert answer.status_code == 202, answer.text


@pytest.mark.timeout(INSTALL_S + 5 * START_S + 2 * UPDATE_S)
def test_forwards_back_and_back_by_itself(medium: Medium, stick: Path) -> None:
    target = copy_of(install(medium, "bios"), "update.img")
    web, ssh = free_port(), free_port()
    plan = Plan("bios", (target, Drive(stick, "usb")), ((web, 8080), (ssh, 22)), restarts=True)
    with Guest(plan, medium.work / "update.log") as guest:
        guest.wait_for("Slot A is good", START_S)
        key = on_guest(medium, ssh, "-u r1box r1box keys create test --quiet --scope all").strip()
        console = Console(guest, web, key)
        assert console.states() == {"A": ("running", "0.1.0"), "B": ("empty", None)}

        took_s, begun = console.install("0.2.0"), guest.elapsed_s()
        guest.wait_for("Slot B is good", START_S)
        print(f"\nupdate: written in {took_s:.0f} s, good {guest.elapsed_s() - begun:.0f} s later", flush=True)
        assert console.states() == {"A": ("ready", "0.1.0"), "B": ("running", "0.2.0")}
        assert chat(web, key) > 0

        begun = guest.elapsed_s()
        console.roll_back()
        guest.wait_for_next("Slot A is good", START_S)
        print(f"rollback: one command, good {guest.elapsed_s() - begun:.0f} s later", flush=True)
        assert console.states() == {"A": ("running", "0.1.0"), "B": ("ready", "0.2.0")}

        before = len(guest.lines)
        took_s, begun = console.install("0.3.0"), guest.elapsed_s()
        guest.wait_for("The service does not come up", START_S)
        failed_s = guest.elapsed_s() - begun
        guest.wait_for("Slot B was started before and did not serve", START_S)
        print(
            f"broken update: gave up after {failed_s:.0f} s, back after {guest.elapsed_s() - begun:.0f} s", flush=True
        )
        guest.wait_for("Slot A is good", START_S, before)
        told = console.updates()
        assert (told["booted"], told["can_roll_back"]) == ("A", False)
        assert console.states()["B"][0] == "empty"
        assert chat(web, key) > 0
        on_guest(medium, ssh, "systemctl poweroff --no-block")
        guest.wait_ended(300)


@pytest.mark.timeout(INSTALL_S + 2 * START_S + UPDATE_S)
def test_a_power_cut_while_an_update_is_written(medium: Medium, stick: Path) -> None:
    target = copy_of(install(medium, "bios"), "update-cut.img")
    web, ssh = free_port(), free_port()
    plan = Plan("bios", (target, Drive(stick, "usb")), ((web, 8080), (ssh, 22)), restarts=True)
    with Guest(plan, medium.work / "update-cut-1.log") as guest:
        guest.wait_for("Slot A is good", START_S)
        key = on_guest(medium, ssh, "-u r1box r1box keys create test --quiet --scope all").strip()
        console = Console(guest, web, key)
        console.wait_for_phase(console.begin("0.2.0"), "Copying image to rootfs.1")
        guest.kill()
    with Guest(plan, medium.work / "update-cut-2.log") as guest:
        guest.wait_for("Slot A is good", START_S)
        told = Console(guest, web, key).updates()
        assert (told["booted"], told["next"], told["can_roll_back"]) == ("A", "A", False)
        assert chat(web, key) > 0
