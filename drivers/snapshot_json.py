"""A snapshot as JSON and back: for ``r1box detect --json`` and for machines described by hand.

Schema 1 has the keys ``schema``, ``host``, ``devices``, ``findings``, ``layers`` and ``software``; inside, every field
of the values in ``drivers.types`` under its own name, unknown values as ``null``. ``drivers/snapshot.schema.json``
describes it for programs. Reading is strict about types and ranges, lenient about what is left out; keys it does not
know are ignored and named in a finding, so that a typing error shows.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from drivers.errors import DriverError, printable
from drivers.pci import normalize_address
from drivers.types import (
    SNAPSHOT_SCHEMA,
    Device,
    DeviceLink,
    DeviceProcess,
    Disk,
    Finding,
    HardwareSnapshot,
    Host,
    LayerReport,
    MemoryErrors,
    Severity,
    Software,
)
from drivers.vendors import VENDORS

MAX_TEXT_BYTES = 4 << 20
MAX_DEVICES = 1024
_KEYS = ("schema", "host", "devices", "findings", "layers", "software")
_MAX_BYTES = 1 << 56
_MAX_COUNT = 1 << 31
_NUMBER = (0, _MAX_COUNT)
_BYTES = (0, _MAX_BYTES)
_DISK_BYTES = (0, 1 << 63)
_WATTS = (0, 1_000_000)
_MEGAHERTZ = (0, 1_000_000)
_COUNTER = (0, (1 << 64) - 1)
_HINT = "r1box detect --json prints a snapshot in the right form, r1box detect --schema its JSON Schema."

RANGES: Mapping[type[Any], Mapping[str, tuple[float, float]]] = {
    Host: {
        "cpu_cores": (1, _MAX_COUNT),
        "cpu_threads": (1, _MAX_COUNT),
        "memory_total_bytes": (1, _MAX_BYTES),
        "memory_available_bytes": _BYTES,
    },
    Disk: {"total_bytes": _DISK_BYTES, "free_bytes": _DISK_BYTES},
    Device: {
        "index": _NUMBER,
        "card_id": _NUMBER,
        "chip_id": _NUMBER,
        "numa_node": _NUMBER,
        "memory_total_bytes": (1, _MAX_BYTES),
        "memory_free_bytes": _BYTES,
        "memory_reserved_bytes": _BYTES,
        "utilization_percent": (0, 100),
        "temperature_celsius": (-273, 1000),
        "power_watts": _WATTS,
        "power_limit_watts": _WATTS,
        "clock_mhz": _MEGAHERTZ,
        "memory_clock_mhz": _MEGAHERTZ,
    },
    DeviceLink: {"lanes": (1, 1024)},
    DeviceProcess: {"pid": _NUMBER, "memory_bytes": _BYTES},
    MemoryErrors: {
        "corrected": _COUNTER,
        "uncorrected": _COUNTER,
        "corrected_total": _COUNTER,
        "uncorrected_total": _COUNTER,
        "retired_pages": _COUNTER,
        "remapped_rows": _COUNTER,
    },
}
"""Least and greatest value of every number, both allowed."""

LENGTHS: Mapping[type[Any], Mapping[str, int]] = {
    HardwareSnapshot: {"devices": MAX_DEVICES, "findings": 8192, "layers": 1024, "software": 1024},
    Host: {"disks": 4096},
    Device: {"throttle_reasons": 64, "faults": 1024, "links": MAX_DEVICES, "processes": 8192, "unsupported": 256},
    LayerReport: {"findings": 256},
}
"""Greatest length of every list."""


def _dataclass_in(hint: Any) -> type[Any] | None:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return hint
    return next((found for one in typing.get_args(hint) if (found := _dataclass_in(one)) is not None), None)


def _fields_of(kind: type[Any]) -> dict[type[Any], Mapping[str, type[Any] | None]]:
    hints = typing.get_type_hints(kind)
    fields = {field.name: _dataclass_in(hints[field.name]) for field in dataclasses.fields(kind)}
    found: dict[type[Any], Mapping[str, type[Any] | None]] = {kind: fields}
    for inner in fields.values():
        found |= {} if inner is None else _fields_of(inner)
    return found


FIELDS = _fields_of(HardwareSnapshot)
"""The fields of every value in a snapshot, each with the kind of value that it holds one or several of, ``None`` for
plain ones."""

_NAMED_KEYS = 8
_T = TypeVar("_T")
_OfVendor = TypeVar("_OfVendor", Device, LayerReport)


class SnapshotError(DriverError):
    """A snapshot that cannot be read; ``field`` is the path of what is wrong, such as ``devices[0].index``."""

    def __init__(self, code: str, message: str, hint: str | None = _HINT, *, field: str | None = None) -> None:
        super().__init__(code, printable(message), hint, http_status=400, field=field)
        self.field = field


def to_dict(snapshot: HardwareSnapshot) -> dict[str, Any]:
    """The snapshot as plain values, ready for any JSON writer; keys in a stable order."""
    values = msgspec.to_builtins(snapshot)
    return {name: values[name] for name in _KEYS}


def to_json(snapshot: HardwareSnapshot, *, indent: int | None = 2) -> str:
    """The snapshot as JSON text."""
    return json.dumps(to_dict(snapshot), indent=indent, ensure_ascii=False, allow_nan=False)


def from_json(source: str | bytes | Mapping[str, Any]) -> HardwareSnapshot:
    """Read a snapshot from JSON text or from values already decoded. Raises ``SnapshotError``.

    Only ``schema`` is required. A device without the key ``index`` gets its position among the devices of its vendor;
    an ``index`` of ``null`` stays unknown.
    """
    values = _object(_decode(source) if isinstance(source, str | bytes) else source, "")
    schema = values.get("schema")
    if schema is None:
        raise SnapshotError("snapshot_field_missing", "The snapshot has no field schema.", field="schema")
    if type(schema) is not int or schema != SNAPSHOT_SCHEMA:
        message = f"The snapshot has schema {_shown(schema)}; this version reads schema {SNAPSHOT_SCHEMA}."
        raise SnapshotError("snapshot_schema_unknown", message, field="schema")
    unknown: list[str] = []
    _walk(HardwareSnapshot, values, "", unknown)
    host = _read(Host, values.get("host", {}), "host")
    _not_more(host.memory_available_bytes, host.memory_total_bytes, "host.memory_available_bytes")
    return HardwareSnapshot(
        host,
        _devices(values.get("devices", [])),
        _all(Finding, values, "findings") + tuple(_ignored(unknown)),
        tuple(
            _known_vendor(report, f"layers[{position}]")
            for position, report in enumerate(_all(LayerReport, values, "layers"))
        ),
        _all(Software, values, "software"),
    )


def _decode(source: str | bytes) -> Any:
    if len(source) > MAX_TEXT_BYTES:
        raise SnapshotError("snapshot_too_large", f"The snapshot is larger than {MAX_TEXT_BYTES} bytes.")
    try:
        return msgspec.json.decode(source)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        # ValueError: text that is no Unicode, or a number of thousands of digits
        raise SnapshotError("snapshot_not_json", f"The snapshot is no JSON: {error}.") from error


def _devices(value: Any) -> tuple[Device, ...]:
    counts: dict[str, int] = {}
    devices: list[Device] = []
    for position, one in enumerate(_list(value, "devices", _object)):
        path = f"devices[{position}]"
        device = _known_vendor(_read(Device, {"index": None} | one, path), path)
        if device.parent is None:  # a part of a device has no number of its own
            if "index" not in one:
                device = dataclasses.replace(device, index=counts.get(device.vendor, 0))
            counts[device.vendor] = counts.get(device.vendor, 0) + 1
        _check_device(device, path)
        devices.append(device)
    return tuple(devices)


def _all(kind: type[_T], values: Mapping[str, Any], name: str) -> tuple[_T, ...]:
    return tuple(_list(values.get(name, []), name, lambda one, path: _read(kind, one, path)))


def _read(kind: type[_T], value: Any, path: str) -> _T:
    """One dataclass from an object; the library's message is turned into one that names the field."""
    value = _object(value, path)
    try:
        made = msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        problem, _, where = str(error).partition(" - at `$")
        where = (path + where.rstrip("`")).strip(".")
        if problem.startswith("Object missing required field"):
            name = problem.split("`")[1]
            where = f"{where}.{name}"
            message = f"The snapshot has no field {where}, which is required."
            raise SnapshotError("snapshot_field_missing", message, field=where) from error
        message = f"The field {where} of the snapshot is wrong: {problem[:200]}."
        raise SnapshotError("snapshot_field_invalid", message, field=where) from error
    _check_ranges(made, path)
    return made


def _object(value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        message = f"The {'field ' + path + ' of the ' if path else ''}snapshot has to be an object."
        raise SnapshotError("snapshot_field_invalid", message, field=path or None)
    return dict(value)


def _list(value: Any, path: str, read: Callable[[Any, str], _T]) -> list[_T]:
    if not isinstance(value, list | tuple):
        message = f"The field {path} of the snapshot has to be a list."
        raise SnapshotError("snapshot_field_invalid", message, field=path)
    return [read(one, f"{path}[{position}]") for position, one in enumerate(value)]


def _known_vendor(one: _OfVendor, path: str) -> _OfVendor:
    names = [vendor.name for vendor in VENDORS]
    if one.vendor not in names:
        message = f"The field {path}.vendor of the snapshot is no vendor that is known: {_shown(one.vendor)}"
        raise SnapshotError("snapshot_field_invalid", f"{message} (known: {', '.join(names)}).", field=f"{path}.vendor")
    return one


def _check_device(device: Device, path: str) -> None:
    _not_more(device.memory_free_bytes, device.memory_total_bytes, f"{path}.memory_free_bytes")
    _not_more(device.memory_reserved_bytes, device.memory_total_bytes, f"{path}.memory_reserved_bytes")
    if device.pci_address is not None and normalize_address(device.pci_address) is None:
        message = f"The field {path}.pci_address of the snapshot is no PCI address such as 0000:01:00.0."
        raise SnapshotError("snapshot_field_invalid", message, field=f"{path}.pci_address")


def _check_ranges(made: Any, path: str) -> None:
    """Every number of a value and of the values in it."""
    ranges = RANGES.get(type(made), {})
    for name, inner in FIELDS[type(made)].items():
        value = getattr(made, name)
        where = f"{path}.{name}"
        if name in ranges:
            _in_range(value, *ranges[name], where)
        elif inner is not None and isinstance(value, tuple):
            for position, one in enumerate(value):
                _check_ranges(one, f"{where}[{position}]")
        elif inner is not None and value is not None:
            _check_ranges(value, where)


def _in_range(value: float | None, low: float, high: float, path: str) -> None:
    # compared first: an integer of any size can be compared, not every one can be a float
    if value is not None and (not low <= value <= high or not math.isfinite(value)):
        message = f"The field {path} of the snapshot is out of range: {_shown(value)}."
        raise SnapshotError("snapshot_field_invalid", message, field=path)


def _not_more(part: int | None, whole: int | None, path: str) -> None:
    if part is not None and whole is not None and part > whole:
        message = f"The field {path} of the snapshot is larger than the total: {part} of {whole}."
        raise SnapshotError("snapshot_field_invalid", message, field=path)


def _walk(kind: type[Any], value: Any, path: str, unknown: list[str]) -> None:
    """Names the keys that are not known, at any depth, and refuses lists that are too long. What has the wrong type is
    left to those who read it."""
    if not isinstance(value, Mapping):
        return
    fields = FIELDS[kind]
    for key, inside in value.items():
        if not isinstance(key, str):
            continue
        where = f"{path}.{key}".lstrip(".")
        if key not in fields:
            near = difflib.get_close_matches(key[:60], fields, n=1, cutoff=0.8) if len(unknown) < _NAMED_KEYS else []
            name = printable(where[:120])
            unknown.append(f"{name} (meant: {near[0]}?)" if near else name)
            continue
        several = inside if isinstance(inside, list | tuple) else None
        if several is not None and len(several) > LENGTHS.get(kind, {}).get(key, len(several)):
            message = f"The field {where} of the snapshot has more than {LENGTHS[kind][key]} entries."
            raise SnapshotError("snapshot_too_large", message, field=where)
        inner = fields[key]
        if inner is not None and several is not None:
            for position, one in enumerate(several):
                _walk(inner, one, f"{where}[{position}]", unknown)
        elif inner is not None:
            _walk(inner, inside, where, unknown)


def _shown(value: Any) -> str:
    """A value of any kind and size in a few characters for a message."""
    if isinstance(value, int) and value.bit_length() > 128:
        return "a number of more than 128 bits"
    return str(value)[:40]


def _ignored(unknown: list[str]) -> list[Finding]:
    if not unknown:
        return []
    shown = ", ".join(unknown[:_NAMED_KEYS])
    shown += f" and {len(unknown) - _NAMED_KEYS} more" if len(unknown) > _NAMED_KEYS else ""
    message = f"Fields of the snapshot that are not known were ignored: {shown}."
    return [Finding("snapshot_field_unknown", message, _HINT, Severity.WARNING, "snapshot")]
