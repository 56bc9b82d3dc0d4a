"""A machine's network made of files: programs named ip, networkctl, nmcli and so on, which read and change them.

The programs answer in the forms that systemd 252, iproute2 6.1 and NetworkManager 1.42 print (tests/fixtures/network
has recordings). networkd is played faithfully where it matters: the first file by name whose [Match] fits counts, and
nothing changes before a reload.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import sys
import threading
from pathlib import Path
from typing import Any

PROGRAMS = ("ip", "networkctl", "nmcli", "timedatectl", "systemctl", "hostnamectl", "localectl")
FIRST_FILE = "20-r1box.network"


class FakeNetwork:
    """One machine below ``root``. ``tools_path`` is the search path of its programs."""

    def __init__(self, root: Path, manager: str = "networkd") -> None:
        self.root = root
        self.bin = root / "bin"
        self.bin.mkdir(parents=True)
        self._state = root / "machine.json"
        source = Path(__file__).resolve().parents[2]
        for name in PROGRAMS:
            if (name == "nmcli") != (manager == "networkmanager") and name in ("nmcli", "networkctl"):
                continue
            program = self.bin / name
            program.write_text(
                f"#!{sys.executable} -SI\nimport sys\nsys.path.insert(0, {str(source)!r})\n"
                f"from tests.fakes.network import program\nsys.exit(program({str(root)!r}))\n",
                encoding="utf-8",
            )
            program.chmod(0o755)
        folder = root / "etc/systemd/network"
        folder.mkdir(parents=True)
        (folder / FIRST_FILE).write_text(
            "[Match]\nName=eth0\n\n[Network]\nAddress=10.0.4.17/24\nGateway=10.0.4.1\nDNS=10.0.4.1\n", encoding="utf-8"
        )
        (root / "etc/hosts").write_text("127.0.0.1 localhost\n127.0.1.1 r1box\n", encoding="utf-8")
        (root / "hostname").write_text("r1box", encoding="utf-8")
        self.write({"manager": manager, "refuse": "", "ntp": [], "nm": _nm_start(), "calls": []})
        machine = _Machine(root)
        machine.reload()
        machine.save()

    @property
    def tools_path(self) -> str:
        return str(self.bin)

    def write(self, state: dict[str, Any]) -> None:
        self._state.write_text(json.dumps(state), encoding="utf-8")

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._state.read_text(encoding="utf-8"))
        return found

    def refuse(self, words: str) -> None:
        """Commands that begin with these words fail from now on; none with an empty text."""
        self.write({**self.state(), "refuse": words})

    def addresses(self) -> list[str]:
        found: list[str] = self.state()["eth0"]["addresses"]
        return found

    def hostname(self) -> str:
        return (self.root / "hostname").read_text(encoding="utf-8")

    def set_hostname(self, name: str) -> None:
        (self.root / "hostname").write_text(name, encoding="utf-8")

    def boot(self) -> None:
        """As after a power cut: what lies in /run and in memory is gone."""
        run = self.root / "run"
        for path in sorted(run.rglob("*"), reverse=True):
            if path.is_file():
                path.unlink()
        kept = self.root / "etc/hostname"
        self.set_hostname(kept.read_text(encoding="utf-8").strip() if kept.exists() else "r1box")
        machine = _Machine(self.root)
        machine.boot()
        machine.save()


class HelperThread:
    """The helper of a made-up machine, in a thread, on ``machine.root/system.sock``. What is on trial at the end is
    left as it is."""

    def __init__(self, machine: FakeNetwork) -> None:
        from appliance.network.helper import Helper, backends
        from appliance.network.machine import Machine
        from appliance.network.read import Reader
        from appliance.network.tools import Tools
        from appliance.network.trial import Parts, Trials

        self._machine = machine
        tools = Tools(machine.root, machine.tools_path)
        acts = Machine(tools, machine.set_hostname)
        router = {"10.0.4.1": "52:54:00:aa:bb:cc"}
        parts = Parts(
            Reader(tools, machine.hostname),
            backends(tools),
            acts,
            lambda _interface, address, _=None: router.get(address),
        )
        self._helper = Helper(Trials(parts, machine.root / "run/r1box-system/trial.json"), acts, None)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._helper.answer, args=(self._listener, self._over.is_set))

    def __enter__(self) -> FakeNetwork:
        self._listener.bind(str(self._machine.root / "system.sock"))
        self._listener.listen(8)
        self._thread.start()
        return self._machine

    def __exit__(self, *_: object) -> None:
        self._over.set()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as wake:
            wake.connect(str(self._machine.root / "system.sock"))
        self._thread.join()
        self._listener.close()


def _nm_start() -> dict[str, Any]:
    wired = {"id": "Wired connection 1", "address": "10.0.4.17/24", "gateway": "10.0.4.1", "method": "manual",
             "dns": ["10.0.4.1"], "saved": True}  # fmt: skip
    uuid = "11111111-2222-3333-4444-555555555555"
    return {"connections": {uuid: wired}, "active": uuid, "next": 1}


class _Machine:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.file = root / "machine.json"
        self.state: dict[str, Any] = json.loads(self.file.read_text(encoding="utf-8"))

    def save(self) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps(self.state), encoding="utf-8")
        new.replace(self.file)

    def reload(self) -> None:
        found = [
            path for folder in ("run", "etc") for path in (self.root / folder / "systemd/network").glob("*.network")
        ]
        chosen = min(found, key=lambda path: path.name)
        values: dict[str, list[str]] = {}
        for line in chosen.read_text(encoding="utf-8").splitlines():
            name, sign, value = line.partition("=")
            if sign:
                values.setdefault(name, []).append(value)
        dhcp = values.get("DHCP") == ["yes"]
        self.state["eth0"] = {
            "file": "/" + str(chosen.relative_to(self.root)),
            "addresses": ["10.0.4.99/24"] if dhcp else values.get("Address", []),
            "gateways": ["10.0.4.1"] if dhcp else values.get("Gateway", []),
            "dns": values.get("DNS", ["10.0.4.2"] if dhcp else []),
            "mode": "DHCPv4" if dhcp else "static",
        }

    def nm_up(self) -> None:
        nm = self.state["nm"]
        one = nm["connections"][nm["active"]]
        auto = one["method"] == "auto"
        self.state["eth0"] = {
            "file": None,
            "addresses": ["10.0.4.99/24"] if auto else [one["address"]],
            "gateways": ["10.0.4.1"] if auto else [one["gateway"]] if one.get("gateway") else [],
            "dns": one["dns"] or (["10.0.4.2"] if auto else []),
            "mode": "static",
        }

    def boot(self) -> None:
        nm = self.state["nm"]
        nm["connections"] = {uuid: one for uuid, one in nm["connections"].items() if one["saved"]}
        # Ours have a higher priority (connection.autoconnect-priority).
        ours = [uuid for uuid, one in nm["connections"].items() if one["id"].startswith("r1box-")]
        nm["active"] = (ours or list(nm["connections"]))[0]
        if self.state["manager"] == "networkd":
            self.reload()
        else:
            self.nm_up()
        self.restart_timesync()

    def restart_timesync(self) -> None:
        found: list[str] = []
        paths = [
            path for top in ("run", "etc") for path in (self.root / top / "systemd/timesyncd.conf.d").glob("*.conf")
        ]
        for path in sorted(paths, key=lambda one: one.name):
            for line in path.read_text(encoding="utf-8").splitlines():
                if line.startswith("NTP="):
                    found = [*found, *line[4:].split()] if line[4:] else []
        self.state["ntp"] = found


def program(root: str) -> int:
    """What a program of this machine prints; its exit code."""
    machine = _Machine(Path(root))
    words = [Path(sys.argv[0]).name, *sys.argv[1:]]
    line = " ".join(words)
    refused = machine.state["refuse"]
    if refused and line.startswith(refused):
        sys.stderr.write("Failed to do that: Connection timed out\n")
        return 1
    told = _tell(machine, words, line)
    if told is None:
        sys.stderr.write(f"Unknown command: {line}\n")
        return 2
    machine.save()
    sys.stdout.write(told)
    return 0


def _tell(machine: _Machine, words: list[str], line: str) -> str | None:
    state = machine.state
    if words[0] == "ip":
        return _ip(state, line)
    if words[0] == "nmcli":
        return _nmcli(machine, words[1:])
    if line == "networkctl --json=short list":
        return json.dumps({"Interfaces": [_networkd(state["eth0"])]})
    if line in ("networkctl reload", "networkctl reconfigure eth0"):
        machine.reload()
        return ""
    if line == "timedatectl show":
        return "Timezone=Etc/UTC\nLocalRTC=no\nCanNTP=yes\nNTP=yes\nNTPSynchronized=yes\n"
    if line == "timedatectl show-timesync":
        return f"SystemNTPServers={' '.join(state['ntp'])}\nFallbackNTPServers=0.debian.pool.ntp.org\n"
    if line == "systemctl try-restart systemd-timesyncd.service":
        machine.restart_timesync()
        return ""
    if words[:2] == ["hostnamectl", "set-hostname"]:
        (machine.root / "etc/hostname").write_text(f"{words[2]}\n", encoding="utf-8")
        (machine.root / "hostname").write_text(words[2], encoding="utf-8")
        return ""
    if words[0] in ("timedatectl", "localectl"):
        state["calls"].append(line)
        return ""
    return None


def _ip(state: dict[str, Any], line: str) -> str:
    eth0 = state["eth0"]
    if "address" in line:
        lo = {"ifname": "lo", "flags": ["LOOPBACK", "UP", "LOWER_UP"], "link_type": "loopback", "addr_info": []}
        found = [ipaddress.ip_interface(one) for one in eth0["addresses"]]
        infos = [
            {"family": "inet" if one.version == 4 else "inet6", "local": str(one.ip), "scope": "global",
             "prefixlen": one.network.prefixlen}
            for one in found
        ]  # fmt: skip
        infos.append({"family": "inet6", "local": "fe80::5054:ff:fe12:3456", "prefixlen": 64, "scope": "link"})
        card = {"ifname": "eth0", "flags": ["BROADCAST", "MULTICAST", "UP", "LOWER_UP"], "link_type": "ether",
                "address": "52:54:00:12:34:56", "addr_info": infos}  # fmt: skip
        spare = {"ifname": "eth1", "flags": ["BROADCAST", "MULTICAST"], "link_type": "ether", "addr_info": [],
                 "address": "52:54:00:12:34:57"}  # fmt: skip
        return json.dumps([lo, card, spare])
    wanted = 6 if "-6" in line else 4
    gateways = [one for one in eth0["gateways"] if ipaddress.ip_address(one).version == wanted]
    return json.dumps([{"dst": "default", "gateway": one, "dev": "eth0", "flags": []} for one in gateways])


def _networkd(eth0: dict[str, Any]) -> dict[str, Any]:
    def packed(text: str) -> list[int]:
        return list(ipaddress.ip_interface(text).packed)

    return {
        "Name": "eth0",
        "AdministrativeState": "configured",
        "NetworkFile": eth0["file"],
        "DNS": [{"Family": 2, "Address": packed(one)} for one in eth0["dns"]],
        "Addresses": [{"Address": packed(one), "ConfigSource": eth0["mode"]} for one in eth0["addresses"]],
    }


def _nmcli(machine: _Machine, words: list[str]) -> str | None:
    nm = machine.state["nm"]
    connections = nm["connections"]
    line = " ".join(words)
    if line == "-t -f DEVICE,STATE,CONNECTION,CON-UUID device":
        active = nm["active"]
        return f"eth0:connected:{connections[active]['id']}:{active}\nlo:unmanaged::\n"
    if line.startswith("-t -f ipv4.method,ipv6.method connection show "):
        return f"ipv4.method:{connections[words[-1]]['method']}\nipv6.method:auto\n"
    if line == "-t -f IP4.DNS,IP6.DNS device show eth0":
        return "".join(f"IP4.DNS[{n}]:{one}\n" for n, one in enumerate(machine.state["eth0"]["dns"], 1))
    if line == "-t -f NAME,UUID,FILENAME connection show":
        rows = [(one["id"], uuid, "/etc" if one["saved"] else "/run") for uuid, one in connections.items()]
        return "".join(f"{name}:{uuid}:{top}/NetworkManager/{name}\n" for name, uuid, top in rows)
    if words[:2] == ["connection", "add"]:
        given = dict(zip(words[2::2], words[3::2], strict=False))
        uuid = f"00000000-0000-4000-8000-{nm['next']:012d}"
        nm["next"] += 1
        connections[uuid] = {
            "id": given["con-name"],
            "method": given["ipv4.method"],
            "address": given.get("ipv4.addresses"),
            "gateway": given.get("ipv4.gateway"),
            "dns": given.get("ipv4.dns", "").split(",") if given.get("ipv4.dns") else [],
            "saved": given["save"] == "yes",
        }
        return f"Connection '{given['con-name']}' ({uuid}) successfully added.\n"
    if "up" in words:
        nm["active"] = words[-1]
        machine.nm_up()
        return "Connection successfully activated\n"
    if words[:3] == ["connection", "delete", "uuid"]:
        del connections[words[3]]
        return ""
    if words[:2] == ["connection", "modify"]:
        connections[words[2]]["saved"] = True
        return ""
    return None
