"""The power goes in the middle of an installation; the next start of the same medium goes on where it stopped."""

from __future__ import annotations

import pytest

from tests.vm.conftest import Medium
from tests.vm.machine import Drive, Guest, Plan
from tests.vm.stick import read_file
from tests.vm.test_install import INSTALL_S, SERIAL, START_S, blank_disk, stick_of

CUTS = {"table": "write the partition table", "image": "write .*squashfs", "boot": "start on old firmware"}
"""When the machine is ended: as soon as this step is announced."""


@pytest.mark.timeout(3 * INSTALL_S)
@pytest.mark.parametrize("cut", sorted(CUTS))
def test_the_next_start_goes_on(medium: Medium, cut: str) -> None:
    disk = blank_disk(medium.work / f"cut-{cut}.img")
    stick = stick_of(medium, medium.work / f"cut-{cut}-seed.img")
    target = Drive(disk, "virtio", SERIAL)
    plan = Plan("bios", (Drive(medium.iso, "usb", read_only=True, boot=True), Drive(stick, "usb"), target))
    with Guest(plan, medium.work / f"cut-{cut}-1.log") as guest:
        guest.wait_for(CUTS[cut], INSTALL_S)
        guest.kill()
    assert read_file(stick, "r1box-installed.json") is None
    with Guest(plan, medium.work / f"cut-{cut}-2.log") as guest:
        guest.wait_for("Going on with the installation", INSTALL_S)
        guest.wait_for(r"R1 Box is installed|was not installed", INSTALL_S)
        guest.wait_ended(300)
    assert "R1 Box is installed." in (read_file(stick, "r1box-install.log") or "")
    with Guest(Plan("bios", (target,)), medium.work / f"cut-{cut}-3.log") as guest:
        guest.wait_for("Slot A is good", START_S)
