"""The network of a made-up box: at rest, on trial, and where nothing can be changed."""

from __future__ import annotations

from datetime import timedelta

from appliance.schemas.network import ChangeLine, Clock, Interface, Network, NetworkChange, Trial, TrialEnd
from tests.tui.moments import NOON

ETH0 = Interface(
    name="eno1",
    mac="52:54:00:12:34:56",
    up=True,
    carrier=True,
    speed_mbps=10000,
    mode="static",
    addresses=("10.0.4.17/24", "fd00:4::17/64"),
    gateways=("10.0.4.1",),
    dns=("10.0.4.1", "10.0.4.2"),
    manager="networkd",
    source="/etc/systemd/network/20-r1box.network",
)
ETH1 = Interface(name="eno2", mac="52:54:00:12:34:57", up=True, carrier=False)
LINES = (
    ChangeLine(what="addresses", before=("10.0.4.17/24",), after=("10.0.4.30/24",)),
    ChangeLine(what="hostname", before=("ward-3",), after=("ward-4",)),
)


def network() -> Network:
    """One card with an address, one without a cable; the last change was forgotten."""
    return Network(
        hostname="ward-3",
        interfaces=(ETH1, ETH0),
        dns=("10.0.4.1", "10.0.4.2"),
        clock=Clock(
            now=NOON, zone="Asia/Shanghai", synchronized=True, servers=("ntp.ward.example",),
            server="ntp.ward.example", service="systemd-timesyncd",
        ),
        last=TrialEnd(id="net_1", outcome="expired", lines=LINES, at=NOON - timedelta(minutes=5)),
    )  # fmt: skip


def on_trial() -> Network:
    """A new address and a new name, with a minute left and a router that is silent."""
    trial = Trial(
        id="net_2",
        change=NetworkChange(interface="eno1", mode="static", addresses=("10.0.4.30/24",), hostname="ward-4"),
        lines=LINES,
        began_at=NOON - timedelta(seconds=60),
        ends_at=NOON + timedelta(seconds=60),
        seconds_left=60.0,
        gateway_answers=False,
    )
    return network().model_copy(update={"trial": trial, "last": None})


def helpless() -> Network:
    """Nobody may change anything, and nobody keeps the card."""
    alone = ETH0.model_copy(update={"manager": None, "source": None, "dns": ()})
    return network().model_copy(
        update={
            "interfaces": (alone,),
            "last": None,
            "problem": "The network cannot be changed from here: the helper that runs as root does not answer at "
            "/run/r1box-system.sock: no such file or directory.",
            "hint": "systemctl start r1box-system.socket starts it; make install puts it in place.",
        }
    )
