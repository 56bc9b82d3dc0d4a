"""What a change of the network is refused for, and what it comes to."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.network.checks import check_hostname, settle
from appliance.network.errors import NetworkInvalid
from appliance.schemas.network import Clock, Interface, Network, NetworkChange

ETH0 = Interface(
    name="eth0",
    up=True,
    carrier=True,
    mode="static",
    addresses=("10.0.4.17/24",),
    gateways=("10.0.4.1",),
    dns=("10.0.4.1",),
    manager="networkd",
    source="/etc/systemd/network/20-r1box.network",
)
ETH1 = Interface(name="eth1", addresses=("192.168.7.2/24",), mode="static")
CLOCK = Clock(now=datetime(2026, 1, 2, tzinfo=UTC), service="systemd-timesyncd")
BOX = Network(hostname="r1box", interfaces=(ETH0, ETH1), clock=CLOCK)


def of(**values: Any) -> NetworkChange:
    return NetworkChange.model_validate(values)


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        (of(addresses=["10.0.4.18"]), "network_address_invalid", "addresses"),
        (of(addresses=["10.0.4.300/24"]), "network_address_invalid", "addresses"),
        (of(addresses=["10.0.4.0/24"]), "network_address_invalid", "addresses"),
        (of(addresses=["10.0.4.255/24"]), "network_address_invalid", "addresses"),
        (of(addresses=["127.0.0.1/8"]), "network_address_invalid", "addresses"),
        (of(addresses=["224.0.0.1/4"]), "network_address_invalid", "addresses"),
        (of(addresses=["169.254.3.4/16"]), "network_address_invalid", "addresses"),
        (of(addresses=["10.0.4.18/0"]), "network_address_invalid", "addresses"),
        (of(addresses=["192.168.7.2/24"]), "network_address_taken", "addresses"),
        (of(addresses=[]), "network_mode_conflict", "addresses"),
        (of(gateways=["10.0.5.1"]), "network_gateway_outside", "gateways"),
        (of(gateways=["10.0.4.17"]), "network_gateway_outside", "gateways"),
        (of(gateways=["10.0.4.0"]), "network_gateway_outside", "gateways"),
        (of(gateways=["router"]), "network_gateway_outside", "gateways"),
        (of(gateways=["10.0.4.1", "10.0.4.2"]), "network_mode_conflict", "gateways"),
        (of(mode="dhcp", addresses=["10.0.4.18/24"]), "network_mode_conflict", "mode"),
        (of(dns=["dns.example.org"]), "network_server_invalid", "dns"),
        (of(ntp=["no host"]), "network_server_invalid", "ntp"),
        (of(ntp=["300.1.1.1"]), "network_server_invalid", "ntp"),
        (of(hostname="ward_3"), "network_hostname_invalid", "hostname"),
        (of(hostname="-ward"), "network_hostname_invalid", "hostname"),
        (of(hostname="a" * 64), "network_hostname_invalid", "hostname"),
        (of(hostname="ward.3"), "network_hostname_invalid", "hostname"),
        (of(hostname="localhost"), "network_hostname_invalid", "hostname"),
        (of(interface="eth7", dns=["10.0.4.2"]), "network_interface_unknown", "interface"),
        (of(interface="eth1", dns=["10.0.4.2"]), "network_interface_unmanaged", "interface"),
        (of(addresses=["10.0.4.17/24"], gateways=["10.0.4.1"]), "network_unchanged", "change"),
        (of(hostname="R1BOX"), "network_unchanged", "change"),
        (of(), "network_unchanged", "change"),
    ],
)
def test_what_is_refused_says_where_and_why(change: NetworkChange, code: str, param: str) -> None:
    with pytest.raises(NetworkInvalid) as refused:
        settle(change, BOX)
    assert (refused.value.code, refused.value.details["param"]) == (code, param)
    assert refused.value.message


def test_what_is_left_out_stays() -> None:
    settled = settle(of(addresses=["10.0.4.18/24"]), BOX)
    assert settled.link is not None
    assert (settled.link.interface, settled.link.gateways, settled.link.dns) == ("eth0", ("10.0.4.1",), ("10.0.4.1",))
    assert [line.what for line in settled.lines] == ["addresses"]
    assert settled.new_addresses == ("10.0.4.18/24",)
    assert (settled.ntp, settled.hostname, settled.warnings) == (None, None, ())


def test_a_gateway_that_is_out_of_reach_now_goes() -> None:
    settled = settle(of(addresses=["172.16.0.9/16"]), BOX)
    assert settled.link is not None
    assert settled.link.gateways == ()
    assert settled.warnings == ("no_gateway",)
    assert [line.what for line in settled.lines] == ["addresses", "gateways"]


def test_other_warnings() -> None:
    assert settle(of(dns=[]), BOX).warnings == ("no_dns",)
    assert settle(of(dns=[f"10.0.4.{n}" for n in range(2, 6)]), BOX).warnings == ("many_dns",)
    assert "same_network" in settle(of(addresses=["192.168.7.9/24"], gateways=[]), BOX).warnings


def test_dhcp_forgets_what_was_given_and_takes_the_networks_servers() -> None:
    settled = settle(of(mode="dhcp"), BOX)
    assert settled.link is not None
    assert (settled.link.mode, settled.link.addresses, settled.link.dns) == ("dhcp", (), ())
    assert [line.what for line in settled.lines] == ["mode"]
    back = BOX.model_copy(update={"interfaces": (ETH0.model_copy(update={"mode": "dhcp"}), ETH1)})
    assert [line.what for line in settle(of(mode="static"), back).lines] == ["mode"]


def test_which_card_is_meant() -> None:
    two = BOX.model_copy(
        update={"interfaces": (ETH0, ETH1.model_copy(update={"manager": "networkd", "carrier": False}))}
    )
    settled = settle(of(dns=["10.0.4.9"]), two)
    assert settled.link is not None
    assert settled.link.interface == "eth0"
    both = two.model_copy(
        update={"interfaces": tuple(one.model_copy(update={"carrier": True}) for one in two.interfaces)}
    )
    with pytest.raises(NetworkInvalid, match="several network cards"):
        settle(of(dns=["10.0.4.9"]), both)
    none = BOX.model_copy(update={"interfaces": (ETH1,)})
    with pytest.raises(NetworkInvalid, match="Nobody keeps"):
        settle(of(dns=["10.0.4.9"]), none)
    # The name has nothing to do with cards.
    assert settle(of(hostname="Ward-3.Hospital.example."), none).hostname == "ward-3.hospital.example"


def test_time_servers_need_a_service_that_takes_them() -> None:
    assert settle(of(ntp=["NTP.example.org", "10.0.4.1"]), BOX).ntp == ("ntp.example.org", "10.0.4.1")
    other = BOX.model_copy(update={"clock": CLOCK.model_copy(update={"service": None})})
    with pytest.raises(NetworkInvalid) as refused:
        settle(of(ntp=["10.0.4.1"]), other)
    assert refused.value.code == "network_time_service_unknown"


@given(
    st.ip_addresses(v=4).filter(lambda one: not (one.is_loopback or one.is_multicast or one.is_unspecified)),
    st.integers(1, 32),
    st.data(),
)
def test_every_gateway_in_the_network_is_taken_and_no_other(address: Any, prefix: int, data: Any) -> None:
    box = ipaddress.ip_interface(f"{address}/{prefix}")
    gateway = data.draw(st.one_of(st.ip_addresses(v=4), st.ip_addresses(network=box.network)))
    try:
        settled = settle(of(addresses=[str(box)], gateways=[str(gateway)]), BOX)
    except NetworkInvalid as error:
        if error.code == "network_gateway_outside":
            assert gateway not in box.network or gateway in (box.ip, box.network.network_address)
        return
    assert settled.link is not None
    assert gateway in box.network
    assert settled.link.gateways == (str(gateway),)
    # What it comes to comes to itself.
    assert settle(settled.change, BOX) == settled


@given(st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z]([a-z0-9]{0,10}[a-z])?)?", fullmatch=True))
def test_names_by_the_rule_are_taken(name: str) -> None:
    if not name.rpartition(".")[2].isdigit() and not name.startswith("localhost"):
        assert check_hostname(name.upper()) == name
