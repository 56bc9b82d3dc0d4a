"""``/api/admin/telemetry`` over the real sampler, which the test steps."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from appliance.schemas.telemetry import Telemetry, TelemetryHistory
from appliance.telemetry import TelemetryService
from tests.appliance.api.box import Box
from tests.drivers.telemetry_parts import card, lost, refused

NOW = "/api/admin/telemetry"
HISTORY = "/api/admin/telemetry/history"


async def read(client: httpx.AsyncClient, path: str = NOW, **parameters: Any) -> Any:
    response = await client.get(path, params=parameters)
    assert response.status_code == 200, response.text
    assert response.headers["cache-control"] == "no-store"
    return response.json()


@pytest.mark.parametrize("path", [NOW, HISTORY, "/api/admin/hardware"])
async def test_a_stranger_gets_nothing(stranger: httpx.AsyncClient, path: str, box: Box) -> None:
    assert (await stranger.get(path)).status_code == 401
    assert (await stranger.post("/api/admin/hardware/refresh")).status_code == 401
    assert box.machine.asked == 0


async def test_before_the_first_sample_nothing_is_known(client: httpx.AsyncClient) -> None:
    told = await read(client)
    assert (told["enabled"], told["host"], told["devices"], told["events"]) == (True, None, [], [])
    assert [one["state"] for one in told["monitors"]] == ["waiting", "waiting"]


async def test_devices_host_monitors_and_events(client: httpx.AsyncClient, box: Box) -> None:
    box.rig.step()
    told = await read(client)
    assert Telemetry.model_validate(told).model_dump(mode="json") == told
    assert told["time"] == "2023-11-14T22:13:20Z"
    assert told["host"]["cpu_percent"] == 12.5
    assert told["host"]["load_1"] is None
    present, gone = told["devices"]
    assert present == {
        "key": "nvidia:0",
        "vendor": "nvidia",
        "index": None,
        "name": None,
        "chip": None,
        "monitor": "nvidia",
        "state": "present",
        "problem": None,
        "told_at": "2023-11-14T22:13:20Z",
        "health": "ok",
        "utilization_percent": 50.0,
        "memory_used_bytes": 40 << 30,
        "memory_total_bytes": 64 << 30,
        "temperature_celsius": 54.0,
        "power_watts": 210.5,
        "clock_mhz": 1800,
        "throttle_reasons": [],
    }
    assert (gone["state"], gone["problem"], gone["power_watts"]) == ("lost", "It has fallen off the bus.", None)
    assert [(one["name"], one["state"], one["interval_s"]) for one in told["monitors"]] == [
        ("host", "ok", 1.0),
        ("nvidia", "ok", 1.0),
    ]
    (event,) = told["events"]
    assert (event["id"], event["kind"], event["subject"], event["severity"]) == (1, "device_lost", "nvidia:1", "error")


async def test_names_come_from_the_last_detection(client: httpx.AsyncClient, box: Box) -> None:
    box.rig.step()
    await client.post("/api/admin/hardware/refresh")
    first, second = (await read(client))["devices"]
    assert (first["name"], first["chip"], first["index"]) == ("NVIDIA H20", "H20", 0)
    assert (second["name"], second["chip"], second["index"]) == (None, None, None)


async def test_events_since_the_last_one_seen(client: httpx.AsyncClient, box: Box) -> None:
    box.rig.step()
    box.monitor.answer = [lost(0), lost(1)]
    box.rig.step(1.0)
    assert [event["id"] for event in (await read(client))["events"]] == [1, 2]
    assert [event["subject"] for event in (await read(client, since=1))["events"]] == ["nvidia:0"]
    assert (await read(client, since=2))["events"] == []


async def test_why_a_monitor_fails(client: httpx.AsyncClient, box: Box) -> None:
    box.monitor.answer = refused()
    box.rig.step()
    monitor = (await read(client))["monitors"][1]
    assert (monitor["state"], monitor["code"], monitor["failures"]) == ("failed", "monitor_refused", 1)
    assert (monitor["reason"], monitor["hint"]) == ("The driver and its library differ.", "Restart the machine.")
    assert monitor["answered_at"] is None


async def test_history_in_buckets(client: httpx.AsyncClient, box: Box) -> None:
    for number in range(60):
        box.monitor.answer = [card(0, power_watts=100.0 + number)]
        box.rig.step(1.0)
    told = await read(client, HISTORY, seconds=60, points=6, series=["nvidia:0/power_watts", "host"])
    assert TelemetryHistory.model_validate(told).model_dump(mode="json") == told
    assert (told["step_s"], told["buckets"]) == (10.0, 6)
    power, *host = told["series"]
    assert (power["subject"], power["field"]) == ("nvidia:0", "power_watts")
    assert power["maximum"][-1] == 159.0
    assert power["minimum"][1] + 9 == power["maximum"][1] == power["mean"][1] + 4.5
    assert {one["subject"] for one in host} == {"host"}
    everything = await read(client, HISTORY)
    assert (everything["buckets"], everything["step_s"]) == (120, 30.0)
    assert len(everything["series"]) == len(host) + 6


@pytest.mark.parametrize(
    ("path", "parameters", "param"),
    [
        (NOW, {"since": -1}, "since"),
        (NOW, {"since": "yesterday"}, "since"),
        (NOW, {"sinse": 1}, "sinse"),
        (HISTORY, {"seconds": 0}, "seconds"),
        (HISTORY, {"seconds": 3601}, "seconds"),
        (HISTORY, {"seconds": "nan"}, "seconds"),
        (HISTORY, {"points": 0}, "points"),
        (HISTORY, {"points": 100_000}, "points"),
        (HISTORY, {"series": "nvidia:7"}, "series"),
        (HISTORY, {"series": ["host", "host/colour"]}, "series"),
        (HISTORY, {"device": "nvidia:0"}, "device"),
    ],
)
async def test_bad_parameters_are_named(
    client: httpx.AsyncClient, path: str, parameters: dict[str, Any], param: str
) -> None:
    response = await client.get(path, params=parameters)
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "invalid_value", param)


async def test_switched_off(box: Box) -> None:
    service = TelemetryService(None, dict)
    assert not service.now(0).enabled
    assert service.history(60, 6, ()).series == ()
