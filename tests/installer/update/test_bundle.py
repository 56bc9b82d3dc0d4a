"""Bundles by the real tools: RAUC makes and reads them, openssl signs; the hook is run by a shell."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from installer.media.bundle import HOOK, TOOLS, BundleOrder, make_authority, make_bundle
from installer.media.iso import IsoFailed


@pytest.fixture
def hook(tmp_path: Path) -> Path:
    (tmp_path / "hook").write_text(HOOK)
    (tmp_path / "hook").chmod(0o755)
    program = tmp_path / "bin/r1box-install"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$@" > "$ASKED"\necho "no" >&2\nexit $ANSWER\n')
    program.chmod(0o755)
    return tmp_path / "hook"


def run_hook(hook: Path, compatible: str, answer: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": f"{hook.parent / 'bin'}:{os.environ['PATH']}",
        "RAUC_MF_COMPATIBLE": compatible,
        "RAUC_SYSTEM_COMPATIBLE": "r1box-x86_64",
        "ASKED": str(hook.parent / "asked"),
        "ANSWER": str(answer),
    }
    argv = [str(hook), "install-check"]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_the_hook_asks_the_running_system(hook: Path) -> None:
    assert run_hook(hook, "r1box-x86_64").returncode == 0
    assert (hook.parent / "asked").read_text() == f"update judge {hook.parent}\n"
    assert run_hook(hook, "r1box-x86_64", answer=10).returncode == 10


def test_the_hook_refuses_what_is_for_others(hook: Path) -> None:
    done = run_hook(hook, "r1box-aarch64")
    assert (done.returncode, done.stderr) == (10, "it is for r1box-aarch64 and this box is r1box-x86_64\n")
    assert not (hook.parent / "asked").exists()


def test_an_authority_is_made_once_and_signs(tmp_path: Path) -> None:
    authority, certificate, key = make_authority(tmp_path / "ca", "test")
    assert key.stat().st_mode & 0o077 == 0
    before = authority.read_bytes()
    assert make_authority(tmp_path / "ca", "test") == (authority, certificate, key)
    assert authority.read_bytes() == before
    argv = ["openssl", "verify", "-CAfile", str(authority), str(certificate)]
    assert subprocess.run(argv, capture_output=True, check=False, timeout=60).returncode == 0


def test_a_squashfs_without_a_kernel_is_no_system(tmp_path: Path) -> None:
    paths = make_authority(tmp_path / "ca", "test")
    image = tmp_path / "filesystem.squashfs"
    image.write_bytes(b"hsqs" + b"\0" * 4096)
    order = BundleOrder("0.2.0", "x86_64", image, Path(sys.prefix), paths[1], paths[2], tmp_path / "w", tmp_path / "o")
    with pytest.raises(IsoFailed):
        make_bundle(order)
    assert not (tmp_path / "w/bundle").exists()
    assert set(TOOLS) == {"rauc", "mksquashfs", "unsquashfs", "openssl"}
