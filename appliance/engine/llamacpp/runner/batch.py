"""A step's tokens in the form that ``llama_decode`` takes."""

from __future__ import annotations

import ctypes
from typing import Any

import llama_cpp
import numpy as np

from appliance.engine.llamacpp.step import StepPlan


class Batch:
    """A ``llama_batch`` over arrays of our own, filled by slices: no Python call per token of a long prompt."""

    def __init__(self, capacity: int) -> None:
        self._token = np.zeros(capacity, np.int32)
        self._position = np.zeros(capacity, np.int32)
        self._slot = np.zeros(capacity, np.int32)
        self._one = np.ones(capacity, np.int32)
        self._logits = np.zeros(capacity, np.int8)
        # llama_batch.seq_id is int32**: the i-th pointer points at the i-th slot number.
        self._slot_pointer = self._slot.ctypes.data + 4 * np.arange(capacity, dtype=np.uintp)
        self.value = llama_cpp.llama_batch(
            n_tokens=0,
            token=_pointer(self._token, ctypes.c_int32),
            embd=None,
            pos=_pointer(self._position, ctypes.c_int32),
            n_seq_id=_pointer(self._one, ctypes.c_int32),
            seq_id=_pointer(self._slot_pointer, ctypes.POINTER(ctypes.c_int32)),
            logits=_pointer(self._logits, ctypes.c_int8),
        )

    def fill(self, plan: StepPlan) -> list[int]:
        """Write the plan's work into the arrays; the result is where each sampling entry's logits begin: those of its
        last token, then those of its draft."""
        outputs: list[int] = []
        start = 0
        for entry in plan.work:
            end = start + entry.count
            self._token[start : start + len(entry.tokens)] = entry.tokens
            self._token[end - len(entry.draft) : end] = entry.draft
            self._position[start:end] = np.arange(entry.position, entry.position + entry.count)
            self._slot[start:end] = entry.slot
            self._logits[start:end] = 0
            if entry.sample:
                first = end - len(entry.draft) - 1
                self._logits[first:end] = 1
                outputs.append(first)
            start = end
        self.value.n_tokens = start
        return outputs


def _pointer(array: np.ndarray[Any, Any], kind: Any) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(kind))
