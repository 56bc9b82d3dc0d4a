"""Bodies of ``/api/admin/offload``: where models run, and how that is known."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

OffloadWord = Literal["VERIFIED", "DEGRADED", "CPU", "UNKNOWN"]
OFFLOAD_WORDS: tuple[OffloadWord, ...] = ("VERIFIED", "DEGRADED", "CPU", "UNKNOWN")


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class OffloadReason(_Value):
    """Why a verdict is not VERIFIED: a stable code and a plain sentence."""

    code: str
    message: str


class Offload(_Value):
    """The verdict on one loaded model. ``devices`` are those of its plan, ``proof`` is what speaks for the verdict in
    plain words. The speeds are those of one stream, measured by a short generation; null while there was none.
    ``expected_tokens_per_s`` is the plan's band for decoding, low and high."""

    model: str
    state: OffloadWord
    reasons: tuple[OffloadReason, ...] = ()
    proof: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    checked_at: datetime
    decode_tokens_per_s: float | None = None
    prefill_tokens_per_s: float | None = None
    expected_tokens_per_s: tuple[float, float] | None = None


class OffloadList(_Value):
    """The verdicts on all loaded models."""

    models: tuple[Offload, ...] = ()
