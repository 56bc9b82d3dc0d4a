"""Child process that asks NVML and prints what it answers, one JSON object a line.

Over 400 lines because it is run by path in a fresh isolated interpreter (``drivers.nvidia_reading.child_argv``) and
can import nothing of ours: the vendor's library may hang or crash, and then only this process is lost. Lines are
printed as soon as they are known, so that the cards before a hanging one are not lost. Nothing is judged here; errors
are passed on by number, a call that the driver lacks among them (3 and 13). ``drivers.nvidia_reading`` describes the
records.

    {"kind": "start", ...}    {"kind": "device", ...} for each card    {"kind": "topology", ...}    {"kind": "end", ...}

With ``--watch`` the library is initialised once; after the start record each line on standard input is answered with
one ``{"kind": "sample", ...}`` line. The end of the input ends the process, even while a call into the library hangs.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import queue
import re
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

Record: TypeAlias = dict[str, Any]

MAX_PROCESSES = 64
RECOVERY_ACTION_FIELD = 230
"""NVML_FI_DEV_GET_GPU_RECOVERY_ACTION, which only newer drivers know."""
ABSENT = frozenset({3, 13})
"""Not supported, function not found: asked once and never again."""


class Questions:
    """Asks one device and notes which question failed with which number. ``skip`` are not asked."""

    def __init__(self, nvml: Any, errors: dict[str, int], skip: frozenset[str] = frozenset()) -> None:
        self._nvml = nvml
        self._errors = errors
        self._skip = skip

    def ask(self, name: str, function: str, *arguments: Any, **options: Any) -> Any:
        """The function's answer, ``None`` when there is none; bytes of old bindings as text."""
        if name in self._skip:
            return None
        try:
            answer = getattr(self._nvml, function)(*arguments, **options)
        except self._nvml.NVMLError as error:
            self._errors[name] = error.value
        except AttributeError:
            # A binding older than the function.
            self._errors[name] = self._nvml.NVML_ERROR_FUNCTION_NOT_FOUND
        except UnicodeDecodeError:
            self._errors[name] = self._nvml.NVML_ERROR_UNKNOWN
        else:
            return text(answer) if isinstance(answer, bytes) else answer
        return None

    def note(self, name: str, code: int) -> None:
        """A failure that was told in another way than by the call's return code."""
        self._errors[name] = code


def text(value: str | bytes) -> str:
    """Old bindings answer in bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def read_memory(nvml: Any, handle: Any, questions: Questions) -> Record:
    """Memory of a card or an instance in bytes."""
    memory = questions.ask("memory_v2", "nvmlDeviceGetMemoryInfo", handle, version=nvml.nvmlMemory_v2)
    record: Record = {}
    if memory is not None:
        record["memory_reserved_bytes"] = memory.reserved
    else:
        # Drivers before 510 have no v2. In v1 what driver and firmware hold is inside "used", so "free" is the same.
        memory = questions.ask("memory", "nvmlDeviceGetMemoryInfo", handle)
    if memory is not None:
        record["memory_total_bytes"], record["memory_free_bytes"] = memory.total, memory.free
    return record


def read_identity(handle: Any, questions: Questions) -> Record:
    """What a card is."""
    ask = questions.ask
    record: Record = {
        "name": ask("name", "nvmlDeviceGetName", handle),
        "uuid": ask("uuid", "nvmlDeviceGetUUID", handle),
        "minor_number": ask("minor", "nvmlDeviceGetMinorNumber", handle),
        "vbios_version": ask("vbios", "nvmlDeviceGetVbiosVersion", handle),
        "compute_capability": ask("compute_capability", "nvmlDeviceGetCudaComputeCapability", handle),
        "persistence": ask("persistence", "nvmlDeviceGetPersistenceMode", handle),
        "virtualization": ask("virtualization", "nvmlDeviceGetVirtualizationMode", handle),
        "memory_numa_node": ask("memory_numa_node", "nvmlDeviceGetNumaNodeId", handle),
    }
    pci = ask("pci", "nvmlDeviceGetPciInfo", handle)
    if pci is not None:
        record["pci_bus_id"] = text(pci.busId)
        record["pci_device_id"] = pci.pciDeviceId >> 16
    return record


def read_load(nvml: Any, handle: Any, questions: Questions) -> Record:
    """What changes from second to second; the part that a sample asks too."""
    ask = questions.ask
    reasons = ask("throttle", "nvmlDeviceGetCurrentClocksEventReasons", handle)
    if reasons is None:
        # The older name of the same call.
        reasons = ask("throttle_old", "nvmlDeviceGetCurrentClocksThrottleReasons", handle)
    rates = ask("utilization", "nvmlDeviceGetUtilizationRates", handle)
    record: Record = {
        "temperature_celsius": ask("temperature", "nvmlDeviceGetTemperature", handle, nvml.NVML_TEMPERATURE_GPU),
        "power_milliwatts": ask("power", "nvmlDeviceGetPowerUsage", handle),
        "utilization_percent": rates.gpu if rates is not None else None,
        "clock_mhz": ask("clock", "nvmlDeviceGetClockInfo", handle, nvml.NVML_CLOCK_SM),
        "throttle_mask": reasons,
    }
    fields = ask("recovery", "nvmlDeviceGetFieldValues", handle, [RECOVERY_ACTION_FIELD])
    if fields is not None and fields[0].nvmlReturn != 0:
        # Each field has its own error: one that this driver does not know is an invalid argument to some.
        questions.note("recovery", fields[0].nvmlReturn)
    elif fields is not None:
        record["recovery_action"] = int(fields[0].value.uiVal)
    return record


def read_faults(nvml: Any, handle: Any, questions: Questions) -> Record:
    """Counted memory errors of the card's own memory and their repairs."""
    ask = questions.ask
    corrected, uncorrected = nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED
    counters = {
        "corrected": (corrected, nvml.NVML_VOLATILE_ECC),
        "uncorrected": (uncorrected, nvml.NVML_VOLATILE_ECC),
        "corrected_total": (corrected, nvml.NVML_AGGREGATE_ECC),
        "uncorrected_total": (uncorrected, nvml.NVML_AGGREGATE_ECC),
    }
    place = nvml.NVML_MEMORY_LOCATION_DEVICE_MEMORY
    ecc = {
        name: ask(f"ecc_{name}", "nvmlDeviceGetMemoryErrorCounter", handle, *counter, place)
        for name, counter in counters.items()
    }
    causes = (
        nvml.NVML_PAGE_RETIREMENT_CAUSE_MULTIPLE_SINGLE_BIT_ECC_ERRORS,
        nvml.NVML_PAGE_RETIREMENT_CAUSE_DOUBLE_BIT_ECC_ERROR,
    )
    retired = [ask("retired_pages", "nvmlDeviceGetRetiredPages", handle, cause) for cause in causes]
    pending = ask("retirement_pending", "nvmlDeviceGetRetiredPagesPendingStatus", handle)
    return {
        "ecc": ecc,
        "remapped_rows": ask("remapped_rows", "nvmlDeviceGetRemappedRows", handle),
        "retired_pages": None if None in retired else sum(len(pages) for pages in retired),
        "retirement_pending": None if pending is None else bool(pending),
    }


def read_links(nvml: Any, handle: Any, questions: Questions) -> list[Record]:
    """The card's NVLinks; ends at the first number that the card does not have."""
    links: list[Record] = []
    quiet = Questions(nvml, {})
    for link in range(nvml.NVML_NVLINK_MAX_LINKS):
        errors: dict[str, int] = {}
        active = Questions(nvml, errors).ask("nvlink", "nvmlDeviceGetNvLinkState", handle, link)
        if active is None:
            if errors["nvlink"] != nvml.NVML_ERROR_INVALID_ARGUMENT:
                questions.note("nvlink", errors["nvlink"])
            break
        record: Record = {"link": link, "active": bool(active)}
        if active:
            pci = quiet.ask("pci", "nvmlDeviceGetNvLinkRemotePciInfo", handle, link)
            record["remote_type"] = quiet.ask("type", "nvmlDeviceGetNvLinkRemoteDeviceType", handle, link)
            record["remote_bus_id"] = text(pci.busId) if pci is not None else None
        links.append(record)
    return links


def read_processes(nvml: Any, handle: Any, questions: Questions) -> list[Record] | None:
    """Programs that compute on the device, the first 64."""
    processes = questions.ask("processes", "nvmlDeviceGetComputeRunningProcesses_v3", handle)
    if processes is None:
        # Drivers before 510.
        processes = questions.ask("processes_old", "nvmlDeviceGetComputeRunningProcesses_v2", handle)
    if processes is None:
        return None
    # The name of another user's program is often refused: that is no failure of the card.
    quiet = Questions(nvml, {})
    return [
        {
            "pid": process.pid,
            "memory_bytes": process.usedGpuMemory,
            "name": quiet.ask("name", "nvmlSystemGetProcessName", process.pid),
        }
        for process in processes[:MAX_PROCESSES]
    ]


def instance_handles(nvml: Any, handle: Any, errors: dict[str, int]) -> Iterator[tuple[int, Any, int | None]]:
    """Number, handle and error of each MIG instance; numbers without one are left out."""
    count = Questions(nvml, errors).ask("mig_count", "nvmlDeviceGetMaxMigDeviceCount", handle)
    for number in range(count or 0):
        failed: dict[str, int] = {}
        instance = Questions(nvml, failed).ask("handle", "nvmlDeviceGetMigDeviceHandleByIndex", handle, number)
        code = failed.get("handle")
        if code == nvml.NVML_ERROR_INVALID_ARGUMENT or code in ABSENT:
            return
        if code != nvml.NVML_ERROR_NOT_FOUND:
            yield number, instance, code


def read_instance(nvml: Any, number: int, handle: Any, error: int | None) -> Record:
    """One MIG instance. Load and temperature belong to the whole card."""
    record: Record = {"instance": number, "error": error, "errors": {}}
    if error is not None:
        return record
    questions = Questions(nvml, record["errors"])
    ask = questions.ask
    record["uuid"] = ask("uuid", "nvmlDeviceGetUUID", handle)
    record["name"] = ask("name", "nvmlDeviceGetName", handle)
    record["gpu_instance"] = ask("gpu_instance", "nvmlDeviceGetGpuInstanceId", handle)
    record["compute_instance"] = ask("compute_instance", "nvmlDeviceGetComputeInstanceId", handle)
    attributes = ask("attributes", "nvmlDeviceGetAttributes_v2", handle)
    if attributes is not None:
        record["size_mb"] = attributes.memorySizeMB
        record["multiprocessors"] = attributes.multiprocessorCount
        record["gpu_slices"] = attributes.gpuInstanceSliceCount
        record["compute_slices"] = attributes.computeInstanceSliceCount
    record |= read_memory(nvml, handle, questions)
    record["processes"] = read_processes(nvml, handle, questions)
    return record


def read_device(nvml: Any, index: int, handles: dict[int, Any]) -> Record:
    """Everything one card tells. A call that fails leaves its fields out and its number in ``errors``."""
    record: Record = {"kind": "device", "index": index, "error": None, "errors": {}}
    try:
        handle = handles[index] = nvml.nvmlDeviceGetHandleByIndex(index)
    except nvml.NVMLError as error:
        record["error"] = error.value
        return record
    questions = Questions(nvml, record["errors"])
    ask = questions.ask
    record |= read_identity(handle, questions)
    record |= read_memory(nvml, handle, questions)
    record |= read_load(nvml, handle, questions)
    record |= read_faults(nvml, handle, questions)
    record["power_limit_milliwatts"] = ask("power_limit", "nvmlDeviceGetEnforcedPowerLimit", handle)
    record["memory_clock_mhz"] = ask("memory_clock", "nvmlDeviceGetClockInfo", handle, nvml.NVML_CLOCK_MEM)
    record["nvlinks"] = read_links(nvml, handle, questions)
    record["processes"] = read_processes(nvml, handle, questions)
    mode = ask("mig", "nvmlDeviceGetMigMode", handle)
    if mode is not None:
        record["mig_mode"], record["mig_pending"] = mode
        if mode[0]:
            found = instance_handles(nvml, handle, record["errors"])
            record["instances"] = [read_instance(nvml, *instance) for instance in found]
    return record


def read_topology(nvml: Any, handles: dict[int, Any]) -> Record:
    """How near each pair of cards is: ``[first, second, level]``; ``error`` is the number of the last failure."""
    errors: dict[str, int] = {}
    ask = Questions(nvml, errors).ask
    pairs = [
        [first, second, level]
        for first, one in handles.items()
        for second, other in handles.items()
        if first < second and (level := ask("topology", "nvmlDeviceGetTopologyCommonAncestor", one, other)) is not None
    ]
    return {"kind": "topology", "pairs": pairs, "error": errors.get("topology")}


def start(nvml: Any) -> Record:
    """Initialise the library; its versions, or the number of the failure."""
    record: Record = {"kind": "start", "error": None}
    try:
        nvml.nvmlInit()
        record["count"] = nvml.nvmlDeviceGetCount()
    except nvml.NVMLError as error:
        record["error"] = error.value
    quiet = Questions(nvml, {})
    if record["error"] is None:
        record["driver_version"] = quiet.ask("driver", "nvmlSystemGetDriverVersion")
        record["cuda_version"] = quiet.ask("cuda", "nvmlSystemGetCudaDriverVersion")
    if record["error"] != nvml.NVML_ERROR_LIBRARY_NOT_FOUND:
        # Answers without an initialised library too: the one that does not fit the kernel module tells its version.
        record["library_version"] = quiet.ask("nvml", "nvmlSystemGetNVMLVersion")
        record["library_path"] = loaded_path("libnvidia-ml.so")
    return record


def loaded_path(name: str) -> str | None:
    """Where a loaded library really lies: its file is named after the driver (``libnvidia-ml.so.550.54.15``)."""
    with contextlib.suppress(OSError), open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:  # noqa: PTH123
        for line in maps:
            found = re.search(rf"\s(/\S*/{re.escape(name)}\S*)", line)
            if found:
                return found.group(1)
    return None


def read_all(nvml: Any, emit: Callable[[Record], None]) -> None:
    """Ask the library and hand each record to ``emit``."""
    record = start(nvml)
    emit(record)
    if record["error"] is not None:
        return
    handles: dict[int, Any] = {}
    for index in range(record["count"]):
        emit(read_device(nvml, index, handles))
    emit(read_topology(nvml, handles))
    emit({"kind": "end", "cuda_library": can_load("libcuda.so.1")})


def can_load(library: str) -> bool:
    """Whether a program finds the library. Nothing in it is called; last of all, as loading runs its own start."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


class Sampler:
    """Asks every card for what changes, and never again for what a card does not have."""

    def __init__(self, nvml: Any, count: int) -> None:
        self._nvml = nvml
        self._handles: dict[int, Any] = {}
        self._identities: dict[int, Record] = {}
        self._absent: dict[int, frozenset[str]] = dict.fromkeys(range(count), frozenset())

    def sample(self) -> Record:
        """One sample record."""
        return {"kind": "sample", "cards": [self._card(index) for index in self._absent]}

    def _card(self, index: int) -> Record:
        record: Record = {"index": index, "error": None, "errors": {}}
        nvml, errors = self._nvml, record["errors"]
        try:
            handle = self._handles.get(index)
            if handle is None:
                handle = self._handles[index] = nvml.nvmlDeviceGetHandleByIndex(index)
        except nvml.NVMLError as error:
            record["error"] = error.value
            return record
        if index not in self._identities:
            self._identities[index] = self._identity(handle)
        record |= self._identities[index]
        questions = Questions(nvml, errors, self._absent[index])
        record |= read_memory(nvml, handle, questions)
        record |= read_load(nvml, handle, questions)
        if record["mig"]:
            # Instances come and go while the card works.
            record["instances"] = [self._instance(*instance) for instance in instance_handles(nvml, handle, errors)]
        self._absent[index] |= {name for name, code in errors.items() if code in ABSENT}
        return record

    def _identity(self, handle: Any) -> Record:
        quiet = Questions(self._nvml, {})
        pci = quiet.ask("pci", "nvmlDeviceGetPciInfo", handle)
        mode = quiet.ask("mig", "nvmlDeviceGetMigMode", handle)
        return {
            "name": quiet.ask("name", "nvmlDeviceGetName", handle),
            "pci_device_id": pci.pciDeviceId >> 16 if pci is not None else None,
            "mig": bool(mode and mode[0]),
        }

    def _instance(self, number: int, handle: Any, error: int | None) -> Record:
        record: Record = {"instance": number, "error": error, "errors": {}}
        if error is None:
            record |= read_memory(self._nvml, handle, Questions(self._nvml, record["errors"]))
        return record


def watch(nvml: Any, emit: Callable[[Record], None]) -> None:
    """Answer each line of standard input with a sample until it ends."""
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def read_lines() -> None:
        for line in sys.stdin.buffer:
            lines.put(line)
        # The main thread may hang inside the library, which gives Python's lock free but never comes back.
        os._exit(0)

    threading.Thread(target=read_lines, daemon=True).start()
    record = start(nvml)
    emit(record)
    if record["error"] is not None:
        return
    sampler = Sampler(nvml, record["count"])
    while True:
        lines.get()
        emit(sampler.sample())


def main() -> int:
    """Print the records on the real standard output; what the library prints itself goes to standard error."""
    records = os.dup(1)
    os.dup2(2, 1)

    def emit(record: Record) -> None:
        line = json.dumps(record).encode() + b"\n"
        while line:
            line = line[os.write(records, line) :]

    import pynvml

    if sys.argv[1:] == ["--watch"]:
        watch(pynvml, emit)
    else:
        read_all(pynvml, emit)
    return 0


if __name__ == "__main__":
    sys.exit(main())
