"""Compute self-tests: each device really computes a matrix product, in a child process, compared with the processor.

``r1box doctor --compute`` runs them; nothing else does. They are never used for monitoring: a check opens a context on
the device, takes its memory and its time from the model that runs there, and may hang or crash with the vendor's
library. That is why each runs in a child of its own with a time limit (``drivers.command``), and why a child prints
every step before it begins: of a child that hangs or crashes the step is known.

Two backends: torch-npu for Ascend (``drivers.compute_torch``, its child ``drivers.compute_torch_npu``) and the
llama.cpp that serves the models (``drivers.compute_llama``, ``drivers.compute_ggml``), which also proves NVIDIA's
cards. The children measure; this side judges.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from drivers.command import minimal_environment
from drivers.compute_llama import llama_checks
from drivers.compute_torch import torch_checks
from drivers.compute_types import LLAMA_CPP, TORCH_NPU, ComputeResult, ComputeState, ComputeStep, StepName
from drivers.types import HardwareSnapshot

__all__ = [
    "DEFAULT_TIMEOUT_S",
    "LLAMA_CPP",
    "TORCH_NPU",
    "ComputeResult",
    "ComputeState",
    "ComputeStep",
    "StepName",
    "child_environment",
    "run_compute_checks",
]

DEFAULT_TIMEOUT_S = 180.0
"""Bound of each child. The first product on an Ascend chip compiles its kernels, which may take more than a minute."""

_KEPT = ("PATH", "HOME", "LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONPATH", "TOOLCHAIN_HOME", "XDG_CACHE_HOME")
_KEPT_PREFIXES = ("ASCEND_", "ATB_", "ASDOPS_", "CUDA_", "GGML_", "NVIDIA_", "MUSA_", "HIP_", "ROCR_", "ONEAPI_")
_DROPPED = frozenset({"ASCEND_RT_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"})
"""They renumber the devices; the checks count as the driver and the probes do."""


def child_environment() -> dict[str, str]:
    """What the children get by default: the loader's and the vendors' variables of ours (what CANN's set_env.sh sets),
    without those that hide devices."""
    ours = [name for name in os.environ if name in _KEPT or name.startswith(_KEPT_PREFIXES)]
    return minimal_environment(keep=[name for name in ours if name not in _DROPPED])


def run_compute_checks(
    snapshot: HardwareSnapshot,
    *,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    environment: Mapping[str, str] | None = None,
    llama_library_dir: Path | None = None,
    backends_dir: Path | None = None,
    torch_python: Path | str = sys.executable,
    cpu: bool = False,
    root: Path = Path("/"),
    on_result: Callable[[ComputeResult], None] | None = None,
) -> tuple[ComputeResult, ...]:
    """Run the checks that apply to this machine, one after the other; ``on_result`` gets each as soon as it is known.

    An Ascend device in the snapshot calls for torch-npu (in the Python ``torch_python``, which may live in another
    environment); the llama.cpp check runs for every device of a GPU backend, for the processor too with ``cpu``.
    ``timeout_s`` bounds each child. ``environment`` is the children's, by default ``child_environment()``.
    ``llama_library_dir`` holds ``libggml.so.0`` (default: the installed llama_cpp's), ``backends_dir`` loadable
    backends (the setting of that name). ``root`` is where CANN's ``set_env.sh`` is looked for. Never raises for what a
    check does; a machine without any accelerator yields nothing but what is broken, unless ``cpu`` is set.
    """
    given = child_environment() if environment is None else dict(environment)
    # CUDA numbers cards by speed unless told to count as the driver does; an aborting ggml would start a debugger.
    given |= {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "GGML_NO_BACKTRACE": "1"}
    checks = itertools.chain(
        torch_checks(snapshot, python=torch_python, timeout_s=timeout_s, environment=given, root=root),
        llama_checks(
            snapshot,
            timeout_s=timeout_s,
            environment=given,
            library_dir=llama_library_dir,
            backends_dir=backends_dir,
            cpu=cpu,
        ),
    )
    results: list[ComputeResult] = []
    for result in checks:
        if on_result is not None:
            on_result(result)
        results.append(result)
    return tuple(results)
