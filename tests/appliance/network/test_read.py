"""What real commands printed, read (tests/fixtures/network), and what is said where commands are missing or print
nonsense."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.network.read import Reader
from appliance.network.tools import Tools
from drivers.command import CommandFailed, CommandResult, FailureKind

FIXTURES = Path(__file__).parents[2] / "fixtures" / "network"
NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
LISTS = {
    "ip -j -d address show": "ip-address.json",
    "ip -j route show default": "ip-route.json",
}


class Recorded(Tools):
    """Commands by their whole line; a missing one is not found."""

    def __init__(self, told: dict[str, str], root: Path = Path("/none")) -> None:
        super().__init__(root)
        self._told = {**{line: (FIXTURES / name).read_text() for line, name in LISTS.items()}, **told}

    def ask(self, *argv: str) -> str:
        line = " ".join(argv)
        if line not in self._told:
            result = CommandResult(argv, None, "", "", 0.0)
            raise CommandFailed(FailureKind.NOT_FOUND, f"{argv[0]} was not found.", None, line, result)
        return self._told[line]


def networkd() -> dict[str, str]:
    return {"networkctl --json=short list": (FIXTURES / "networkctl-list.json").read_text()}


def test_networkd(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/resolv.conf").write_text("# made up\nnameserver 10.9.0.1\nnameserver fe80::1%eth0\nsearch ward\n")
    (tmp_path / "sys/class/net/eth0").mkdir(parents=True)
    (tmp_path / "sys/class/net/eth0/speed").write_text("10000\n")
    found = Reader(Recorded(networkd(), tmp_path), lambda: "ward-3", lambda: NOW).read()
    assert [one.name for one in found.interfaces] == ["eth0"]
    eth0 = found.interfaces[0]
    assert (eth0.manager, eth0.source) == ("networkd", "/etc/systemd/network/20-r1box.network")
    assert (eth0.mode, eth0.addresses, eth0.gateways) == ("static", ("10.9.0.2/24",), ("10.9.0.1",))
    assert (eth0.dns, eth0.up, eth0.carrier, eth0.speed_mbps) == (("10.9.0.1",), True, True, 10000)
    assert found.dns == ("10.9.0.1", "fe80::1%eth0")
    assert (found.clock.service, found.clock.zone, found.clock.synchronized) == (None, None, None)


def test_without_a_manager_a_virtual_card_is_no_card() -> None:
    found = Reader(Recorded({}), lambda: "ward-3", lambda: NOW).read()
    assert found.interfaces == ()
    assert (found.hostname, found.dns) == ("ward-3", ())


@pytest.mark.parametrize("text", ["", "null", "{}", "[1, 2]", '{"Interfaces": 3}', '{"Interfaces": [{"Name": 1}]}'])
def test_nonsense_is_unknown_and_no_failure(text: str) -> None:
    told = {"networkctl --json=short list": text, "ip -j -d address show": text, "ip -j route show default": text}
    assert Reader(Recorded(told), lambda: "ward-3", lambda: NOW).read().interfaces == ()


def test_the_clock_and_name_servers() -> None:
    told = {
        "timedatectl show": "Timezone=Asia/Shanghai\nLocalRTC=no\nCanNTP=yes\nNTP=yes\nNTPSynchronized=no\n",
        "timedatectl show-timesync": "LinkNTPServers=10.9.0.5\nSystemNTPServers=ntp.ward.example 10.9.0.5\n"
        "FallbackNTPServers=0.debian.pool.ntp.org\nServerName=10.9.0.5\nServerAddress=10.9.0.5\n",
        "resolvectl dns": "Global:\nLink 2 (eth0): 10.9.0.1 fe80::1%2 10.9.0.2#dns.ward.example\nLink 3 (eth1):\n",
    }
    found = Reader(Recorded(told), lambda: "ward-3", lambda: NOW).read()
    assert found.dns == ("10.9.0.1", "fe80::1%2", "10.9.0.2#dns.ward.example")
    assert (found.clock.zone, found.clock.synchronized, found.clock.service) == (
        "Asia/Shanghai",
        False,
        "systemd-timesyncd",
    )
    assert (found.clock.servers, found.clock.server) == (("10.9.0.5", "ntp.ward.example"), "10.9.0.5")
    other = {**told, "timedatectl show": "NTP=no\n"}
    assert Reader(Recorded(other), lambda: "ward-3", lambda: NOW).clock().service is None


def test_networkmanager() -> None:
    told = {**networkd(), **json.loads((FIXTURES / "nmcli.json").read_text())}
    eth0 = Reader(Recorded(told), lambda: "ward-3", lambda: NOW).read().interfaces[0]
    assert (eth0.manager, eth0.source, eth0.mode) == ("networkmanager", "Wired: room 3", "static")
    assert eth0.dns == ("10.9.0.1",)
    told["nmcli -t -f IP4.DNS,IP6.DNS device show eth0"] = "IP4.DNS[1]:10.9.0.1\nIP6.DNS[1]:fd00\\:\\:1\n"
    eth0 = Reader(Recorded(told), lambda: "ward-3", lambda: NOW).read().interfaces[0]
    assert eth0.dns == ("10.9.0.1", "fd00::1")
