"""The JSON Schema of a snapshot: the file is what the types say, and snapshots are valid by it."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

import drivers
from drivers.npu_smi import NpuInfo, parse_info
from drivers.probe import default_probes, detect
from drivers.snapshot_json import FIELDS, SnapshotError, from_json, to_dict, to_json
from drivers.snapshot_schema import DESCRIPTIONS, DIALECT, SCHEMA_ID, schema, schema_json
from drivers.types import HardwareSnapshot, Host, ProbeResult
from tests.drivers.snapshots import FULL, SNAPSHOTS
from tests.fakes.nvml.scenarios import gb10, h20_box, jetson_orin, lost_card, mig_a100, t4
from tests.models.machines import ALL

FILE = Path(drivers.__file__).with_name("snapshot.schema.json")
CAPTURES = Path(__file__).parents[1] / "fixtures" / "npu_smi"
KINDS: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
NOTES = {"$schema", "$id", "$defs", "title", "description", "default"}


def problems(value: Any, rule: Mapping[str, Any], root: Mapping[str, Any], path: str = "$") -> list[str]:
    """What is wrong with a value by the keywords that our schema uses; any other keyword is an error of the schema."""
    found: list[str] = []
    for keyword, wanted in rule.items():
        if keyword in NOTES:
            continue
        if keyword == "$ref":
            found += problems(value, root["$defs"][wanted.removeprefix("#/$defs/")], root, path)
        elif keyword == "anyOf":
            tried = [problems(value, one, root, path) for one in wanted]
            found += [] if [] in tried else tried[0]
        elif keyword == "properties":
            inner = {name: one for name, one in wanted.items() if isinstance(value, dict) and name in value}
            for name, one in inner.items():
                found += problems(value[name], one, root, f"{path}.{name}")
        elif keyword == "items":
            for position, one in enumerate(value if isinstance(value, list) else []):
                found += problems(one, wanted, root, f"{path}[{position}]")
        elif not holds(value, keyword, wanted):
            found.append(f"{path}: {keyword} {wanted}")
    return found


def holds(value: Any, keyword: str, wanted: Any) -> bool:
    if keyword == "type":
        return isinstance(value, KINDS[wanted]) and (wanted == "boolean" or not isinstance(value, bool))
    if keyword == "const":
        return type(value) is type(wanted) and bool(value == wanted)
    if keyword == "enum":
        return value in wanted
    if keyword == "required":
        return not isinstance(value, dict) or set(wanted) <= set(value)
    if keyword == "pattern":
        return not isinstance(value, str) or re.search(wanted, value) is not None
    if keyword == "maxItems":
        return not isinstance(value, list) or len(value) <= wanted
    number = isinstance(value, int | float)
    if keyword == "minimum":
        return not number or value >= wanted
    if keyword == "maximum":
        return not number or value <= wanted
    raise AssertionError(f"the schema uses {keyword}, which this check does not know")


def check(values: Any) -> list[str]:
    made = schema()
    return problems(values, made, made)


def plain(snapshot: HardwareSnapshot) -> Any:
    return json.loads(json.dumps(to_dict(snapshot)))


def test_the_file_is_what_the_types_say() -> None:
    assert FILE.read_text("utf-8") == schema_json(), (
        "make it anew: r1box detect --schema > drivers/snapshot.schema.json"
    )


def test_it_names_its_dialect_and_no_host() -> None:
    made = schema()
    assert (made["$schema"], made["$id"]) == (DIALECT, SCHEMA_ID)
    assert re.findall(r"https?://[\w.-]+", schema_json()) == ["https://json-schema.org"]


def test_every_field_is_described() -> None:
    assert {kind: list(texts) for kind, texts in DESCRIPTIONS.items()}.keys() == FIELDS.keys()
    for kind, fields in FIELDS.items():
        assert set(DESCRIPTIONS[kind]) == set(fields), kind
        assert all(text.endswith(".") for text in DESCRIPTIONS[kind].values()), kind


def test_every_field_of_the_types_is_in_it() -> None:
    parts = schema()["$defs"] | {"HardwareSnapshot": schema()}
    for kind in FIELDS:
        assert set(parts[kind.__name__]["properties"]) == {field.name for field in dataclasses.fields(kind)}


@pytest.mark.parametrize("name", sorted(ALL))
def test_the_machines_of_the_planners_tests_are_valid(name: str) -> None:
    assert check(plain(ALL[name])) == []


def test_this_machine_and_a_full_snapshot_are_valid() -> None:
    assert check(plain(detect(default_probes()))) == []
    assert check(plain(FULL)) == []


def of(result: ProbeResult | NpuInfo) -> HardwareSnapshot:
    return HardwareSnapshot(Host(), result.devices, result.findings)


@pytest.mark.parametrize("box", [h20_box, mig_a100, gb10, lost_card, t4, jetson_orin], ids=lambda box: box.__name__)
def test_what_the_nvidia_probe_finds_is_valid_and_read_back(
    box: Callable[[], Mapping[str, object]], probe_nvidia: Callable[..., ProbeResult]
) -> None:
    snapshot = of(probe_nvidia(box()))
    assert snapshot.devices
    assert check(plain(snapshot)) == []
    assert from_json(to_json(snapshot)) == snapshot


@pytest.mark.parametrize("capture", sorted(CAPTURES.glob("*info*.txt")), ids=lambda path: path.stem)
def test_what_recorded_output_tells_is_valid_and_read_back(capture: Path) -> None:
    snapshot = of(parse_info(capture.read_text("utf-8")))
    assert snapshot.devices
    assert check(plain(snapshot)) == []
    assert from_json(to_json(snapshot)) == snapshot


@settings(max_examples=30)
@given(SNAPSHOTS)
def test_any_snapshot_is_valid(snapshot: HardwareSnapshot) -> None:
    assert check(plain(snapshot)) == []


def test_what_is_written_by_hand_may_be_short() -> None:
    assert check({"schema": 1}) == []
    assert check({"schema": 1, "host": {}, "devices": [{"vendor": "nvidia", "name": "A"}]}) == []


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"schema": 2},
        {"schema": True},
        {"schema": 1, "devices": {}},
        {"schema": 1, "devices": [{"name": "A"}]},
        {"schema": 1, "devices": [{"vendor": "nvidia", "name": "A", "index": -1}]},
        {"schema": 1, "devices": [{"vendor": "nvidia", "name": "A", "index": "0"}]},
        {"schema": 1, "devices": [{"vendor": "NVIDIA", "name": "A"}]},
        {"schema": 1, "devices": [{"vendor": "nvidia", "name": "A", "pci_address": "slot 3"}]},
        {"schema": 1, "devices": [{"vendor": "nvidia", "name": "A", "health": "fine"}]},
        {"schema": 1, "devices": [{"vendor": "nvidia", "name": "A", "utilization_percent": 101}]},
        {"schema": 1, "devices": [{"vendor": "nvidia", "name": "A", "throttle_reasons": ["x"] * 65}]},
        {"schema": 1, "devices": [{"vendor": "nvidia", "name": "A", "layers": {"pci": "fine"}}]},
        {"schema": 1, "layers": [{"vendor": "nvidia", "layer": "slot", "state": "ok"}]},
        {"schema": 1, "software": [{"name": "cann"}]},
    ],
    ids=str,
)
def test_what_the_reader_refuses_is_not_valid(values: Any) -> None:
    assert check(values) != []
    with pytest.raises(SnapshotError):
        from_json(values)
