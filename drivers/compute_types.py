"""What the compute self-tests say (``drivers.compute``): frozen values, units in the names, unknown is ``None``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

TORCH_NPU = "torch-npu"
LLAMA_CPP = "llama.cpp"


class ComputeState(StrEnum):
    """``UNAVAILABLE``: the check could not be made here (a part is not installed); it says nothing of the device."""

    PASSED = "passed"
    FAILED = "failed"
    UNAVAILABLE = "unavailable"


class StepName(StrEnum):
    """The steps of a check in their order; ``MATMUL`` and ``COMPARE`` come once for each number format."""

    IMPORT = "import"
    DEVICES = "devices"
    ALLOCATE = "allocate"
    MATMUL = "matmul"
    COMPARE = "compare"


@dataclass(frozen=True, slots=True)
class ComputeStep:
    """One step. ``seconds`` is ``None`` for a step that did not end; ``detail`` is a few plain words."""

    name: StepName
    state: ComputeState
    seconds: float | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class ComputeResult:
    """How one check ended. ``device`` is a ``Device.key``, ``None`` when the check ended before any device or its
    device is not in the snapshot (the processor); ``name`` is what the backend calls the device (``CUDA0``, ``npu:0``).

    ``max_abs_error`` and ``relative_error`` (norm of the difference by the norm of the reference) are the largest over
    all formats; ``gflops`` (10^9 operations a second) is the measured speed of the F16 product, launch and waiting
    included: a sign of life, no benchmark. ``seconds`` is how long the child ran. ``code`` is ``None`` when it passed,
    else stable snake_case; ``message`` says what is so, ``hint`` what to do next.
    """

    device: str | None
    backend: str
    state: ComputeState
    message: str
    name: str | None = None
    code: str | None = None
    hint: str | None = None
    steps: tuple[ComputeStep, ...] = ()
    bytes_allocated: int | None = None
    max_abs_error: float | None = None
    relative_error: float | None = None
    gflops: float | None = None
    seconds: float | None = None
