"""The machine's name, time zone, users and network, in the overlay of /etc."""

from __future__ import annotations

from installer.actions import Action, MakeFolder, PutFile, Run
from installer.answers import Answers, Network
from installer.facts import Facts
from installer.stages.base import Stage
from installer.target import ROOT

_ETC = ROOT / "etc"
_NETWORK = _ETC / "systemd/network"
_TAKEN = 9
"""useradd's exit code for a name that is there: made before a power cut."""


def _users(facts: Facts, answers: Answers) -> list[Action]:
    admin = answers.admin
    root = str(ROOT)
    actions: list[Action] = [
        PutFile(str(_ETC / "hostname"), f"{answers.system.hostname}\n"),
        PutFile(str(_ETC / "hosts"), _hosts(answers.system.hostname)),
        Run("make the system's own users", ("chroot", root, "systemd-sysusers")),
        Run("set the time zone", ("ln", "-sfn", f"/usr/share/zoneinfo/{answers.system.timezone}", f"{_ETC}/localtime")),
        Run(
            f"make the user {admin.name}",
            ("useradd", "--root", root, "--no-create-home", "--shell", "/bin/bash", "--groups", "sudo", admin.name),
            ok_codes=(0, _TAKEN),
        ),
        # /home lies in the read-only image: people's folders are with the state.
        Run("give it a home", ("usermod", "--root", root, "--home", f"/var/home/{admin.name}", admin.name)),
        Run(
            "make its home",
            (
                "chroot",
                root,
                "install",
                "-d",
                "-m",
                "0700",
                "-o",
                admin.name,
                "-g",
                admin.name,
                f"/var/home/{admin.name}",
            ),
        ),
    ]
    if admin.password_hash is not None:
        setting = ("usermod", "--root", root, "--password", admin.password_hash, admin.name)
        actions.append(Run("set its password", setting))
    if admin.ssh_keys:
        keys = _ETC / "ssh/authorized_keys.d"
        actions += [
            MakeFolder(str(keys)),
            PutFile(str(keys / admin.name), "".join(f"{key}\n" for key in admin.ssh_keys)),
            MakeFolder(str(_ETC / "ssh/sshd_config.d")),
            PutFile(
                str(_ETC / "ssh/sshd_config.d/10-r1box.conf"),
                "AuthorizedKeysFile /etc/ssh/authorized_keys.d/%u .ssh/authorized_keys\nPermitRootLogin no\n",
            ),
        ]
    return actions


def _hosts(hostname: str) -> str:
    names = hostname if "." not in hostname else f"{hostname} {hostname.partition('.')[0]}"
    return f"127.0.0.1 localhost\n127.0.1.1 {names}\n::1 localhost ip6-localhost ip6-loopback\n"


def _network(facts: Facts, answers: Answers) -> list[Action]:
    network = answers.network
    if network.mode == "none":
        return []
    actions: list[Action] = [
        MakeFolder(str(_NETWORK)),
        PutFile(str(_NETWORK / "20-r1box.network"), network_file(network)),
    ]
    if network.ntp:
        actions += [
            MakeFolder(str(_ETC / "systemd/timesyncd.conf.d")),
            PutFile(str(_ETC / "systemd/timesyncd.conf.d/10-r1box.conf"), f"[Time]\nNTP={' '.join(network.ntp)}\n"),
        ]
    return [
        *actions,
        Run("switch the network on", ("systemctl", f"--root={ROOT}", "enable", "systemd-networkd.service")),
    ]


def network_file(network: Network) -> str:
    """The file for systemd-networkd, systemd.network(5)."""
    key = "MACAddress" if ":" in network.interface else "Name"
    lines = ["[Match]", f"{key}={network.interface}", "", "[Network]"]
    if network.mode == "dhcp":
        lines.append("DHCP=yes")
    else:
        lines.append(f"Address={network.address}")
        lines += [f"Gateway={network.gateway}"] if network.gateway else []
    lines += [f"DNS={server}" for server in network.dns]
    return "\n".join(lines) + "\n"


USERS = Stage("users", "Name, time and users", _users)
NETWORK = Stage("network", "Network", _network)
