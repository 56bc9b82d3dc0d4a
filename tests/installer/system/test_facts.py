"""What the machine is asked, and what is refused with which words."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from installer.system.facts import Facts, gather, problems
from installer.system.layout import Layout, prefix_problem
from tests.installer.system.machine import make_machine

TREE = Path("/usr/local/src/r1box")
GOOD = Facts(
    os_name="Debian GNU/Linux 12 (bookworm)",
    os_ids=("debian",),
    is_root=True,
    systemd=252,
    missing_tools=(),
    booted=True,
    groups=(),
    nodes=(),
    has_user=False,
    enabled=False,
    active=False,
    python=Path("/usr/bin/python3.11"),
)


def messages(found: Facts, layout: Layout, tree: Path = TREE) -> list[str]:
    return [problem.message for problem in problems(found, layout, tree)]


def test_the_machine_is_read_and_not_changed(tmp_path: Path) -> None:
    machine = make_machine(tmp_path, version=255)
    for name in ("davinci10", "davinci2", "davinci_manager", "null"):
        (machine.root / "dev" / name).touch()
    found = gather(Layout(root=machine.root), machine.environ)
    assert found.os_ids == ("debian",)
    assert found.os_name == "Debian GNU/Linux 12 (bookworm)"
    assert found.systemd == 255
    assert found.booted
    assert not found.enabled
    assert not found.active
    assert found.nodes == ("davinci2", "davinci10")
    assert found.is_root == (os.geteuid() == 0)
    assert machine.calls() == []


def test_a_derivative_counts_as_what_it_is_like(tmp_path: Path) -> None:
    machine = make_machine(tmp_path, os_release="ID=linuxmint\nID_LIKE='ubuntu debian'\n# ID=fedora\n")
    assert gather(Layout(root=machine.root), machine.environ).os_ids == ("linuxmint", "ubuntu", "debian")


def test_an_empty_machine_is_described_too(tmp_path: Path) -> None:
    found = gather(Layout(root=tmp_path), {"PATH": str(tmp_path)})
    assert found.missing_tools == ("systemctl", "systemd-sysusers", "systemd-tmpfiles")
    assert found.systemd is None
    assert not found.booted
    assert found.nodes == ()
    assert found.os_name == "an unknown system"


def test_nothing_is_refused_on_a_good_machine(tmp_path: Path) -> None:
    assert messages(GOOD, Layout(root=tmp_path)) == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"os_ids": ("openeuler",), "os_name": "openEuler 22.03"}, "this is openEuler 22.03"),
        ({"is_root": False}, "needs root"),
        ({"missing_tools": ("systemctl",), "systemd": None}, "systemctl not found"),
        ({"systemd": 247}, "version is 247; 249"),
        ({"systemd": None}, "version is unknown"),
        ({"python": Path("/home/r1box/python")}, "/home/r1box/python lies in a home folder"),
    ],
)
def test_what_cannot_work_is_refused(tmp_path: Path, change: dict[str, object], word: str) -> None:
    [message] = messages(dataclasses.replace(GOOD, **change), Layout(root=tmp_path))  # type: ignore[arg-type]
    assert word in message


def test_all_reasons_are_told_at_once(tmp_path: Path) -> None:
    assert len(messages(dataclasses.replace(GOOD, is_root=False, os_ids=("arch",)), Layout(root=tmp_path))) == 2


def test_what_hides_or_blocks_an_installed_file_is_named(tmp_path: Path) -> None:
    layout = Layout(root=tmp_path)
    for path in (layout.operators_unit("r1box.service"), layout.link("r1box")):
        path.parent.mkdir(parents=True)
        path.touch()
    found = problems(GOOD, layout, TREE)
    assert [problem.hint.split()[0] for problem in found] == ["Remove", "Move"]


def test_a_tree_in_the_programs_folder_is_refused(tmp_path: Path) -> None:
    assert "this source tree lies in /opt/r1box" in messages(GOOD, Layout(), Path("/opt/r1box"))[0]
    assert "this source tree lies in" in messages(GOOD, Layout(root=tmp_path), tmp_path / "opt/r1box/src")[0]


@pytest.mark.parametrize("prefix", ["/opt/r1box", "/srv/r1box", "/usr/local/lib/r1box", "/opt/r1.box-2"])
def test_folders_that_can_be_the_programs(prefix: str) -> None:
    assert prefix_problem(Path(prefix)) is None


@pytest.mark.parametrize(
    "prefix",
    [
        *(
            "/",
            "/opt",
            "opt/r1box",
            "/opt/../etc/x",
            "/opt/r1 box",
            "/opt/%h",
            "/home/r1box/x",
            "/run/r1box",
            "/tmp/x/y",
        ),
        *("/usr/local", "/var/lib", "/opt/r1box\n[Service]"),
    ],
)
def test_folders_that_cannot_be_the_programs(prefix: str) -> None:
    assert prefix_problem(Path(prefix)) is not None
