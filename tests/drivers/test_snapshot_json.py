"""Snapshots as JSON and back."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.snapshot_json import MAX_TEXT_BYTES, SnapshotError, from_json, to_dict, to_json
from drivers.types import Device, Disk, Finding, HardwareSnapshot, Health, Host, Severity, Vendor

FULL = HardwareSnapshot(
    host=Host(
        hostname="box",
        architecture="aarch64",
        os_name="openEuler 22.03",
        kernel="5.10.0",
        cpu_model="HiSilicon Kunpeng 920 (TaiShan v110)",
        cpu_cores=96,
        cpu_threads=96,
        memory_total_bytes=512 << 30,
        memory_available_bytes=471 << 30,
        disks=(Disk("/", "ext4", 1 << 40, 1 << 39),),
    ),
    devices=(
        Device(
            Vendor.ASCEND,
            0,
            "Ascend 310P3",
            chip="310P3",
            card_id=32768,
            chip_id=0,
            pci_address="0000:81:00.0",
            numa_node=1,
            memory_kind="ddr",
            memory_total_bytes=44280 << 20,
            memory_free_bytes=43000 << 20,
            health=Health.OK,
            utilization_percent=0.0,
            temperature_celsius=51.0,
            driver_version="25.2.0",
        ),
        Device(Vendor.NVIDIA, None, "NVIDIA card", health=Health.CRITICAL),
    ),
    findings=(Finding("device_lost", "Lost.", "Look.", Severity.ERROR, "nvidia", "nvidia:?"),),
)


def test_round_trip() -> None:
    assert from_json(to_json(FULL)) == FULL
    assert from_json(to_json(FULL).encode()) == FULL
    assert from_json(to_dict(FULL)) == FULL
    assert from_json(to_json(HardwareSnapshot(Host()))) == HardwareSnapshot(Host())


def test_keys_are_the_documented_ones() -> None:
    values = json.loads(to_json(FULL))
    assert list(values) == ["schema", "host", "devices", "findings"]
    assert {"cpu_model", "cpu_cores", "memory_total_bytes", "memory_available_bytes", "disks"} <= set(values["host"])
    assert {
        "vendor",
        "index",
        "name",
        "chip",
        "pci_address",
        "memory_total_bytes",
        "memory_free_bytes",
        "unified_memory",
        "compute_capability",
        "health",
    } <= set(values["devices"][0])
    assert values["devices"][1]["index"] is None
    assert {"code", "message", "hint"} <= set(values["findings"][0])
    assert values["schema"] == 1


def test_machine_written_by_hand() -> None:
    snapshot = from_json(
        """{"schema": 1, "host": {"memory_total_bytes": 68719476736},
            "devices": [{"vendor": "nvidia", "name": "A", "memory_total_bytes": 1}, {"vendor": "ascend", "name": "B"},
                        {"vendor": "nvidia", "name": "C"}]}"""
    )
    assert [device.key for device in snapshot.devices] == ["nvidia:0", "ascend:0", "nvidia:1"]
    assert snapshot.host == Host(memory_total_bytes=64 << 30)
    assert snapshot.findings == ()


def test_schema_alone_is_a_machine_without_cards() -> None:
    assert from_json({"schema": 1}) == HardwareSnapshot(Host())


def test_unknown_keys_are_ignored_and_named() -> None:
    snapshot = from_json(
        {
            "schema": 1,
            "host": {
                "memory_totl_bytes": 5,
                "disks": [{"mount_point": "/", "filesystem": "x", "total_bytes": 1, "free_bytes": 1, "uuid": 1}],
            },
            "devices": [{"vendor": "nvidia", "name": "A", "colour": "green"}],
            "extra": {},
        }
    )
    assert [finding.code for finding in snapshot.findings] == ["snapshot_field_unknown"]
    message = snapshot.findings[0].message
    assert "host.memory_totl_bytes (meant: memory_total_bytes?)" in message
    for name in ("host.disks[0].uuid", "devices[0].colour", "extra"):
        assert name in message


def machine(device: dict[str, Any] | None = None, host: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"schema": 1, "host": host or {}, "devices": [{"vendor": "nvidia", "name": "A"} | (device or {})]}


@pytest.mark.parametrize(
    ("source", "code", "field"),
    [
        ("", "snapshot_not_json", None),
        ("{", "snapshot_not_json", None),
        (b"\xff\xfe", "snapshot_not_json", None),
        ("[" * 100_000, "snapshot_not_json", None),
        ('{"schema": NaN}', "snapshot_not_json", None),
        (" " * (MAX_TEXT_BYTES + 1), "snapshot_too_large", None),
        ("[]", "snapshot_field_invalid", None),
        ({}, "snapshot_field_missing", "schema"),
        ({"schema": 2}, "snapshot_schema_unknown", "schema"),
        ({"schema": "1"}, "snapshot_schema_unknown", "schema"),
        ({"schema": True}, "snapshot_schema_unknown", "schema"),
        ({"schema": 1, "host": []}, "snapshot_field_invalid", "host"),
        ({"schema": 1, "devices": {}}, "snapshot_field_invalid", "devices"),
        ({"schema": 1, "devices": [1]}, "snapshot_field_invalid", "devices[0]"),
        ({"schema": 1, "devices": [{"name": "A"}]}, "snapshot_field_missing", "devices[0].vendor"),
        ({"schema": 1, "devices": [{"vendor": "amd", "name": "A"}]}, "snapshot_field_invalid", "devices[0].vendor"),
        ({"schema": 1, "devices": [{}] * 2000}, "snapshot_too_large", "devices"),
        ({"schema": 1, "findings": [{"code": "x"}]}, "snapshot_field_missing", "findings[0].message"),
        (machine({"index": "0"}), "snapshot_field_invalid", "devices[0].index"),
        (machine({"index": -1}), "snapshot_field_invalid", "devices[0].index"),
        (machine({"index": True}), "snapshot_field_invalid", "devices[0].index"),
        (machine({"memory_total_bytes": 0}), "snapshot_field_invalid", "devices[0].memory_total_bytes"),
        (machine({"memory_total_bytes": 1.5}), "snapshot_field_invalid", "devices[0].memory_total_bytes"),
        (machine({"memory_total_bytes": 1 << 80}), "snapshot_field_invalid", "devices[0].memory_total_bytes"),
        (
            machine({"memory_total_bytes": 5, "memory_free_bytes": 6}),
            "snapshot_field_invalid",
            "devices[0].memory_free_bytes",
        ),
        (machine({"utilization_percent": 101}), "snapshot_field_invalid", "devices[0].utilization_percent"),
        (machine({"temperature_celsius": float("inf")}), "snapshot_field_invalid", "devices[0].temperature_celsius"),
        (machine({"pci_address": "slot 3"}), "snapshot_field_invalid", "devices[0].pci_address"),
        (machine({"health": "fine"}), "snapshot_field_invalid", "devices[0].health"),
        (machine(host={"cpu_cores": 0}), "snapshot_field_invalid", "host.cpu_cores"),
        (machine(host={"memory_total_bytes": "64G"}), "snapshot_field_invalid", "host.memory_total_bytes"),
        (machine(host={"disks": [{"mount_point": 1}]}), "snapshot_field_invalid", "host.disks[0].mount_point"),
        (machine(host={"disks": 5}), "snapshot_field_invalid", "host.disks"),
    ],
)
def test_wrong_snapshots_are_refused_by_field(source: Any, code: str, field: str | None) -> None:
    with pytest.raises(SnapshotError) as caught:
        from_json(source)
    assert (caught.value.code, caught.value.field) == (code, field)
    assert caught.value.hint
    assert caught.value.http_status == 400
    assert caught.value.details == {"field": field}
    assert len(caught.value.message) < 400
    if field is not None:
        assert field in caught.value.message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(
    ["schema", "host", "devices", "findings", "vendor", "name", "index", "disks", "memory_total_bytes"]
)


@given(st.one_of(st.text(), st.binary(), JSON.map(json.dumps)))
def test_any_text_gives_a_snapshot_or_a_plain_error(source: str | bytes) -> None:
    with pytest.raises(SnapshotError):
        from_json(source)


@settings(max_examples=50)
@given(st.dictionaries(NAMES, JSON | st.lists(st.dictionaries(NAMES, JSON), max_size=2) | st.dictionaries(NAMES, JSON)))
def test_any_values_give_a_snapshot_or_a_plain_error(values: dict[str, Any]) -> None:
    with contextlib.suppress(SnapshotError):
        snapshot = from_json(values | {"schema": 1})
        assert from_json(to_json(snapshot)) == snapshot


BYTES = st.none() | st.integers(1, 1 << 50)
DEVICES = st.builds(
    Device,
    vendor=st.sampled_from(Vendor),
    index=st.none() | st.integers(0, 99),
    name=st.text(max_size=20),
    chip=st.none() | st.text(max_size=8),
    card_id=st.none() | st.integers(0, 1 << 16),
    memory_total_bytes=BYTES,
    health=st.sampled_from(Health),
    power_watts=st.none() | st.floats(0, 1000),
)


@given(
    st.builds(
        HardwareSnapshot,
        host=st.builds(Host, hostname=st.none() | st.text(), cpu_cores=st.none()),
        devices=st.lists(DEVICES, max_size=3).map(tuple),
        findings=st.just(()),
        schema=st.just(1),
    )
)
def test_any_snapshot_survives(snapshot: HardwareSnapshot) -> None:
    assert from_json(to_json(snapshot)) == snapshot
