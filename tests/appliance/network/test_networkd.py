"""The file for systemd-networkd, and nmcli's words."""

from __future__ import annotations

from appliance.network.checks import LinkSettings
from appliance.network.networkd import kept_path, network_text, trial_path
from appliance.network.networkmanager import added

STATIC = LinkSettings("eth0", "static", ("10.0.4.17/24", "fd00::17/64"), ("10.0.4.1", "fe80::1"), ("10.0.4.2",))


def test_what_others_wrote_is_carried_over() -> None:
    before = """\
# of the machine's room
[Match]
MACAddress=52:54:00:12:34:56

[Link]
MTUBytes=9000

[Network]
DHCP=yes
DNS=10.0.0.1
VLAN=ward
VLAN=lab

[Address]
Address=10.0.4.40/24

[Route]
Gateway=10.0.4.254

[Route]
Destination=10.8.0.0/16
Gateway=10.0.4.253

[Route]
Destination=10.9.0.0/16
Gateway=10.0.4.252

[DHCPv4]
UseDNS=yes
RouteMetric=50
"""
    assert network_text(STATIC, [before, "[Network]\nLLDP=yes\n"]).splitlines()[1:] == [
        "[Match]", "Name=eth0", "",
        "[Network]", "Address=10.0.4.17/24", "Address=fd00::17/64", "Gateway=10.0.4.1", "Gateway=fe80::1",
        "DNS=10.0.4.2", "VLAN=ward", "VLAN=lab", "LLDP=yes", "",
        "[Link]", "MTUBytes=9000", "",
        "[Route]", "Destination=10.8.0.0/16", "Gateway=10.0.4.253", "",
        "[Route]", "Destination=10.9.0.0/16", "Gateway=10.0.4.252", "",
        "[DHCPv4]", "UseDNS=yes", "RouteMetric=50",
    ]  # fmt: skip
    dhcp = network_text(LinkSettings("eth0", "dhcp", dns=("10.0.4.9",)), [before]).splitlines()
    assert dhcp[4:7] == ["[Network]", "DHCP=yes", "DNS=10.0.4.9"]
    assert "[DHCPv4]\nUseDNS=no\nRouteMetric=50\n" in "\n".join([*dhcp, ""])
    assert "[DHCPv6]\nUseDNS=no\n" in "\n".join([*dhcp, ""])


def test_its_own_file_comes_to_itself() -> None:
    once = network_text(STATIC)
    assert network_text(STATIC, [once]) == once


def test_names_sort_before_those_of_others() -> None:
    names = [path.rpartition("/")[2] for path in (trial_path("eth0"), kept_path("eth0"))]
    assert sorted([*names, "10-netplan-eth0.network", "20-r1box.network"])[:2] == names


def test_nmclis_words() -> None:
    assert " ".join(added(STATIC)).endswith(
        "ipv4.method manual ipv4.addresses 10.0.4.17/24 ipv4.gateway 10.0.4.1 ipv4.dns 10.0.4.2 "
        "ipv6.method manual ipv6.addresses fd00::17/64 ipv6.gateway fe80::1"
    )
    dhcp = " ".join(added(LinkSettings("eth0", "dhcp", dns=("10.0.4.9",))))
    assert dhcp.startswith("connection add save no type ethernet con-name r1box-eth0 ifname eth0 ")
    assert "ipv4.method auto ipv4.dns 10.0.4.9 ipv4.ignore-auto-dns yes" in dhcp
    assert "ipv6.method auto ipv6.ignore-auto-dns yes" in dhcp
    only_six = " ".join(added(LinkSettings("eth0", "static", ("fd00::17/64",))))
    assert "ipv4.method disabled ipv6.method manual" in only_six
