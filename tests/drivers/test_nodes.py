"""Device nodes of a fake tree: plain files stand in for nodes, the access check and the clock are handed in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from drivers.nodes import (
    DeviceNode,
    DeviceNodes,
    group_exists,
    in_container,
    is_there,
    may_open,
    numbered_nodes,
    read_node,
    read_nodes,
    uptime_s,
    user_name,
)


def write(root: Path, name: str, text: str = "", mode: int = 0o660) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_node_that_is_not_there(tmp_path: Path) -> None:
    node = read_node(tmp_path, "/dev/davinci0")
    assert node == DeviceNode("/dev/davinci0")
    assert node.described == "/dev/davinci0 does not exist"


def test_owner_group_and_mode_are_told_in_the_roots_names(tmp_path: Path) -> None:
    path = write(tmp_path, "dev/davinci0")
    os.utime(path, (1000, 1000))
    write(tmp_path, "etc/passwd", f"me:x:{os.geteuid()}:1::/:/bin/sh\n")
    write(tmp_path, "etc/group", f"other:x:77777:\nHwHiAiUser:x:{path.stat().st_gid}:someone,me\n")
    node = read_node(tmp_path, "/dev/davinci0", now=1060.0)
    assert (node.owner, node.group, node.mode, node.age_s) == ("me", "HwHiAiUser", "0660", 60.0)
    assert (node.exists, node.is_device, node.usable) == (True, False, True)
    assert (node.in_group, node.listed_in_group) == (True, True)
    assert node.described == "/dev/davinci0 belongs to me:HwHiAiUser (0660)"
    assert (group_exists(tmp_path, "HwHiAiUser"), group_exists(tmp_path, "video")) == (True, False)


def test_without_the_roots_names_the_systems_or_numbers_are_told(tmp_path: Path) -> None:
    write(tmp_path, "dev/davinci0")
    node = read_node(tmp_path, "/dev/davinci0")
    assert node.owner
    assert node.group
    assert node.listed_in_group is False or node.owner in user_name(tmp_path)
    assert group_exists(tmp_path, "HwHiAiUser") is None


def test_a_real_device_is_told_from_a_file() -> None:
    node = read_node(Path("/"), "/dev/null")
    assert (node.exists, node.is_device, node.usable) == (True, True, True)


def test_a_refused_node(tmp_path: Path) -> None:
    write(tmp_path, "dev/davinci0")
    write(tmp_path, "dev/davinci1")
    write(tmp_path, "proc/uptime", "12.34 40.00\n")
    nodes = read_nodes(
        tmp_path, ["/dev/davinci0", "/dev/davinci1", "/dev/hisi_hdc"], access=lambda path: path.name == "davinci1"
    )
    assert [node.path for node in nodes.refused] == ["/dev/davinci0"]
    assert [node.path for node in nodes.missing] == ["/dev/hisi_hdc"]
    assert nodes.get("/dev/davinci1").usable
    assert not nodes.get("/dev/never-asked").exists
    assert (nodes.any, nodes.uptime_s, nodes.in_container) == (True, 12.34, False)


def test_access_is_the_kernels_answer(tmp_path: Path) -> None:
    path = write(tmp_path, "dev/nvidiactl", mode=0o000)
    assert may_open(path) is (os.geteuid() == 0)
    path.chmod(0o600)
    assert may_open(path)


def test_nodes_are_listed_by_number(tmp_path: Path) -> None:
    for name in ("davinci10", "davinci2", "davinci_manager", "davinci", "davinci²", "davinci-1", "other3"):
        write(tmp_path, f"dev/{name}")
    assert numbered_nodes(tmp_path, "davinci") == ("/dev/davinci2", "/dev/davinci10")
    assert numbered_nodes(tmp_path / "nothing", "davinci") == ()


@pytest.mark.parametrize(
    "mark",
    [".dockerenv", "run/.containerenv", "run/systemd/container", "run/secrets/kubernetes.io/serviceaccount/token"],
)
def test_container_marks(tmp_path: Path, mark: str) -> None:
    assert not in_container(tmp_path)
    write(tmp_path, mark)
    assert in_container(tmp_path)


@pytest.mark.parametrize(
    ("text", "inside"),
    [("12:devices:/kubepods/burstable/pod1\n0::/\n", True), ("0::/init.scope\n", False), ("0::/\n", False)],
)
def test_control_group_of_a_container(tmp_path: Path, text: str, inside: bool) -> None:
    write(tmp_path, "proc/1/cgroup", text)
    assert in_container(tmp_path) is inside


@pytest.mark.parametrize(("text", "value"), [("7.5 1.0", 7.5), ("", None), ("abc", None), ("nan", None), ("-1", None)])
def test_uptime(tmp_path: Path, text: str, value: float | None) -> None:
    assert uptime_s(tmp_path) is None
    write(tmp_path, "proc/uptime", text)
    assert uptime_s(tmp_path) == value


@pytest.mark.parametrize(
    ("uptime", "age", "container", "starting"),
    [
        (100.0, 9999.0, False, True),
        (9999.0, 100.0, False, True),
        (9999.0, 9999.0, False, False),
        (None, None, False, False),
        (100.0, 100.0, True, False),
    ],
)
def test_boot_time_grace(uptime: float | None, age: float | None, container: bool, starting: bool) -> None:
    nodes = DeviceNodes(
        (
            DeviceNode("/dev/davinci0", exists=True, age_s=age),
            DeviceNode("/dev/davinci1", exists=True, usable=True, age_s=1),
        ),
        in_container=container,
        uptime_s=uptime,
    )
    assert nodes.starting(220) is starting


def test_what_cannot_be_a_path_is_not_there(tmp_path: Path) -> None:
    assert is_there(tmp_path)
    assert not is_there(tmp_path / "nothing")
    assert not is_there(tmp_path / ("a" * 5000))
    assert not is_there(tmp_path / "a\0b")
