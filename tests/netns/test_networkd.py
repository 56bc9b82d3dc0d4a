"""A real systemd-networkd with a real bus in namespaces of its own: r1box's file is taken, counted down and taken back.

Needs root, systemd-networkd, dbus-daemon and iproute2; ``make test-net`` runs it. Nothing of the machine is touched:
network, mounts, processes and the host name are private.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

INSIDE = Path(__file__).with_name("inside.py")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What happened inside, by name."""
    folder = tmp_path_factory.mktemp("netns")
    argv = ["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child"]
    done = subprocess.run(
        [*argv, sys.executable, str(INSIDE), str(folder)], capture_output=True, text=True, timeout=150, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads((folder / "told.json").read_text(encoding="utf-8"))
    return found


def test_what_is_there_is_read(told: dict[str, Any]) -> None:
    card = told["start"]["interfaces"][0]
    assert (card["name"], card["manager"], card["mode"]) == ("eth0", "networkd", "static")
    assert (card["addresses"], card["gateways"], card["dns"]) == (["10.9.0.2/24"], ["10.9.0.1"], ["10.9.0.1"])
    assert told["start"]["problem"] is None


def test_a_confirmed_change_is_in_force_and_stays(told: dict[str, Any]) -> None:
    assert told["tried"]["gateway_answers"] is True
    assert told["on_trial"]["addresses"] == ["10.9.0.7/24"]
    assert told["on_trial"]["source"] == "/run/systemd/network/00-r1box-eth0.network"
    assert told["kept"]["addresses"] == ["10.9.0.7/24"]
    assert told["after_reload"]["source"] == "/etc/systemd/network/01-r1box-eth0.network"
    assert told["after_reload"]["addresses"] == ["10.9.0.7/24"]


def test_one_that_nobody_confirms_goes_with_the_helpers_clock(told: dict[str, Any]) -> None:
    """The helper was killed in between and started again."""
    assert told["lost"]["addresses"] == ["10.9.0.66/24"]
    assert told["expired"]["last"]["outcome"] == "expired"
    assert told["came_back"]["addresses"] == ["10.9.0.7/24"]
    assert 14 <= told["expired_after_s"] <= 25


def test_addresses_of_others_are_refused_and_silent_routers_told(told: dict[str, Any]) -> None:
    assert told["taken"]["code"] == "network_address_taken"
    assert told["far_mac"] in told["taken"]["message"]
    assert told["silent"]["gateway_answers"] is False


def test_the_host_name_is_the_kernels_during_the_trial(told: dict[str, Any]) -> None:
    assert told["named"] == "ward-3"
    assert told["unnamed"] == told["first_name"]
