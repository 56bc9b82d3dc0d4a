"""Names and addresses of this machine."""

from __future__ import annotations

import ipaddress
import socket

import psutil
import pytest

from appliance.system import names as module
from appliance.system.names import addresses, is_loopback, names


def test_names_of_a_box_on_one_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "Ward3.hospital.example")
    found = names("192.168.7.20", "r1box", ["ai.hospital.example"])
    assert found[:6] == (
        "ai.hospital.example",
        "ward3.hospital.example",
        "ward3",
        "ward3.local",
        "r1box.local",
        "192.168.7.20",
    )
    assert found[6:] == module.LOCAL_NAMES


def test_every_network_is_all_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "addresses", lambda: ("10.0.0.5", "fd00::5"))
    assert {"10.0.0.5", "fd00::5"} <= set(names("0.0.0.0", None))
    assert "10.0.0.5" not in names("10.0.0.9", None)


def test_addresses_are_usable_by_others() -> None:
    for text in addresses():
        address = ipaddress.ip_address(text)
        assert not address.is_loopback
        assert not address.is_link_local


def test_a_sandbox_without_netlink(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> None:
        raise OSError(97, "Address family not supported by protocol")

    monkeypatch.setattr(psutil, "net_if_stats", refused)
    assert addresses() == ()


@pytest.mark.parametrize(
    ("host", "alone"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("10.0.0.1", False), ("box", False)],
)
def test_is_loopback(host: str, alone: bool) -> None:
    assert is_loopback(host) is alone
