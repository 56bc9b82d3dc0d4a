"""Telemetry of a real daemon: over the admin API, in Prometheus' text, and gone without a trace when it stops."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from drivers.snapshot_json import from_json
from tests.e2e.box import Box, Home, start_box
from tests.fakes.nvml.build import SCENARIO_NAME, build_fake_nvml, write_scenario
from tests.fakes.nvml.scenarios import h20_box

PATIENT_S = 60.0


class Operator:
    """Asks a box with its key."""

    def __init__(self, box: Box) -> None:
        self._client = httpx.Client(
            base_url=box.url, headers={"Authorization": f"Bearer {box.key}"}, timeout=PATIENT_S, trust_env=False
        )

    def get(self, path: str, **parameters: Any) -> Any:
        response = self._client.get(path, params=parameters)
        assert response.status_code == 200, response.text
        return response.json()

    def post(self, path: str) -> Any:
        response = self._client.post(path)
        assert response.status_code == 200, response.text
        return response.json()

    def telemetry_once(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first telemetry for which the condition holds."""
        deadline = time.monotonic() + PATIENT_S
        while not condition(told := self.get("/api/admin/telemetry")):
            assert time.monotonic() < deadline, told
            threading.Event().wait(0.05)
        return dict(told)

    def metrics(self) -> dict[str, dict[tuple[str, ...], float]]:
        text = self._client.get("/metrics").text
        found: dict[str, dict[tuple[str, ...], float]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
        return found

    def close(self) -> None:
        self._client.close()


@pytest.fixture
def operator(box: Box) -> Iterator[Operator]:
    asking = Operator(box)
    yield asking
    asking.close()


@pytest.fixture
def cards(home: Home, tmp_path: Path) -> Path:
    """The scenario of two H20, as the home's daemon will see them; may be written anew while it runs."""
    folder = tmp_path / "nvml"
    folder.mkdir()
    build_fake_nvml(folder)
    home.environment["LD_LIBRARY_PATH"] = str(folder)
    return write_scenario(folder / SCENARIO_NAME, h20_box(2))


def start(home: Home, *arguments: str) -> tuple[Box, Operator]:
    """A box without a model."""
    box = start_box(home, *arguments, key=home.create_key("operator"), wait=False)
    return box, Operator(box)


def test_a_box_without_cards_tells_of_its_host(operator: Operator) -> None:
    told = operator.telemetry_once(lambda now: now["host"] is not None and now["host"]["cpu_percent"] is not None)
    assert told["enabled"]
    assert 0 < told["host"]["memory_used_bytes"] <= told["host"]["memory_total_bytes"]
    assert told["host"]["disk_free_bytes"] > 0
    monitors = {one["name"]: one for one in told["monitors"]}
    assert list(monitors) == ["host", "nvidia", "ascend"]
    assert monitors["host"]["state"] == "ok"
    history = operator.get("/api/admin/telemetry/history", seconds=60, points=60, series="host")
    fields = {one["field"]: one["mean"] for one in history["series"]}
    assert any(value is not None for value in fields["memory_used_bytes"])
    metrics = operator.metrics()
    assert metrics["r1box_monitor_up"][("host",)] == 1
    assert metrics["r1box_host_memory_total_bytes"][()] == told["host"]["memory_total_bytes"]


def test_the_snapshot_of_the_placement_is_kept_and_can_be_made_anew(operator: Operator) -> None:
    last = operator.get("/api/admin/hardware")
    assert from_json(last["snapshot"]).host.memory_total_bytes
    new = operator.post("/api/admin/hardware/refresh")
    assert new["detected_at"] > last["detected_at"]
    assert operator.get("/api/admin/hardware") == new


def test_cards_are_sampled_and_their_child_ends_with_the_daemon(home: Home, cards: Path) -> None:
    box, operator = start(home)
    try:
        first = operator.telemetry_once(lambda now: len(now["devices"]) == 2)
        assert [(one["key"], one["state"], one["health"]) for one in first["devices"]] == [
            ("nvidia:0", "present", "ok"),
            ("nvidia:1", "present", "ok"),
        ]
        assert first["devices"][0]["memory_total_bytes"] == 97871 << 20
        operator.get("/api/admin/hardware")  # the first detection is over then
        metrics = operator.metrics()
        # Labels in the order of their names: chip, device, vendor.
        assert metrics["r1box_device_up"] == {("H20", "nvidia:0", "nvidia"): 1, ("H20", "nvidia:1", "nvidia"): 1}
        assert metrics["r1box_device_clock_hertz"]["H20", "nvidia:0", "nvidia"] == 1.98e9
        children = psutil.Process(box.process.pid).children(recursive=True)
        assert children
    finally:
        operator.close()
        assert box.stop() == 0
    assert psutil.wait_procs(children, timeout=PATIENT_S)[1] == []
    assert not any("Traceback" in line for line in box.errors)


def test_switched_off_it_starts_nothing_and_says_so(home: Home, cards: Path) -> None:
    box, operator = start(home, "--telemetry-interval-s", "0")
    try:
        operator.get("/api/admin/hardware")
        told = operator.get("/api/admin/telemetry")
        assert (told["enabled"], told["devices"], told["monitors"], told["host"]) == (False, [], [], None)
        assert not any(name.startswith(("r1box_device", "r1box_host", "r1box_monitor")) for name in operator.metrics())
        assert psutil.Process(box.process.pid).children(recursive=True) == []
    finally:
        operator.close()
        assert box.stop() == 0
