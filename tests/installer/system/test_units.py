"""The installed units before systemd's own judgement. Collected where systemd-analyze is: a machine that only runs the
program has none. tests/architecture/test_entry_points.py looks at the units everywhere."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from installer.system.files import machine_drop_in
from installer.system.layout import UNITS, Layout
from installer.system.plan import staged_files
from tests.architecture.tree import ROOT
from tests.installer.system.test_facts import GOOD

ANALYZE = shutil.which("systemd-analyze")
MOST_EXPOSURE = 2.0


def installed(root: Path) -> Layout:
    """Everything in its place, with programs that may be started where the units expect some."""
    layout = Layout(root=root)
    for action in staged_files(layout, ROOT):
        action.apply()
    layout.machine_drop_in.parent.mkdir(parents=True)
    layout.machine_drop_in.write_text(machine_drop_in(GOOD), encoding="utf-8")
    for name in ("opt/r1box/.venv/bin/r1box", "usr/bin/nvidia-modprobe"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch(mode=0o755)
    return layout


def analyze(layout: Layout, *arguments: str) -> subprocess.CompletedProcess[str]:
    assert ANALYZE is not None
    return subprocess.run(
        [ANALYZE, *arguments[:1], f"--root={layout.root}", *arguments[1:]],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


if ANALYZE is not None:

    def test_systemd_finds_no_fault_in_the_units(tmp_path: Path) -> None:
        done = analyze(installed(tmp_path), "verify", "--recursive-errors=no", "--man=no", *UNITS)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")

    def test_systemd_finds_no_fault_in_the_mediums_units(tmp_path: Path) -> None:
        layout = installed(tmp_path)
        own = ROOT / "installer/media/live-build/includes.chroot_after_packages"
        shutil.copytree(own, tmp_path, dirs_exist_ok=True)
        for name in ("usr/bin/r1box-install", "usr/bin/ssh-keygen", "bin/mkdir", "bin/rmdir", "bin/umount"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch(mode=0o755)
        names = [path.name for path in sorted((own / "usr/lib/systemd/system").iterdir())]
        assert len(names) >= 3
        done = analyze(layout, "verify", "--recursive-errors=no", "--man=no", *names, "r1box.service")
        assert (done.returncode, done.stdout + done.stderr) == (0, "")

    @pytest.mark.parametrize("line", ["DeviceAllowed=/dev/x rw", "WatchdogSec=often"])
    def test_a_fault_would_be_found(tmp_path: Path, line: str) -> None:
        layout = installed(tmp_path)
        unit = layout.unit("r1box.service")
        before = unit.read_text(encoding="utf-8").splitlines()
        unit.write_text("\n".join(before).replace("WatchdogSec=60", line), encoding="utf-8")
        done = analyze(layout, "verify", "--recursive-errors=no", "--man=no", *UNITS)
        assert f"{unit}:{before.index('WatchdogSec=60') + 1}: " in done.stderr

    def test_the_service_is_little_exposed(tmp_path: Path) -> None:
        done = analyze(installed(tmp_path), "security", "--offline=yes", "--no-pager", "r1box.service")
        level = re.search(r"exposure level for r1box\.service: ([\d.]+)", done.stdout)
        assert level is not None, done.stdout + done.stderr
        assert float(level[1]) <= MOST_EXPOSURE
