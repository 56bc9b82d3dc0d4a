"""All probes together."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from drivers.probe import default_probes, detect
from drivers.types import Device, Finding, Host, ProbeResult, Severity, Vendor

HOST = Host(hostname="box", memory_total_bytes=1 << 30, memory_available_bytes=1 << 29)


@dataclass
class Scripted:
    """A probe that does what the test says."""

    name: str
    answer: Callable[[], ProbeResult] = field(default=lambda: ProbeResult("empty"))

    def probe(self) -> ProbeResult:
        return self.answer()


def ascend(index: int | None, card_id: int, chip_id: int = 0) -> Device:
    return Device(Vendor.ASCEND, index, "Ascend 310P3", card_id=card_id, chip_id=chip_id)


def test_results_are_joined_in_a_stable_order() -> None:
    note = Finding("note", "something")
    second = ProbeResult("b", (ascend(None, 7), ascend(2, 1), ascend(0, 32768), ascend(1, 32768, 1)), (note,))
    first = ProbeResult("a", (Device(Vendor.NVIDIA, 1, "x"), Device(Vendor.NVIDIA, 0, "y")))
    snapshot = detect([Scripted("a", lambda: first), Scripted("b", lambda: second)], lambda: HOST)
    assert [device.key for device in snapshot.devices] == [
        "nvidia:0",
        "nvidia:1",
        "ascend:32768.0",
        "ascend:32768.1",
        "ascend:1.0",
        "ascend:7.0",
    ]
    assert snapshot.findings == (note,)
    assert snapshot.host == HOST


def test_probe_that_raises_is_a_finding(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> ProbeResult:
        raise RuntimeError("no such luck")

    good = ProbeResult("good", (ascend(0, 0),))
    snapshot = detect([Scripted("bad", broken), Scripted("good", lambda: good)], lambda: HOST)
    assert [(one.code, one.source, one.severity) for one in snapshot.findings] == [
        ("probe_failed", "bad", Severity.ERROR)
    ]
    assert "RuntimeError: no such luck" in snapshot.findings[0].message
    assert len(snapshot.devices) == 1
    assert "the bad probe failed" in caplog.text


def test_probe_that_never_returns_is_a_finding() -> None:
    release = threading.Event()

    def hangs() -> ProbeResult:
        release.wait(60)
        return ProbeResult("late", (ascend(0, 0),))

    try:
        snapshot = detect([Scripted("late", hangs), Scripted("good")], lambda: HOST, timeout_s=0.2)
    finally:
        release.set()
    assert [(one.code, one.source) for one in snapshot.findings] == [("probe_timed_out", "late")]
    assert snapshot.devices == ()


def test_probes_run_side_by_side() -> None:
    """Each waits for the other: one after the other they would never end."""
    barrier = threading.Barrier(3, timeout=20)

    def meet() -> ProbeResult:
        barrier.wait()
        return ProbeResult("met")

    def read_host() -> Host:
        barrier.wait()
        return HOST

    snapshot = detect([Scripted("a", meet), Scripted("b", meet)], read_host)
    assert snapshot.findings == ()


def test_host_that_cannot_be_read_is_a_finding() -> None:
    def broken() -> Host:
        raise OSError("no /proc")

    snapshot = detect([], broken)
    assert snapshot.host == Host()
    assert [(one.code, one.source) for one in snapshot.findings] == [("probe_failed", "host")]


def test_default_probes_name_their_vendors(tmp_path: Path) -> None:
    assert [probe.name for probe in default_probes(tmp_path)] == ["nvidia", "ascend"]


def test_this_machine_is_detected() -> None:
    snapshot = detect(default_probes())
    assert snapshot.host.cpu_cores
    assert not any(finding.code == "probe_failed" for finding in snapshot.findings)
