"""A stand-in for torch-npu: puts ``torch.npu`` in place and behaves as the variable ``FAKE_NPU`` says.

``FAKE_NPU`` is a word such as ``wrong``, or ``wrong@1`` for the device of that logic id alone. When the folder holds a
``_C.so``, that is imported first, so that the real loader finds its libraries or does not.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

__version__ = "2.13.0"

_VISIBLE = os.environ.get("ASCEND_RT_VISIBLE_DEVICES", "0,1")
_WORD, _, _ONLY = os.environ.get("FAKE_NPU", "").partition("@")


def _does(word: str) -> bool:
    return word == _WORD and _ONLY in ("", _VISIBLE)


def _crash() -> None:
    print("the vendor's last words", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)


class _Npu(ModuleType):
    taken_bytes = 0

    def device_count(self) -> int:
        return 0 if _does("no_device") else len(_VISIBLE.split(","))

    def set_device(self, device: int) -> None:
        if _does("busy"):
            raise RuntimeError("SetDevice: the device is used by another process, error code 507033\n[ERROR] details")

    def get_device_name(self, device: int) -> str:
        return f"Ascend910B3 at {_VISIBLE}"

    def synchronize(self) -> None:
        return None

    def memory_allocated(self, device: int) -> int:
        return self.taken_bytes

    def take(self, size_bytes: int) -> None:
        if _does("exit"):
            print("the runtime gives up", file=sys.stderr, flush=True)
            os._exit(3)
        self.taken_bytes += size_bytes

    def finish(self, product: torch.Tensor) -> torch.Tensor:
        if _does("hang"):
            signal.pause()
        if _does("crash"):
            _crash()
        if _does("wrong"):
            product.data[:16, :16] = 0
        if _does("nan"):
            product.data[5, 7] = np.nan
        return product.half()


print("a warning of the library on standard output")
if _does("crash_import"):
    _crash()
if _does("other_accelerator"):
    raise RuntimeError("Two accelerators cannot be used at the same time in PyTorch: npu and cuda.")
if (Path(__file__).parent / "_C.so").exists():
    import torch_npu._C  # noqa: F401

torch.npu = sys.modules["torch.npu"] = _Npu("torch.npu")
