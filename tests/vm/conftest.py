"""Machines of the medium's tests.

These tests need a finished image (make iso), QEMU and its firmware, mtools and ssh, and many minutes: they are
collected only when the command line names this folder, as `make test-vm` does. Named, they fail where something is
missing. Updates need an image with a test authority:

    make authority SIGNER=build/test-signer; sudo make iso UPDATE_CA=build/test-signer/update-ca.pem

R1BOX_VM_REUSE=1 takes the medium and the installed disks of the last run again, each disk as a copy.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from installer.media.live_build import AMD64, hybrid_argv
from tests.e2e.box import TINY_R1

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PROGRAM = Path(sys.executable).parent / "r1box"
REUSES = os.environ.get("R1BOX_VM_REUSE") == "1"
TOOLS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "xorriso": "xorriso",
    "mksquashfs": "squashfs-tools",
    "mcopy": "mtools",
    "mkfs.vfat": "dosfstools",
    "ssh": "openssh-client",
    "openssl": "openssl",
    "rauc": "rauc",
}


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    named = [Path(argument.partition("::")[0]).resolve() for argument in config.args]
    return None if any(path == HERE or HERE in path.parents for path in named) else True


@dataclass(frozen=True)
class Medium:
    """An image that accepts the test's bundles, a bundle of the tiny R1, and the keys to log in with. ``work`` is the
    folder for disks and logs."""

    iso: Path
    bundle: Path
    ssh_key: Path
    work: Path


@pytest.fixture(scope="session")
def medium() -> Medium:
    missing = sorted({package for tool, package in TOOLS.items() if shutil.which(tool) is None})
    assert not missing, f"apt-get install {' '.join(missing)}"
    binary = ROOT / "build/iso/live-build/binary"
    assert (binary / "live/r1box.json").is_file(), "There is no image yet: make iso"
    work = Path(os.environ.get("R1BOX_VM_WORK", str(ROOT / "build/vm")))
    made = Medium(work / "test.iso", work / "tiny-r1", work / "id", work)
    if REUSES and made.iso.is_file():
        return made
    shutil.rmtree(work, ignore_errors=True)
    (work / "keys/usr/lib/r1box/trusted-keys").mkdir(parents=True)
    _run(PROGRAM, "bundle", "keygen", work / "test.key", "--owner", "VM test", "--no-password", work=work)
    shutil.copyfile(work / "test.pub", work / "keys/usr/lib/r1box/trusted-keys/test.pub")
    _run(
        PROGRAM, "bundle", "create", TINY_R1, "--output", work / "tiny-r1", "--sign-with", work / "test.key", work=work
    )
    # The key comes as a second layer over the live system: the image that is installed stays the released one.
    layer = binary / "live/zz-test-keys.squashfs"
    layer.unlink(missing_ok=True)
    _run("mksquashfs", work / "keys", layer, "-noappend", "-quiet", "-all-root", work=work)
    try:
        _run(*hybrid_argv(str(binary), str(work / "test.iso"), AMD64), work=work)
    finally:
        layer.unlink()
    _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", work / "id", work=work)
    return made


def _run(*argv: object, work: Path) -> None:
    environment = {**os.environ, "R1BOX_STATE_DIR": str(work / "state"), "XDG_CONFIG_HOME": str(work / "config")}
    done = subprocess.run(
        [str(word) for word in argv], env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, f"{argv}: {done.stdout[-2000:]} {done.stderr[-2000:]}"
