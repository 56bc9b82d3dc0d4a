"""The llama.cpp check of NVIDIA and every other device of a GPU backend: its children, and their problems in words.

The first child loads llama.cpp's backends and lists their devices; then each device is checked in a child of its own.
Source of the device types and of what is loaded from where: ggml-backend.h and ggml-backend-reg.cpp of ggml 0.25.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from drivers.compute_reading import (
    Build,
    ListedDevice,
    Outcome,
    Problem,
    Subject,
    Unloaded,
    Words,
    broken_off,
    first_line,
    judge,
    run_child,
)
from drivers.compute_torch import Package, missing_library, package_of
from drivers.compute_types import LLAMA_CPP, ComputeResult, ComputeState
from drivers.pci import normalize_address
from drivers.types import Device, HardwareSnapshot, Vendor

_CPU, _GPU, _INTEGRATED_GPU, _ACCELERATOR = range(4)
"""enum ggml_backend_dev_type; what follows wraps several devices."""


@dataclass(frozen=True, slots=True)
class _Backend:
    """The backend of llama.cpp for a vendor's cards: its name in the registry, and the switch that builds it in."""

    name: str
    label: str
    switch: str
    library: str


_BACKENDS: dict[str, _Backend] = {
    Vendor.NVIDIA: _Backend("CUDA", "NVIDIA", "-DGGML_CUDA=on", "libggml-cuda.so"),
    Vendor.ASCEND: _Backend("CANN", "Ascend", "-DGGML_CANN=on", "libggml-cann.so"),
}
_CRASH_HINT = (
    "Read the kernel's log (journalctl -k; for NVIDIA -g NVRM), then r1box doctor. If it says nothing, the backend was "
    "built for another driver, CUDA or CANN than the one here."
)


def library_folder() -> Path | None:
    """Where the installed llama_cpp keeps its libraries; found without importing it, ``None`` when not installed."""
    spec = importlib.util.find_spec("llama_cpp")
    locations = list(spec.submodule_search_locations or ()) if spec is not None else []
    return Path(locations[0]) / "lib" if locations else None


def llama_argv(library_dir: Path, backends_dir: Path | None, device: str | None) -> list[str]:
    """How to run the child: on the device of that name, or to list them. The one place that knows its file."""
    argv = [sys.executable, "-I", "-m", "drivers.compute_ggml", "--library-dir", str(library_dir)]
    if backends_dir is not None:
        argv += ["--backends-dir", str(backends_dir)]
    return argv if device is None else [*argv, "--device", device]


def llama_checks(
    snapshot: HardwareSnapshot,
    *,
    timeout_s: float,
    environment: Mapping[str, str],
    library_dir: Path | None,
    backends_dir: Path | None,
    cpu: bool,
) -> Iterator[ComputeResult]:
    """List the devices, say which cards of the snapshot have none, and check each (the processor with ``cpu``)."""
    folder = library_dir or library_folder()
    whole = Subject(LLAMA_CPP, "llama.cpp", _CRASH_HINT)
    if folder is None:
        hint = "Install r1box with its pinned requirements: llama-cpp-python is one of them."
        yield _unavailable("llama_cpp_not_installed", "llama-cpp-python is not installed.", hint)
        return
    outcome = run_child(llama_argv(folder, backends_dir, None), timeout_s=timeout_s, environment=environment)
    build = outcome.reading.build
    if build is None or broken_off(outcome, whole) is not None:
        yield judge(outcome, whole, lambda problem: _words(problem, whole, outcome))
        return
    listed = [one for one in outcome.reading.devices if one.type in (_GPU, _INTEGRATED_GPU, _ACCELERATOR)]
    keys = {one.name: device_key(one, snapshot.devices) for one in listed}
    yield from _not_loaded(build.unloaded)
    yield from _without_backend(snapshot, build, listed, keys)
    if cpu:
        listed += [one for one in outcome.reading.devices if one.type == _CPU]
    for one in listed:
        label = f"{one.name} ({one.description})" if one.description else one.name
        subject = Subject(LLAMA_CPP, label, _CRASH_HINT, keys.get(one.name), one.name)
        argv = llama_argv(folder, backends_dir, one.name)
        yield _check(run_child(argv, timeout_s=timeout_s, environment=environment), subject)


def device_key(listed: ListedDevice, devices: tuple[Device, ...]) -> str | None:
    """``Device.key`` of what llama.cpp calls by that name: by PCI address, else by the number in its name (the order
    is the driver's own: the children get CUDA_DEVICE_ORDER). ``None`` when that names no single device."""
    vendor = next((vendor for vendor, backend in _BACKENDS.items() if backend.name == listed.backend), None)
    working = [one for one in devices if not one.partitioned and (vendor is None or one.vendor == vendor)]
    address = normalize_address(listed.address) if listed.address else None
    if address is not None:
        at = [one for one in working if one.pci_address and normalize_address(one.pci_address) == address]
        if len(at) == 1:
            return at[0].key
    number = re.search(r"\d+$", listed.name)
    if vendor is None or number is None:
        return None
    at = [one for one in working if one.index == int(number[0]) and (address is None or not one.pci_address)]
    return at[0].key if len(at) == 1 else None


def _check(outcome: Outcome, subject: Subject) -> ComputeResult:
    return judge(outcome, subject, lambda problem: _words(problem, subject, outcome))


def _unavailable(code: str, message: str, hint: str, device: str | None = None) -> ComputeResult:
    return ComputeResult(device, LLAMA_CPP, ComputeState.UNAVAILABLE, message, code=code, hint=hint)


def _not_loaded(unloaded: tuple[Unloaded, ...]) -> Iterator[ComputeResult]:
    """A result for each backend's file that is there and does not load."""
    for one in unloaded:
        library = missing_library(one.reason)
        name = Path(one.file).name
        if library is None:
            message = f"The backend {name} does not load: {first_line(one.reason).rstrip('.')}."
            hint = "Build it from the very llama.cpp that is installed here, with GGML_BACKEND_DL."
        else:
            message = f"The backend {name} does not load: {library} is not found. It belongs to {_owner(library)}."
            hint = _library_hint(library)
        yield _unavailable("backend_not_loaded", message, hint)


def _owner(library: str) -> str:
    package = package_of(library)
    if package is not Package.OTHER:
        return package.value
    if re.match(r"lib(cuda|nvidia-ml)\.so", library):
        return "the NVIDIA driver"
    if re.match(r"lib(cudart|cublas\w*|nccl|cufft|curand|nvrtc)\w*\.so", library):
        return "the CUDA runtime"
    if library.startswith("libggml"):
        return "llama.cpp"
    return "another package of the system"


def _library_hint(library: str) -> str:
    owner = _owner(library)
    if owner == "llama.cpp":
        return "Build the backend from the very llama.cpp that is installed here, with GGML_BACKEND_DL."
    if package_of(library) is not Package.OTHER and package_of(library) is not Package.DRIVER:
        return "Run `source` on CANN's set_env.sh; the service gets its variables from the installer."
    return f"Install {owner} in the version that the name {library} asks for, or add its folder to LD_LIBRARY_PATH."


def _without_backend(
    snapshot: HardwareSnapshot, build: Build, listed: list[ListedDevice], keys: Mapping[str, str | None]
) -> Iterator[ComputeResult]:
    """A result for each vendor (or device) in the snapshot that this llama.cpp does not compute on."""
    seen = {key for key in keys.values() if key is not None}
    for vendor, backend in _BACKENDS.items():
        cards = [one for one in snapshot.devices if one.vendor == vendor and not one.partitioned]
        missing = [one for one in cards if one.key not in seen]
        own = [one for one in listed if one.backend == backend.name]
        if not missing or any(Path(one.file).name.startswith(backend.library[:-3]) for one in build.unloaded):
            continue
        if not any(one.key in seen for one in cards) and backend.name not in build.backends:
            names = ", ".join(build.backends) or "none"
            message = f"This llama.cpp build has the backends: {names}. None computes on cards of {backend.label}."
            hint = (
                f"Build it for {backend.label}: CMAKE_ARGS={backend.switch} pip install --force-reinstall --no-deps "
                f"--no-binary llama-cpp-python llama-cpp-python{_pinned()}; or name a folder with {backend.library} "
                "(setting backends_dir)."
            )
            yield _unavailable("no_gpu_backend", message, hint)
        elif not any(keys[one.name] is None for one in own):
            for card in missing:
                message = f"llama.cpp's {backend.name} backend does not see {card.key} ({card.name})."
                hint = "r1box doctor shows where the way to the device breaks."
                yield ComputeResult(
                    card.key, LLAMA_CPP, ComputeState.FAILED, message, code="device_not_seen", hint=hint
                )


def _pinned() -> str:
    try:
        return f"=={importlib.metadata.version('llama-cpp-python')}"
    except importlib.metadata.PackageNotFoundError:
        return ""


def _words(problem: Problem, subject: Subject, outcome: Outcome) -> Words:
    """The words for a problem that the child reported."""
    unavailable, failed = ComputeState.UNAVAILABLE, ComputeState.FAILED
    text, label = first_line(problem.text).rstrip("."), subject.label
    hint = "Install llama-cpp-python again; r1box serves with the version that its requirements pin."
    if problem.code == "ggml_missing":
        return Words(unavailable, problem.code, f"There is no libggml.so.0 in {text}.", hint)
    if problem.code == "ggml_unloadable":
        if (library := missing_library(problem.text)) is not None:
            message = f"llama.cpp's libggml cannot be loaded: {library} is not found. It belongs to {_owner(library)}."
            return Words(unavailable, problem.code, message, _library_hint(library))
        return Words(unavailable, problem.code, f"llama.cpp's libggml cannot be loaded: {text}.", hint)
    if problem.code == "ggml_version_unknown":
        message = f"This llama.cpp carries ggml {text}; the check knows 0.25 alone and does not try another."
        return Words(unavailable, problem.code, message, hint)
    if problem.code == "no_such_device":
        message = f"{label} was listed a moment ago and is gone."
        return Words(failed, "device_gone", message, "r1box doctor shows where the way to the device breaks.")
    if problem.code == "out_of_memory":
        message = f"{label} has no memory left for the check's matrices ({text})."
        return Words(failed, problem.code, message, "Stop what fills the device: the served model, another program.")
    if problem.code == "no_backend":
        return Words(failed, "backend_refused", f"llama.cpp cannot start its backend on {label}.", subject.crash_hint)
    step = outcome.reading.open_step.name.value if outcome.reading.open_step else "import"
    if problem.code == "compute_status":
        message = f"{label} gave up at the step {step}: ggml's status is {text}."
        return Words(failed, "compute_failed", message, subject.crash_hint)
    message = f"The check of {label} failed at the step {step}: {text}."
    return Words(failed, "compute_check_failed", message, "This is a fault of the program: please report it.")
