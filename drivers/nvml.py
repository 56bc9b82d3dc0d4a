"""Child process that asks NVML and prints what it answers, one JSON object a line.

It is run by path in a fresh isolated interpreter (see ``drivers.nvidia.child_argv``) and imports nothing of ours: the
vendor's library may hang or crash, and then only this process is lost. Lines are printed as soon as they are known,
so that the cards before a hanging one are not lost. Nothing is judged here; errors are passed on by number.

    {"kind": "start", "error": int | null, "driver_version": str, "cuda_version": int, "count": int}
    {"kind": "device", "index": int, "error": int | null, "errors": {call: int}, ...fields of nvidia.NvmlDevice}
    {"kind": "end"}
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable
from typing import Any


def read_device(nvml: Any, index: int) -> dict[str, Any]:
    """Everything one card tells. A call that fails leaves its fields out and its number in ``errors``."""
    record: dict[str, Any] = {"kind": "device", "index": index, "error": None, "errors": {}}
    errors: dict[str, int] = record["errors"]
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
    except nvml.NVMLError as error:
        record["error"] = error.value
        return record

    def ask(name: str, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except nvml.NVMLError as error:
            errors[name] = error.value
        except UnicodeDecodeError:
            errors[name] = nvml.NVML_ERROR_UNKNOWN
        return None

    record["name"] = ask("name", lambda: text(nvml.nvmlDeviceGetName(handle)))
    record["uuid"] = ask("uuid", lambda: text(nvml.nvmlDeviceGetUUID(handle)))
    pci = ask("pci", lambda: nvml.nvmlDeviceGetPciInfo(handle))
    if pci is not None:
        record["pci_bus_id"] = text(pci.busId)
        record["pci_device_id"] = pci.pciDeviceId >> 16
    memory = ask("memory_v2", lambda: nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2))
    if memory is not None:
        record["memory_reserved_bytes"] = memory.reserved
    else:
        # Drivers before 510 have no v2. In v1 what driver and firmware hold is inside "used", so "free" is the same.
        memory = ask("memory", lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
    if memory is not None:
        record["memory_total_bytes"], record["memory_free_bytes"] = memory.total, memory.free
    capability = ask("compute_capability", lambda: nvml.nvmlDeviceGetCudaComputeCapability(handle))
    record["compute_capability"] = list(capability) if capability is not None else None
    record["temperature_celsius"] = ask(
        "temperature", lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)
    )
    record["power_milliwatts"] = ask("power", lambda: nvml.nvmlDeviceGetPowerUsage(handle))
    record["utilization_percent"] = ask("utilization", lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    return record


def text(value: str | bytes) -> str:
    """Old bindings answer in bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def read_all(nvml: Any, emit: Callable[[dict[str, Any]], None]) -> None:
    """Ask the library and hand each record to ``emit``."""
    start: dict[str, Any] = {"kind": "start", "error": None}
    try:
        nvml.nvmlInit()
        start["count"] = nvml.nvmlDeviceGetCount()
    except nvml.NVMLError as error:
        emit(start | {"error": error.value})
        return
    with contextlib.suppress(nvml.NVMLError):
        start["driver_version"] = text(nvml.nvmlSystemGetDriverVersion())
    with contextlib.suppress(nvml.NVMLError):
        start["cuda_version"] = nvml.nvmlSystemGetCudaDriverVersion()
    emit(start)
    for index in range(start["count"]):
        emit(read_device(nvml, index))
    emit({"kind": "end"})


def main() -> int:
    """Print the records on the real standard output; what the library prints itself goes to standard error."""
    records = os.dup(1)
    os.dup2(2, 1)

    def emit(record: dict[str, Any]) -> None:
        os.write(records, json.dumps(record).encode() + b"\n")

    import pynvml

    read_all(pynvml, emit)
    return 0


if __name__ == "__main__":
    sys.exit(main())
