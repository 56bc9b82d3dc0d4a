"""Trials on a made-up machine, with a clock that a test turns."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from appliance.network.helper import backends
from appliance.network.machine import Machine
from appliance.network.read import Reader
from appliance.network.tools import Tools
from appliance.network.trial import Parts, Trials
from appliance.schemas.network import NetworkChange
from tests.fakes.network import FakeNetwork


def of(**values: Any) -> NetworkChange:
    return NetworkChange.model_validate(values)


@dataclass
class Rig:
    """``holders``: who answers for which address."""

    machine: FakeNetwork
    holders: dict[str, str] = field(default_factory=lambda: {"10.0.4.1": "52:54:00:aa:bb:cc"})
    at_s: float = 1000.0
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def trials(self) -> Trials:
        """A helper that has just started, with what its record says."""
        tools = Tools(self.machine.root, self.machine.tools_path)
        parts = Parts(
            Reader(tools, self.machine.hostname),
            backends(tools),
            Machine(tools, self.machine.set_hostname),
            self.who_has,
            seconds=lambda: self.at_s,
            now=lambda: datetime.fromtimestamp(1_800_000_000 + self.at_s, UTC),
            sleep=self.sleep,
        )
        return Trials(parts, self.record)

    @property
    def record(self) -> Path:
        return self.machine.root / "run/r1box-system/trial.json"

    def sleep(self, seconds: float) -> None:
        self.at_s += seconds

    def who_has(self, interface: str, address: str, source: str | None = None) -> str | None:
        assert interface == "eth0"
        self.asked.append((address, source))
        return self.holders.get(address)
