"""A stand-in for torch on NumPy: as much of its interface as the compute self-test uses.

As the real one does (2.5 and later), importing it loads torch-npu by itself unless that is switched off, and tells of a
failure in general words alone.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

__version__ = "2.13.0+cpu"
npu: Any = None
"""torch_npu puts itself here."""

if os.environ.get("TORCH_DEVICE_BACKEND_AUTOLOAD", "1") != "0":
    raise RuntimeError("Failed to load the backend extension: torch_npu.")


class Generator:
    """Random numbers from a seed."""

    def manual_seed(self, seed: int) -> Generator:
        self.numbers = np.random.default_rng(seed)
        return self


class Tensor:
    """Values in F32 (an F16 tensor holds F32 values that are rounded to F16), on the processor or on the NPU."""

    def __init__(self, data: np.ndarray, device: str = "cpu") -> None:
        self.data = data
        self.device = device

    def __mul__(self, other: float) -> Tensor:
        return Tensor(self.data * np.float32(other), self.device)

    def __sub__(self, other: Tensor | float) -> Tensor:
        return Tensor(self.data - (other.data if isinstance(other, Tensor) else np.float32(other)), self.device)

    def half(self) -> Tensor:
        return Tensor(self.data.astype(np.float16).astype(np.float32), self.device)

    def float(self) -> Tensor:
        return self

    def to(self, device: str) -> Tensor:
        if device.startswith("npu"):
            npu.take(self.data.size * 2)
        return Tensor(self.data, device)

    def cpu(self) -> Tensor:
        return Tensor(self.data)

    def abs(self) -> Tensor:
        return Tensor(np.abs(self.data))

    def max(self) -> Tensor:
        return Tensor(self.data.max())

    def norm(self) -> Tensor:
        return Tensor(np.linalg.norm(self.data))

    def item(self) -> object:
        return self.data.item()


def rand(rows: int, columns: int, *, generator: Generator) -> Tensor:
    return Tensor(generator.numbers.random((rows, columns), dtype=np.float32))


def matmul(left: Tensor, right: Tensor) -> Tensor:
    product = Tensor(left.data @ right.data, left.device)
    return npu.finish(product) if left.device.startswith("npu") else product
