"""The helper as a process of its own: asked over its socket, killed, stopped, told nonsense."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.network.errors import HelperMissing, HelperRefused
from appliance.network.helper_client import HelperClient
from appliance.network.messages import Confirm, RollBack, SetKeymap, SetZone, Status, Try
from appliance.network.service import NetworkService
from appliance.network.tools import Tools
from tests.appliance.network.rig import of
from tests.fakes.network import FakeNetwork

NEW = Try(change=of(addresses=["10.0.4.30/24"], hostname="ward-3"), seconds=600)
_PROGRAM = """\
import sys
from pathlib import Path
from appliance.network.helper import run_helper
from tests.fakes.network import FakeNetwork
root, path = map(Path, sys.argv[1:])
machine = FakeNetwork.__new__(FakeNetwork)
machine.root = root
run_helper(record=root / "run/r1box-system/trial.json", path=path, root=root, search=str(root / "bin"), idle_s=None,
           prober=lambda *_: None, hostname=(machine.hostname, machine.set_hostname))
"""


class Process:
    """A helper that runs; ``ask`` waits until it listens."""

    def __init__(self, machine: FakeNetwork) -> None:
        self.path = machine.root / "helper.sock"
        self._root = machine.root
        self.client = HelperClient(self.path)
        self.start()

    def start(self) -> None:
        self.path.unlink(missing_ok=True)
        argv = [sys.executable, "-c", _PROGRAM, str(self._root), str(self.path)]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        while self.process.poll() is None:
            try:
                self.client.ask(Status())
            except HelperMissing:
                continue
            return
        assert self.process.stdout is not None
        raise AssertionError(self.process.stdout.read())

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        self.log, _ = self.process.communicate(timeout=60)
        return self.process.returncode

    def say(self, content: bytes) -> dict[str, object]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.connect(str(self.path))
            line.sendall(content)
            line.shutdown(socket.SHUT_WR)
            found: dict[str, object] = json.loads(line.makefile().read())
        return found


@pytest.fixture
def helper(networkd: FakeNetwork) -> Iterator[Process]:
    process = Process(networkd)
    yield process
    if process.process.poll() is None:
        process.end(signal.SIGKILL)


def test_a_trial_over_the_socket(helper: Process, networkd: FakeNetwork) -> None:
    trial = helper.client.ask(NEW).trial
    assert trial is not None
    assert networkd.addresses() == ["10.0.4.30/24"]
    # Killed: another one takes the same trial up.
    helper.end(signal.SIGKILL)
    helper.start()
    assert (helper.client.ask(Status()).trial or trial).id == trial.id
    last = helper.client.ask(Confirm(id=trial.id)).last
    assert last is not None
    assert last.outcome == "confirmed"
    networkd.boot()
    assert (networkd.addresses(), networkd.hostname()) == (["10.0.4.30/24"], "ward-3")


def test_stopped_it_takes_back_what_nobody_else_would(helper: Process, networkd: FakeNetwork) -> None:
    helper.client.ask(NEW)
    assert helper.end(signal.SIGTERM) == 0
    assert (networkd.addresses(), networkd.hostname()) == (["10.0.4.17/24"], "r1box")


def test_only_what_it_knows_and_only_values(helper: Process, networkd: FakeNetwork) -> None:
    with pytest.raises(HelperRefused) as refused:
        helper.client.ask(Try(change=of(gateways=["10.9.9.9"]), seconds=60))
    assert (refused.value.code, refused.value.http_status) == ("network_gateway_outside", 400)
    assert refused.value.details["param"] == "gateways"
    with pytest.raises(HelperRefused) as refused:
        helper.client.ask(RollBack())
    assert refused.value.code == "network_no_trial"
    nonsense = [
        b"\n",
        b"{}\n",
        b'{"do": "shell", "command": "id"}\n',
        b'{"do": "set_zone", "zone": "../../etc/shadow"}\n',
        b'{"do": "set_keymap", "keymap": "-x"}\n',
        b'{"do": "try", "seconds": 60, "change": {"hostname": "a", "path": "/etc/shadow"}}\n',
        b'{"do": "try", "seconds": 60, "change": {"interface": "eth0; id", "mode": "dhcp"}}\n',
        b"\xff" * 1000 + b"\n",
    ]
    for content in nonsense:
        reply = helper.say(content)
        assert isinstance(reply["error"], dict)
        assert reply["error"]["code"] == "bad_request"
    assert helper.client.ask(Status()).trial is None
    # What came from outside stands in no file and no command's words.
    helper.client.ask(SetZone(zone="Asia/Shanghai"))
    helper.client.ask(SetKeymap(keymap="de-latin1"))
    assert networkd.state()["calls"] == ["timedatectl set-timezone Asia/Shanghai", "localectl set-keymap de-latin1"]
    networkd.refuse("timedatectl")
    with pytest.raises(HelperRefused, match="The system refused it"):
        helper.client.ask(SetZone(zone="Mars/Base"))
    helper.end(signal.SIGTERM)
    assert f"uid={os.getuid()}" in re.sub(r"\x1b\[[0-9;]*m", "", helper.log)


def test_a_sender_that_says_nothing_keeps_nobody_out(helper: Process) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.connect(str(helper.path))
        silent.close()
        assert helper.client.ask(Status()).last is None


async def test_without_a_helper_everything_is_shown_and_nothing_changed(networkd: FakeNetwork, tmp_path: Path) -> None:
    tools = Tools(networkd.root, networkd.tools_path)
    service = NetworkService(tmp_path / "none.sock", tools=tools)
    shown = await service.show()
    assert shown.problem is not None
    assert "does not answer at" in shown.problem
    assert shown.hint == "systemctl start r1box-system.socket starts it; make install puts it in place."
    assert [one.name for one in shown.interfaces] == ["eth0", "eth1"]
    told = await service.preview(of(dns=["10.0.4.9"]))
    assert told.writes[0].startswith("/etc/systemd/network/01-r1box-eth0.network:\n")
    with pytest.raises(HelperMissing):
        await service.begin(of(dns=["10.0.4.9"]), 60)
    assert networkd.state()["eth0"]["dns"] == ["10.0.4.1"]
