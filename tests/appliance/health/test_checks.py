"""Each check over facts that are well, and over facts that are not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.health.checks import CHECKS
from appliance.health.fixups import all_fixups
from appliance.health.types import BoxFacts, DiskRoom, Problem
from appliance.schemas.alerts import AlertTarget
from appliance.schemas.cluster import ClusterBox, ClusterStatus
from appliance.schemas.models import ModelEntry
from appliance.schemas.offload import Offload, OffloadReason
from appliance.schemas.telemetry import DeviceTelemetry, HostTelemetry, MonitorTelemetry, Telemetry
from drivers.types import Finding, Severity

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
GIB = 1024**3


def device(**changes: object) -> DeviceTelemetry:
    values: dict[str, object] = {
        "key": "nvidia:0", "vendor": "nvidia", "name": "NVIDIA H20", "monitor": "nvidia", "state": "present",
        "told_at": NOW, "health": "ok", "temperature_celsius": 60.0,
    }  # fmt: skip
    return DeviceTelemetry(**(values | changes))  # type: ignore[arg-type]


def host(**changes: object) -> HostTelemetry:
    values: dict[str, object] = {"memory_total_bytes": 64 * GIB, "memory_used_bytes": 20 * GIB}
    return HostTelemetry(**(values | changes))  # type: ignore[arg-type]


def telemetry(
    *devices: DeviceTelemetry, of_host: HostTelemetry | None = None, monitors: tuple[MonitorTelemetry, ...] = ()
) -> Telemetry:
    return Telemetry(
        enabled=True, time=NOW, started_at=NOW, host=of_host or host(), devices=devices or (device(),),
        monitors=monitors,
    )  # fmt: skip


def model(**changes: object) -> ModelEntry:
    values: dict[str, object] = {
        "id": "r1-7b", "name": "R1", "quantization": "Q8_0", "size_bytes": 8 * GIB, "state": "ready", "default": True,
        "devices": ("nvidia:0",),
    }  # fmt: skip
    return ModelEntry(**(values | changes))  # type: ignore[arg-type]


def verdict(state: str, *codes: str) -> Offload:
    reasons = tuple(OffloadReason(code=code, message=f"It is {code}.") for code in codes)
    return Offload(model="r1-7b", state=state, reasons=reasons, checked_at=NOW)  # type: ignore[arg-type]


def receiver(**changes: object) -> AlertTarget:
    values: dict[str, object] = {
        "target": "https://chat.example.org", "waiting": 0, "delivered": 7, "given_up": 0, "dropped": 0, "failures": 0,
    }  # fmt: skip
    return AlertTarget(**(values | changes))  # type: ignore[arg-type]


WELL = BoxFacts(
    now=NOW,
    telemetry=telemetry(),
    models=(model(), model(id="other", state="installed", default=False, devices=())),
    offload=(verdict("VERIFIED"),),
    restarts={"r1-7b": (NOW - timedelta(minutes=5), NOW - timedelta(minutes=1))},
    findings=(Finding("known_pair", "They go together.", severity=Severity.INFO),),
    disks=(DiskRoom("state", "/var/lib/r1box", 50 * GIB, 100 * GIB),),
    newest_import_at=NOW - timedelta(days=1),
    certificate_ends_at=NOW + timedelta(days=300),
    # One that failed twice just now, and one that lost events long ago and takes them again.
    alerts=(receiver(failures=2), receiver(given_up=3)),
)


def found(facts: BoxFacts) -> list[Problem]:
    return [problem for check in CHECKS for problem in check(facts)]


def test_a_box_that_is_well_has_no_problem() -> None:
    assert found(WELL) == []
    on_processor = replace(WELL, telemetry=Telemetry(enabled=False, time=NOW, started_at=NOW), certificate_ends_at=None)
    assert found(replace(on_processor, offload=(verdict("CPU"),), findings=())) == []


def cluster(state: str, model: str | None = None, has: str | None = None) -> ClusterStatus:
    boxes = (
        ClusterBox(name="box-1", role="leader", state="here", is_this=True),
        ClusterBox(name="box-2", role="member", state=state, model=has),  # type: ignore[arg-type]
    )
    return ClusterStatus(role="leader", boxes=boxes, model=model)


FAILED = MonitorTelemetry(
    name="nvidia", state="failed", interval_s=1, failures=4, reason="NVML hangs.", hint="Restart."
)
DIED = tuple(NOW - timedelta(minutes=minutes) for minutes in (9, 5, 1))


@pytest.mark.parametrize(
    ("changes", "key", "severity", "words"),
    [
        ({"models": ()}, "no_model", "warning", "no model on this box"),
        ({"models": (model(state="installed"),)}, "no_model_loaded@r1-7b", "info", "No model is loaded"),
        ({"models": (model(state="failed", error="too large"),)}, "model_not_loaded@r1-7b", "error", "too large"),
        ({"models": (model(), model(id="b", state="failed", default=False))}, "model_not_loaded@b", "warning", "log"),
        ({"restarts": {"r1-7b": DIED}}, "engine_crash_loop@r1-7b", "error", "3 times in ten minutes"),
        ({"offload": (verdict("DEGRADED", "slow"),)}, "offload_degraded@r1-7b", "warning", "It is slow."),
        ({"offload": (verdict("CPU", "no_card_used"),)}, "offload_on_processor@r1-7b", "warning", "on the processor"),
        ({"refused": {"r1-7b": "It would run on the processor."}}, "offload_refused@r1-7b", "error", "not served"),
        ({"telemetry": telemetry(device(state="lost", problem="It fell off the bus."))}, "device_lost@nvidia:0",
         "error", "fell off the bus. r1-7b was loaded on it."),
        ({"telemetry": telemetry(device(), device(key="nvidia:1", state="lost"))}, "device_lost@nvidia:1", "warning",
         "lists it no longer"),
        ({"telemetry": telemetry(device(throttle_reasons=("hw_thermal",)))}, "device_throttled@nvidia:0", "warning",
         "at 60 °C: hw_thermal"),
        ({"telemetry": telemetry(device(health="critical"))}, "device_unhealthy@nvidia:0", "error", "state critical"),
        ({"telemetry": telemetry(of_host=host(cpu_temperature_celsius=99.0))}, "processor_hot", "warning", "99 °C"),
        ({"telemetry": telemetry(monitors=(FAILED,))}, "monitor_failed@nvidia", "warning", "NVML hangs."),
        ({"telemetry": telemetry(of_host=host(memory_used_bytes=64 * GIB - 200 * 1024**2))}, "memory_low", "warning",
         "200 MiB of 64.0 GiB"),
        ({"findings": (Finding("nodes_missing", "No nodes.", "Load the module.", Severity.ERROR,
         device="ascend:0.0"),)}, "nodes_missing@ascend:0.0", "error", "No nodes."),
        ({"damaged": {"old": "the file is shorter than its manifest says"}}, "model_damaged@old", "error", "shorter"),
        ({"disks": (DiskRoom("state", "/s", GIB // 2, 100 * GIB),)}, "disk_full@state", "warning", "512 MiB left"),
        ({"disks": (DiskRoom("models", "/m", 1024**2, 100 * GIB),)}, "disk_full@models", "error", "model store (/m)"),
        ({"now": datetime(1970, 1, 1, 3, tzinfo=UTC)}, "clock_wrong", "error", "in the past"),
        ({"newest_import_at": NOW + timedelta(days=3)}, "clock_wrong", "error", "one of the two is wrong"),
        ({"certificate_ends_at": NOW + timedelta(days=9, hours=1)}, "certificate_ends", "warning", "ends in 9 days"),
        ({"certificate_ends_at": NOW - timedelta(days=1)}, "certificate_ends", "error", "has ended"),
        ({"cluster": cluster("away")}, "cluster_box_away@box-2", "warning", "box-2 of the cluster does not answer"),
        ({"cluster": cluster("away", model="r1")}, "cluster_box_away@box-2", "error", "r1, which all serve together"),
        ({"cluster": cluster("here", model="r1", has="missing")}, "cluster_model_missing@box-2", "error",
         "is not in its store"),
        ({"cluster": cluster("here", model="r1", has="differs")}, "cluster_model_missing@box-2", "error",
         "is another one"),
        ({"cluster": ClusterStatus(role="member", problem="The leading box does not answer.")}, "cluster_left_out",
         "warning", "takes no part"),
        ({"alerts": (receiver(), receiver(failures=3, waiting=2, last_error="it answers with status 503"))},
         "alerts_not_delivered@https://chat.example.org", "warning", "status 503. 2 wait so far."),
        ({"alerts": (receiver(failures=1, given_up=1, dropped=4, last_error="no answer within 10 s"),)},
         "alerts_not_delivered@https://chat.example.org", "warning", "within 10 s. 5 were lost so far."),
    ],
    ids=lambda value: value if isinstance(value, str) and "@" in value else None,
)  # fmt: skip
def test_what_is_wrong_is_one_problem_with_its_next_step(
    changes: Mapping[str, object], key: str, severity: str, words: str
) -> None:
    problems = found(replace(WELL, **changes))  # type: ignore[arg-type]
    assert [(problem.key, problem.severity) for problem in problems] == [(key, severity)]
    assert words in problems[0].message
    assert problems[0].hint


def test_every_fix_up_that_a_check_names_exists() -> None:
    known = {fixup.name for fixup in all_fixups(models=None, verifier=None, hardware=None, offload=None, alerts=None)}  # type: ignore[arg-type]
    folder = Path(__file__).parents[3] / "appliance" / "health"
    text = "".join(file.read_text(encoding="utf-8") for file in (folder / "checks").glob("*.py"))
    for name in known:
        assert f'"{name}"' in text, f"no check offers {name}"
    broken = replace(WELL, models=(model(state="failed"),), damaged={"x": "?"}, restarts={"r1-7b": DIED},
                     offload=(verdict("DEGRADED", "slow"),), telemetry=telemetry(device(state="lost")),
                     alerts=(receiver(failures=3),))  # fmt: skip
    assert {name for problem in found(broken) for name in problem.fixups} <= known


def test_every_check_is_a_file_and_is_registered() -> None:
    folder = Path(__file__).parents[3] / "appliance" / "health" / "checks"
    files = {file.stem for file in folder.glob("*.py")} - {"__init__"}
    assert {check.__module__.rpartition(".")[2] for check in CHECKS} == files  # type: ignore[attr-defined]
