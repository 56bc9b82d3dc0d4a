"""Bodies of ``/api/admin/plans``: what would fit this machine, and why the rest does not. Unknown is null."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class PlansQuery(BaseModel):
    """A wish is kept exactly. ``variant`` (``VARIANT[:QUANT]``, abbreviations allowed; ``R1`` is the large model)
    leaves only what is said of it; ``offload`` allows a part of a model in the host's memory."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seats: int | None = Field(default=None, ge=1, le=1024)
    context_tokens: int | None = Field(default=None, ge=256, le=1 << 22)
    offload: bool = False
    variant: str | None = Field(default=None, min_length=1, max_length=128)


class PlanMemory(_Value):
    """What one device (or ``host``) holds. ``reserve_bytes`` is part of the total."""

    device: str
    weights_bytes: int
    kv_bytes: int
    compute_bytes: int
    reserve_bytes: int
    total_bytes: int
    available_bytes: int


class Speed(_Value):
    """Expected tokens per second of one stream."""

    low: float
    high: float


class Plan(_Value):
    """A model that fits, and how. ``devices`` is empty on the processor; ``reduced``: less than the wished or usual
    seats x context fits; ``installed`` is false where the box does not have the engine."""

    variant: str
    quantization: str
    engine: str
    devices: tuple[str, ...]
    seats: int
    context_tokens: int
    kv_type: str
    file_bytes: int
    memory: tuple[PlanMemory, ...]
    decode_tokens_per_s: Speed | None = None
    reduced: bool = False
    installed: bool = True
    repository: str | None = None
    notes: tuple[str, ...] = ()


class CounterWish(_Value):
    """The largest seats x context that does fit."""

    seats: int
    context_tokens: int


class WhyNot(_Value):
    """A variant in a quantization that does not fit; byte counts are null where memory is not the reason."""

    variant: str
    quantization: str
    engine: str
    code: str
    reason: str
    needed_bytes: int | None = None
    available_bytes: int | None = None
    counter_offer: CounterWish | None = None


class MachineCards(_Value):
    """Cards of one kind."""

    name: str
    count: int
    memory_total_bytes: int | None = None


class Plans(_Value):
    """Plans, best first; reasons, the nearest first; ``notes`` concern the machine. Planned as if no model were loaded:
    those that are can leave."""

    cards: tuple[MachineCards, ...] = ()
    host_memory_available_bytes: int | None = None
    plans: tuple[Plan, ...] = ()
    rejections: tuple[WhyNot, ...] = ()
    notes: tuple[str, ...] = ()
