"""Commands that other files name exist: console scripts, the unit's ExecStart, CI's make test."""

from __future__ import annotations

import configparser
import importlib
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT


def scripts() -> dict[str, str]:
    found: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    return found


def unit() -> configparser.ConfigParser:
    """The unit; of a key that stands there several times the last is kept, enough for what is asked here."""
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[method-assign,assignment]  # systemd's names have capitals
    parser.read(ROOT / "systemd" / "r1box.service", encoding="utf-8")
    return parser


@pytest.mark.parametrize("name", sorted(scripts()))
def test_console_scripts_lead_somewhere(name: str) -> None:
    module, _, function = scripts()[name].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_the_units_command_is_one_that_the_command_line_knows(tmp_path: Path) -> None:
    program, command, *arguments = shlex.split(unit()["Service"]["ExecStart"])
    assert Path(program).name in scripts()
    done = subprocess.run(
        [sys.executable, "-m", "appliance", command, "--help"],
        cwd=ROOT,
        env={**os.environ, "HOME": str(tmp_path), "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    known = set(re.findall(r"--[a-z][a-z-]*", done.stdout))
    assert {argument.partition("=")[0] for argument in arguments if argument.startswith("--")} - known == set()


def test_the_unit_runs_without_rights() -> None:
    service = unit()["Service"]
    assert service["User"] == "r1box"
    assert service["NoNewPrivileges"] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["CapabilityBoundingSet"] == ""
    assert service["StateDirectory"] == "r1box"


def test_the_unit_waits_for_word_of_the_daemon_and_watches_it() -> None:
    from appliance.daemon import SHUTDOWN_TIMEOUT_S
    from appliance.system.notify import STARTING_BEAT_S, STARTING_GRACE_S

    service = unit()["Service"]
    assert service["Type"] == "notify"
    assert int(service["WatchdogSec"]) >= 2 * STARTING_BEAT_S
    assert int(service["TimeoutStartSec"]) >= STARTING_GRACE_S >= 2 * STARTING_BEAT_S
    assert int(service["TimeoutStopSec"]) > SHUTDOWN_TIMEOUT_S


def test_the_unit_lets_the_daemon_list_the_machines_addresses() -> None:
    """getifaddrs(3) of glibc asks the kernel over netlink: without it a start on 0.0.0.0 ended with EAFNOSUPPORT."""
    assert set(unit()["Service"]["RestrictAddressFamilies"].split()) == {"AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"}


def test_the_units_device_patterns_are_ones_that_systemd_knows() -> None:
    """systemd.resource-control(5): patterns work for groups of devices (char-..., block-...), never for paths."""
    lines = (ROOT / "systemd" / "r1box.service").read_text(encoding="utf-8").splitlines()
    devices = [line.partition("=")[2].split()[0] for line in lines if line.startswith("DeviceAllow=")]
    assert "char-nvidia*" in devices
    assert [device for device in devices if device.startswith("/") and set(device) & set("*?[")] == []
    assert [device for device in devices if not device.startswith(("/dev/", "char-"))] == []


def test_what_the_preset_enables_and_the_targets_want_is_there() -> None:
    units = {path.name for path in (ROOT / "systemd").iterdir()}
    preset = (ROOT / "systemd" / "r1box.preset").read_text(encoding="utf-8").splitlines()
    enabled = {line.split()[1] for line in preset if line.startswith("enable ")}
    assert enabled == {"r1box.service", "r1box.target"}
    assert enabled <= units
    assert unit()["Install"]["WantedBy"] == unit()["Unit"]["PartOf"] == "r1box.target"
    assert set(unit()["Unit"]["Wants"].split()) - units == {"network-online.target"}


def test_the_units_variables_are_settings() -> None:
    from appliance.settings import ENVIRONMENT_PREFIX, Settings

    assignments = shlex.split(unit()["Service"]["Environment"])
    named = [item.partition("=")[0] for item in assignments if item.startswith(ENVIRONMENT_PREFIX)]
    assert named
    assert [name for name in named if name.removeprefix(ENVIRONMENT_PREFIX).lower() not in Settings.model_fields] == []


def test_ci_runs_the_tests() -> None:
    script = ROOT / ".ci" / "run"
    lines = script.read_text(encoding="utf-8").splitlines()
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in lines
    assert lines[-2:] == ["make test", "make test-web"]


def test_the_console_wants_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    from tui.__main__ import main

    assert main([]) == 2
    assert "needs a terminal" in capsys.readouterr().err
