"""``r1box network`` on a machine whose daemon does not run: by the helper alone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner

from appliance.cli import network
from appliance.cli.app import app
from appliance.network.errors import HelperMissing, NetworkInvalid
from tests.appliance.api.box import network_of
from tests.fakes.network import FakeNetwork, HelperThread


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNetwork:
    machine = FakeNetwork(tmp_path / "machine")
    monkeypatch.setenv("R1BOX_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("R1BOX_API_KEY", raising=False)
    monkeypatch.setattr(network._Place, "_service", staticmethod(lambda: network_of(machine)))
    return machine


@pytest.fixture(autouse=True)
def _no_log_between() -> Iterator[None]:
    """The helper runs in this process, and its log would stand in the commands' output."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    yield
    structlog.reset_defaults()


@pytest.fixture
def helper(machine: FakeNetwork) -> Iterator[FakeNetwork]:
    with HelperThread(machine):
        yield machine


def run(*arguments: str, answer: str | None = None) -> str:
    done = CliRunner().invoke(
        app, ["network", *arguments], input=answer, catch_exceptions=False, env={"COLUMNS": "200"}
    )
    assert done.exit_code == 0, done.output
    return done.output


def test_show(helper: FakeNetwork) -> None:
    told = run("show")
    rows = [line.split() for line in told.splitlines()]
    assert ["eth0", "up", "static", "10.0.4.17/24", "10.0.4.1", "10.0.4.1", "networkd"] in rows
    assert ["eth1", "no", "cable", "-", "-", "-", "-", "-"] in rows
    assert "Host name     r1box" in told
    assert "zone Etc/UTC, in step\nTime servers  -" in told
    found = json.loads(run("show", "--json"))
    assert (found["schema"], found["interfaces"][0]["mac"], found["trial"]) == (1, "52:54:00:12:34:56", None)


def test_a_change_is_shown_tried_and_confirmed(helper: FakeNetwork) -> None:
    told = run("set", "--address", "10.0.4.30/24", "--dns", "", "--preview")
    assert "Address        10.0.4.17/24  ->  10.0.4.30/24" in told
    assert "Name servers   10.0.4.1  ->  -" in told
    assert "Without a name server no name can be looked up" in told
    assert "/etc/systemd/network/01-r1box-eth0.network:\n# Written by R1 Box" in told
    assert helper.addresses() == ["10.0.4.17/24"]
    refused = CliRunner().invoke(app, ["network", "set", "--hostname", "ward-3"], input="n\n")
    assert refused.exit_code == 1
    told = run("set", "--address", "10.0.4.30/24", "--hostname", "ward-3", "--seconds", "600", answer="y\n")
    assert "Try this for 600 seconds?" in told
    assert re.search(r"On trial for \d+ seconds\. Keep it with: r1box network confirm", told)
    assert "does not answer" not in told
    assert helper.addresses() == ["10.0.4.30/24"]
    assert "s left: Address 10.0.4.30/24; Host name ward-3. Keep it with" in run("show")
    assert "The change was confirmed." in run("confirm")
    assert json.loads(run("set", "--dhcp", "--yes", "--json"))["trial"]["change"]["mode"] == "dhcp"
    assert json.loads(run("rollback", "--json"))["last"]["outcome"] == "rolled_back"
    assert "The last change was taken back." in run("show")
    assert helper.addresses() == ["10.0.4.30/24"]


def test_refusals_say_what_to_do(machine: FakeNetwork) -> None:
    assert "systemctl start r1box-system.socket" in run("show")
    runner = CliRunner()
    wrong = runner.invoke(app, ["network", "set", "--gateway", "10.9.9.9", "--yes"])
    assert isinstance(wrong.exception, NetworkInvalid)
    assert wrong.exception.hint == "The router's address lies in the network of the box: here 10.0.4.0/24."
    missing = runner.invoke(app, ["network", "set", "--hostname", "ward-3", "--yes"])
    assert isinstance(missing.exception, HelperMissing)
    assert machine.hostname() == "r1box"
