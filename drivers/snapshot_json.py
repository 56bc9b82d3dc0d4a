"""A snapshot as JSON and back: for ``r1box detect --json`` and for machines described by hand.

Schema 1 has the keys ``schema``, ``host``, ``devices`` and ``findings``; inside, every field of ``Host``, ``Device``
and ``Finding`` under its own name, unknown values as ``null``. Reading is strict about types and ranges, lenient about
what is left out; keys it does not know are ignored and named in a finding, so that a typing error shows.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from drivers.errors import DriverError, printable
from drivers.pci import normalize_address
from drivers.types import SNAPSHOT_SCHEMA, Device, Disk, Finding, HardwareSnapshot, Host, Severity

MAX_TEXT_BYTES = 4 << 20
MAX_DEVICES = 1024
_MAX_BYTES = 1 << 56
_MAX_COUNT = 1 << 31
_HINT = "r1box detect --json prints a snapshot in the right form."


class SnapshotError(DriverError):
    """A snapshot that cannot be read; ``field`` is the path of what is wrong, such as ``devices[0].index``."""

    def __init__(self, code: str, message: str, hint: str | None = _HINT, *, field: str | None = None) -> None:
        super().__init__(code, printable(message), hint, http_status=400, field=field)
        self.field = field


def to_dict(snapshot: HardwareSnapshot) -> dict[str, Any]:
    """The snapshot as plain values, ready for any JSON writer; keys in a stable order."""
    values = msgspec.to_builtins(snapshot)
    return {name: values[name] for name in ("schema", "host", "devices", "findings")}


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
        message = f"The snapshot has schema {str(schema)[:40]}; this version reads schema {SNAPSHOT_SCHEMA}."
        raise SnapshotError("snapshot_schema_unknown", message, field="schema")
    unknown: list[str] = []
    host = _read(Host, values.get("host", {}), "host", unknown)
    devices = _devices(values.get("devices", []), unknown)
    findings = tuple(
        _list(values.get("findings", []), "findings", lambda one, path: _read(Finding, one, path, unknown))
    )
    _unknown_keys(values, {"schema", "host", "devices", "findings"}, "", unknown)
    _check_host(host)
    return HardwareSnapshot(host, devices, findings + tuple(_ignored(unknown)))


def _decode(source: str | bytes) -> Any:
    if len(source) > MAX_TEXT_BYTES:
        raise SnapshotError("snapshot_too_large", f"The snapshot is larger than {MAX_TEXT_BYTES} bytes.")
    try:
        return msgspec.json.decode(source)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise SnapshotError("snapshot_not_json", f"The snapshot is no JSON: {error}.") from error


def _devices(value: Any, unknown: list[str]) -> tuple[Device, ...]:
    if isinstance(value, list | tuple) and len(value) > MAX_DEVICES:
        raise SnapshotError("snapshot_too_large", f"The snapshot has more than {MAX_DEVICES} devices.", field="devices")
    counts: dict[Any, int] = {}
    devices: list[Device] = []
    raw = _list(value, "devices", _object)
    for position, one in enumerate(raw):
        path = f"devices[{position}]"
        device = _read(Device, {"index": None} | one, path, unknown)
        if "index" not in one:
            device = dataclasses.replace(device, index=counts.get(device.vendor, 0))
        counts[device.vendor] = counts.get(device.vendor, 0) + 1
        _check_device(device, path)
        devices.append(device)
    return tuple(devices)


def _read(kind: type[Any], value: Any, path: str, unknown: list[str]) -> Any:
    """One dataclass from an object; the library's message is turned into one that names the field."""
    value = _object(value, path)
    _unknown_keys(value, {field.name for field in dataclasses.fields(kind)}, path, unknown)
    for position, disk in enumerate(_list(value.get("disks", []), f"{path}.disks", _object) if kind is Host else []):
        _unknown_keys(disk, {field.name for field in dataclasses.fields(Disk)}, f"{path}.disks[{position}]", unknown)
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        problem, _, where = str(error).partition(" - at `$")
        where = (path + where.rstrip("`")).strip(".")
        if problem.startswith("Object missing required field"):
            name = problem.split("`")[1]
            where = f"{where}.{name}"
            message = f"The snapshot has no field {where}, which is required."
            raise SnapshotError("snapshot_field_missing", message, field=where) from error
        message = f"The field {where} of the snapshot is wrong: {problem}."
        raise SnapshotError("snapshot_field_invalid", message, field=where) from error


def _object(value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        message = f"The {'field ' + path + ' of the ' if path else ''}snapshot has to be an object."
        raise SnapshotError("snapshot_field_invalid", message, field=path or None)
    return dict(value)


def _list(value: Any, path: str, read: Callable[[Any, str], Any]) -> list[Any]:
    if not isinstance(value, list | tuple):
        message = f"The field {path} of the snapshot has to be a list."
        raise SnapshotError("snapshot_field_invalid", message, field=path)
    return [read(one, f"{path}[{position}]") for position, one in enumerate(value)]


def _check_host(host: Host) -> None:
    for name in ("cpu_cores", "cpu_threads"):
        _in_range(getattr(host, name), 1, _MAX_COUNT, f"host.{name}")
    _in_range(host.memory_total_bytes, 1, _MAX_BYTES, "host.memory_total_bytes")
    _in_range(host.memory_available_bytes, 0, _MAX_BYTES, "host.memory_available_bytes")
    _not_more(host.memory_available_bytes, host.memory_total_bytes, "host.memory_available_bytes")
    for position, disk in enumerate(host.disks):
        _in_range(disk.total_bytes, 0, 1 << 63, f"host.disks[{position}].total_bytes")
        _in_range(disk.free_bytes, 0, 1 << 63, f"host.disks[{position}].free_bytes")


def _check_device(device: Device, path: str) -> None:
    for name in ("index", "card_id", "chip_id", "numa_node"):
        _in_range(getattr(device, name), 0, _MAX_COUNT, f"{path}.{name}")
    _in_range(device.memory_total_bytes, 1, _MAX_BYTES, f"{path}.memory_total_bytes")
    _in_range(device.memory_free_bytes, 0, _MAX_BYTES, f"{path}.memory_free_bytes")
    _not_more(device.memory_free_bytes, device.memory_total_bytes, f"{path}.memory_free_bytes")
    _in_range(device.utilization_percent, 0, 100, f"{path}.utilization_percent")
    _in_range(device.temperature_celsius, -273, 1000, f"{path}.temperature_celsius")
    _in_range(device.power_watts, 0, 1_000_000, f"{path}.power_watts")
    if device.pci_address is not None and normalize_address(device.pci_address) is None:
        message = f"The field {path}.pci_address of the snapshot is no PCI address such as 0000:01:00.0."
        raise SnapshotError("snapshot_field_invalid", message, field=f"{path}.pci_address")


def _in_range(value: float | None, low: float, high: float, path: str) -> None:
    if value is not None and (not math.isfinite(value) or not low <= value <= high):
        message = f"The field {path} of the snapshot is out of range: {value:g}."
        raise SnapshotError("snapshot_field_invalid", message, field=path)


def _not_more(part: int | None, whole: int | None, path: str) -> None:
    if part is not None and whole is not None and part > whole:
        message = f"The field {path} of the snapshot is larger than the total: {part} of {whole}."
        raise SnapshotError("snapshot_field_invalid", message, field=path)


def _unknown_keys(value: Mapping[str, Any], known: set[str], path: str, unknown: list[str]) -> None:
    for key in value:
        if key not in known:
            near = difflib.get_close_matches(key[:60], known, n=1, cutoff=0.8)
            name = printable(f"{path}.{key}".lstrip(".")[:120])
            unknown.append(f"{name} (meant: {near[0]}?)" if near else name)


def _ignored(unknown: list[str]) -> list[Finding]:
    if not unknown:
        return []
    shown = ", ".join(unknown[:8]) + (f" and {len(unknown) - 8} more" if len(unknown) > 8 else "")
    message = f"Fields of the snapshot that are not known were ignored: {shown}."
    return [Finding("snapshot_field_unknown", message, _HINT, Severity.WARNING, "snapshot")]
