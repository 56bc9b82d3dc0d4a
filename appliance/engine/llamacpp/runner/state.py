"""Keys and values of a part of a sequence as bytes, and back.

llama.cpp saves and restores whole sequences, and a restore clears its target first. Both go through a spare sequence:
in a unified cache ``llama_memory_seq_cp`` gives it just the positions that are meant, and no data is copied for that.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import llama_cpp
import numpy as np

from appliance.engine.llamacpp.messages import Ready, WorkerConfig
from appliance.engine.llamacpp.step import SlotRestore


class SequenceState:
    """Saves and restores parts of the sequences of one context. ``spare`` is a sequence that nothing else uses."""

    def __init__(self, context: Any, memory: Any, spare: int) -> None:
        self._context = context
        self._memory = memory
        self._spare = spare

    def size_bytes(self, sequence: int) -> int:
        """What all of a sequence takes."""
        return int(llama_cpp.llama_state_seq_get_size(self._context, sequence))

    def save(self, sequence: int, start: int, end: int) -> np.ndarray[Any, Any] | None:
        """Positions ``start`` to ``end`` as bytes; None when llama.cpp does not give them."""
        llama_cpp.llama_memory_seq_cp(self._memory, sequence, self._spare, start, end)
        try:
            size = self.size_bytes(self._spare)
            data = np.empty(size, np.uint8)
            written = llama_cpp.llama_state_seq_get_data(self._context, _pointer(data), size, self._spare)
        finally:
            self._clear()
        return data if 0 < written == size else None

    def restore(self, sequence: int, start: int, end: int, data: np.ndarray[Any, Any]) -> bool:
        """Give a sequence, which holds the positions before ``start``, those up to ``end`` of what ``data`` holds.

        False when llama.cpp does not take the bytes or finds no cells for all of them; the sequence is as before then.
        """
        try:
            taken = llama_cpp.llama_state_seq_set_data(self._context, _pointer(data), len(data), self._spare)
            first = llama_cpp.llama_memory_seq_pos_min(self._memory, self._spare)
            last = llama_cpp.llama_memory_seq_pos_max(self._memory, self._spare)
            if taken != len(data) or first > start or last + 1 < end:
                return False
            llama_cpp.llama_memory_seq_cp(self._memory, self._spare, sequence, start, end)
            return True
        finally:
            self._clear()

    def restore_all(self, restores: Iterable[SlotRestore], blocks: Mapping[bytes, Any]) -> list[bool]:
        """Whether each was done. After one that was not, nothing more goes to its slot: that would leave a gap."""
        done: list[bool] = []
        broken: set[int] = set()
        for one in restores:
            data = None if one.slot in broken else blocks.get(one.key)
            done.append(data is not None and self.restore(one.slot, one.start, one.end, data))
            if not done[-1]:
                broken.add(one.slot)
        return done

    def _clear(self) -> None:
        llama_cpp.llama_memory_seq_rm(self._memory, self._spare, -1, -1)


def state_identity(model: Any, context: Any, config: WorkerConfig, ready: Ready) -> bytes | None:
    """A hash over what saved bytes depend on; None when the model has no name.

    A context's length counts only where it may change how positions are encoded (YaRN and the like).
    """
    if not config.model_sha256:
        return None
    scaled = _metadata(model, f"{_metadata(model, 'general.architecture')}.rope.scaling.original_context_length")
    parts = (
        config.model_sha256,
        ready.build,
        llama_cpp.LLAMA_STATE_SEQ_VERSION,
        config.kv_type,
        config.flash_attention,
        ready.backends,
        int(llama_cpp.llama_n_ctx(context)) if scaled else None,
    )
    return hashlib.blake2b(repr(parts).encode(), digest_size=32).digest()


def _metadata(model: Any, key: str) -> str:
    value = ctypes.create_string_buffer(128)
    length = llama_cpp.llama_model_meta_val_str(model, key.encode(), value, len(value))
    return value.value.decode(errors="replace") if length >= 0 else ""


def _pointer(data: np.ndarray[Any, Any]) -> Any:
    return data.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
