"""Snapshots as JSON and back."""

from __future__ import annotations

import contextlib
import json
import typing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.snapshot_json import (
    FIELDS,
    LENGTHS,
    MAX_TEXT_BYTES,
    RANGES,
    SnapshotError,
    from_json,
    to_dict,
    to_json,
)
from drivers.types import HardwareSnapshot, Host
from tests.drivers.snapshots import FULL, SNAPSHOTS


def test_round_trip() -> None:
    assert from_json(to_json(FULL)) == FULL
    assert from_json(to_json(FULL).encode()) == FULL
    assert from_json(to_dict(FULL)) == FULL
    assert from_json(to_json(HardwareSnapshot(Host()))) == HardwareSnapshot(Host())


def test_keys_are_the_documented_ones() -> None:
    values = json.loads(to_json(FULL))
    assert list(values) == ["schema", "host", "devices", "findings", "layers", "software"]
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
    assert values["layers"][0] == {
        "vendor": "ascend",
        "layer": "pci",
        "state": "ok",
        "detail": "1 card",
        "findings": [],
    }
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


def test_parts_of_a_device_do_not_count_as_devices() -> None:
    part = {"vendor": "nvidia", "name": "MIG", "parent": "nvidia:0"}
    whole = {"vendor": "nvidia", "name": "A"}
    devices = from_json({"schema": 1, "devices": [whole, part, part, whole]}).devices
    assert [device.index for device in devices] == [0, None, None, 1]


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
            "devices": [
                {
                    "vendor": "nvidia",
                    "name": "A",
                    "colour": "green",
                    "layers": {"pcie": "ok"},
                    "memory_errors": {"corected": 1},
                    "links": [{"peer": "nvidia:1", "kind": "sys"}, {"peer": "nvidia:1", "kind": "sys", "lane": 1}],
                }
            ],
            "findings": [{"code": "x", "message": "y", "text": "z"}],
            "extra": {},
        }
    )
    assert [finding.code for finding in snapshot.findings] == ["x", "snapshot_field_unknown"]
    message = snapshot.findings[1].message
    assert "host.memory_totl_bytes (meant: memory_total_bytes?)" in message
    for name in (
        "host.disks[0].uuid",
        "devices[0].colour",
        "devices[0].layers.pcie",
        "devices[0].memory_errors.corected (meant: corrected?)",
        "devices[0].links[1].lane (meant: lanes?)",
        "extra",
    ):
        assert name in message


def test_many_unknown_keys_are_counted() -> None:
    message = from_json({"schema": 1} | {f"key{number}": 1 for number in range(1000)}).findings[0].message
    assert message.endswith("key7 and 992 more.")


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
        ({"schema": 1, "findings": [{}] * 9000}, "snapshot_too_large", "findings"),
        (machine({"throttle_reasons": ["hot"] * 65}), "snapshot_too_large", "devices[0].throttle_reasons"),
        ('{"schema": ' + "1" * 5000 + "}", "snapshot_not_json", None),
        ({"schema": 10**5000}, "snapshot_schema_unknown", "schema"),
        (machine({"card_id": 10**5000}), "snapshot_field_invalid", "devices[0].card_id"),
        (machine({"power_watts": 10**400}), "snapshot_field_invalid", "devices[0].power_watts"),
        (machine({"vendor": "x" * 10**6}), "snapshot_field_invalid", "devices[0].vendor"),
        (machine({"health": "x" * 10**6}), "snapshot_field_invalid", "devices[0].health"),
        (machine({"layers": {"pci": "fine"}}), "snapshot_field_invalid", "devices[0].layers.pci"),
        (machine({"layers": {1: "ok"}}), "snapshot_field_invalid", "devices[0]"),
        (machine({"memory_reserved_bytes": -1}), "snapshot_field_invalid", "devices[0].memory_reserved_bytes"),
        (
            machine({"memory_total_bytes": 5, "memory_reserved_bytes": 6}),
            "snapshot_field_invalid",
            "devices[0].memory_reserved_bytes",
        ),
        (machine({"clock_mhz": 1 << 40}), "snapshot_field_invalid", "devices[0].clock_mhz"),
        (machine({"power_limit_watts": float("nan")}), "snapshot_field_invalid", "devices[0].power_limit_watts"),
        (
            machine({"memory_errors": {"corrected": -1}}),
            "snapshot_field_invalid",
            "devices[0].memory_errors.corrected",
        ),
        (machine({"faults": [{"code": 79}]}), "snapshot_field_invalid", "devices[0].faults[0].code"),
        (
            machine({"links": [{"peer": "nvidia:1", "kind": "nvlink", "lanes": 0}]}),
            "snapshot_field_invalid",
            "devices[0].links[0].lanes",
        ),
        (machine({"processes": [{}]}), "snapshot_field_missing", "devices[0].processes[0].pid"),
        (
            {"schema": 1, "layers": [{"vendor": "amd", "layer": "pci", "state": "ok"}]},
            "snapshot_field_invalid",
            "layers[0].vendor",
        ),
        (
            {"schema": 1, "layers": [{"vendor": "nvidia", "layer": "slot", "state": "ok"}]},
            "snapshot_field_invalid",
            "layers[0].layer",
        ),
        ({"schema": 1, "software": [{"name": "cann"}]}, "snapshot_field_missing", "software[0].version"),
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
    [
        "schema",
        "host",
        "devices",
        "findings",
        "layers",
        "software",
        "vendor",
        "name",
        "index",
        "disks",
        "faults",
        "links",
        "memory_errors",
        "memory_total_bytes",
    ]
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


@settings(max_examples=60)
@given(SNAPSHOTS)
def test_any_snapshot_survives(snapshot: HardwareSnapshot) -> None:
    again = from_json(to_json(snapshot))
    assert again == snapshot
    assert to_json(again) == to_json(snapshot)


def test_every_number_has_a_range_and_every_list_a_length() -> None:
    """What is added to the types is checked when it is read."""
    for kind, fields in FIELDS.items():
        hints = typing.get_type_hints(kind)
        for name in fields:
            hint = hints[name]
            if typing.get_origin(hint) is tuple:
                assert LENGTHS[kind][name] > 0
            elif {int, float} & {hint, *typing.get_args(hint)} and (kind, name) != (HardwareSnapshot, "schema"):
                low, high = RANGES[kind][name]
                assert low < high
