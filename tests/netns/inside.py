"""What ``test_networkd`` runs in namespaces of its own: machine, router, networkd, helper, and the acts."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from appliance.errors import AppError
from appliance.network.helper_client import HelperClient
from appliance.network.messages import Confirm, RollBack, Status, Try
from appliance.network.service import NetworkService
from appliance.schemas.network import NetworkChange

NETWORKD = "/lib/systemd/systemd-networkd"
START = "[Match]\nName=eth0\n[Network]\nAddress=10.9.0.2/24\nGateway=10.9.0.1\nDNS=10.9.0.1\n"
SOCKET = Path("/run/r1box-system.sock")


def run(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def until(what: Callable[[], bool], seconds: float = 20.0) -> None:
    ends = time.monotonic() + seconds
    while not what():
        if time.monotonic() > ends:
            raise AssertionError(f"never so: {what}")
        time.sleep(0.1)


class Inside:
    """The machine and what was seen of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.told: dict[str, Any] = {}
        self.client = HelperClient(SOCKET)
        self.service = NetworkService(SOCKET)
        self.helper: subprocess.Popen[bytes] | None = None

    def build(self) -> None:
        """Private /run and /etc/systemd, a read-only /sys (networkd then waits for no udev), a card whose other end has
        the router's address in a namespace of its own."""
        run("mount", "--make-rprivate", "/")
        run("mount", "-t", "tmpfs", "tmpfs", "/run")
        run("mount", "-t", "sysfs", "-o", "ro", "sysfs", "/sys")
        run("mount", "-t", "tmpfs", "tmpfs", "/etc/systemd")
        for folder in ("dbus", "systemd/netif/links", "systemd/netif/leases", "systemd/netif/lldp", "r1box-system"):
            (Path("/run") / folder).mkdir(parents=True)
        for path in ("/run/systemd/netif", *map(str, Path("/run/systemd/netif").iterdir())):
            shutil.chown(path, "systemd-network", "systemd-network")
        network = Path("/etc/systemd/network")
        network.mkdir()
        (network / "20-r1box.network").write_text(START, encoding="utf-8")
        run("ip", "netns", "add", "far")
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "far0", "netns", "far")
        for words in (("addr", "add", "10.9.0.1/24", "dev", "far0"), ("addr", "add", "10.9.0.9/24", "dev", "far0"),
                      ("link", "set", "far0", "up")):  # fmt: skip
            run("ip", "-n", "far", *words)
        self.told["far_mac"] = json.loads(run("ip", "-n", "far", "-j", "link", "show", "far0"))[0]["address"]
        run("dbus-daemon", "--system", "--fork", "--nopidfile")
        self._log = (self.folder / "networkd.log").open("wb")
        self.networkd = subprocess.Popen([NETWORKD], stdout=self._log, stderr=self._log)
        until(lambda: self.card()["addresses"] == ["10.9.0.2/24"] and self.card()["manager"] == "networkd")

    def start_helper(self) -> None:
        SOCKET.unlink(missing_ok=True)
        argv = [sys.executable, "-m", "appliance", "network", "helper", "--socket", str(SOCKET)]
        self.helper = subprocess.Popen(argv, stdout=self._log, stderr=self._log)
        until(self.answers)

    def answers(self) -> bool:
        try:
            self.client.ask(Status())
        except AppError:
            return False
        return True

    def card(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.service.read().model_dump_json())["interfaces"][0]
        return found

    def try_out(self, seconds: int, **values: Any) -> dict[str, Any]:
        status = self.client.ask(Try(change=NetworkChange.model_validate(values), seconds=seconds))
        assert status.trial is not None
        found: dict[str, Any] = json.loads(status.trial.model_dump_json())
        return found

    def acts(self) -> None:
        told = self.told
        told["start"] = json.loads(self.service.read().model_dump_json())
        (self.folder / "networkctl-list.json").write_text(run("networkctl", "--json=short", "list"), encoding="utf-8")
        (self.folder / "ip-address.json").write_text(run("ip", "-j", "-d", "address", "show"), encoding="utf-8")
        (self.folder / "ip-route.json").write_text(run("ip", "-j", "route", "show", "default"), encoding="utf-8")

        told["tried"] = self.try_out(60, addresses=["10.9.0.7/24"])
        told["on_trial"] = self.card()
        self.client.ask(Confirm(id=told["tried"]["id"]))
        told["kept"] = self.card()
        run("networkctl", "reload")
        until(lambda: self.card()["addresses"] == ["10.9.0.7/24"])
        told["after_reload"] = self.card()

        began = time.monotonic()
        self.try_out(15, addresses=["10.9.0.66/24"])
        told["lost"] = self.card()
        assert self.helper is not None
        self.helper.send_signal(signal.SIGKILL)
        self.helper.wait()
        self.start_helper()
        until(lambda: self.client.ask(Status()).trial is None, 30)
        told["expired_after_s"] = time.monotonic() - began
        told["expired"] = json.loads(self.client.ask(Status()).model_dump_json())
        told["came_back"] = self.card()

        try:
            self.try_out(60, addresses=["10.9.0.9/24"])
        except AppError as error:
            told["taken"] = {"code": error.code, "message": error.message}
        told["silent"] = self.try_out(60, addresses=["10.9.0.8/24"], gateways=["10.9.0.3"])
        self.client.ask(RollBack())

        told["first_name"] = socket.gethostname()
        self.try_out(60, hostname="ward-3")
        told["named"] = socket.gethostname()
        self.client.ask(RollBack())
        told["unnamed"] = socket.gethostname()


def main(folder: Path) -> None:
    inside = Inside(folder)
    inside.build()
    inside.start_helper()
    try:
        inside.acts()
    finally:
        (folder / "told.json").write_text(json.dumps(inside.told, indent=1), encoding="utf-8")
    os.sync()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
