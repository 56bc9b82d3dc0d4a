"""What boxes say to each other: values with bounds, decoded strictly. Whoever sends them may be anybody."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

MOST_JOIN_BYTES = 8 * 1024
MOST_BEAT_BYTES = 128 * 1024

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=63, pattern=r"^[a-z0-9-]+$")]
Id = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=r"^[0-9a-z-]+$")]
Line = Annotated[str, msgspec.Meta(max_length=500)]
Pem = Annotated[str, msgspec.Meta(max_length=4096)]
Address = Annotated[str, msgspec.Meta(min_length=2, max_length=45, pattern=r"^[0-9a-fA-F:.]+$")]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Small = Annotated[int, msgspec.Meta(ge=0, le=4096)]


class Join(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A box that wants in. ``secret`` is hexadecimal; ``request`` a certificate signing request (PEM)."""

    invitation: Id
    secret: Annotated[str, msgspec.Meta(max_length=128, pattern=r"^[0-9a-f]+$")]
    name: Name
    request: Pem


class Joined(msgspec.Struct, frozen=True):
    """Welcome."""

    cluster: Id
    leader: Name
    certificate: Pem


class Renew(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A box whose certificate ends."""

    request: Pem


class Renewed(msgspec.Struct, frozen=True):
    certificate: Pem


class RankState(StrEnum):
    """What a box does for the run: nothing, its rank's process runs, or it has ended by itself or could not start.

    One writer: ``appliance.cluster.rank.RankKeeper``. idle -> up -> idle; idle | up -> failed -> idle.
    """

    IDLE = "idle"
    UP = "up"
    FAILED = "failed"


class ModelState(StrEnum):
    """Whether a box has the cluster's model in its store: the same, none, or another of that name."""

    NONE_WANTED = "none_wanted"
    THERE = "there"
    MISSING = "missing"
    DIFFERS = "differs"


class BoxDevice(msgspec.Struct, frozen=True):
    """A card as far as a plan over several boxes needs it."""

    vendor: Annotated[str, msgspec.Meta(max_length=32)]
    name: Annotated[str, msgspec.Meta(max_length=128)]
    index: Small | None = None
    chip: Annotated[str, msgspec.Meta(max_length=64)] | None = None
    memory_total_bytes: Count | None = None
    memory_free_bytes: Count | None = None
    unified_memory: bool = False
    compute_capability: Annotated[str, msgspec.Meta(max_length=16)] | None = None


class BoxHardware(msgspec.Struct, frozen=True):
    """What a box has for the model: ``engines`` by name with their versions."""

    devices: Annotated[tuple[BoxDevice, ...], msgspec.Meta(max_length=64)] = ()
    host_available_bytes: Count | None = None
    host_total_bytes: Count | None = None
    engines: Annotated[dict[str, str], msgspec.Meta(max_length=8)] = {}


class Beat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A box tells how it is, every second. ``boot`` is new with each start of its daemon, ``number`` counts within it:
    what arrives late or twice is known by them. ``address`` is its own on the link between the boxes."""

    boot: Id
    number: Count
    address: Address
    state: RankState = RankState.IDLE
    run: Id | None = None
    cause: Line | None = None
    model: ModelState = ModelState.NONE_WANTED
    hardware: BoxHardware | None = None
    version: Annotated[str, msgspec.Meta(max_length=64)] = ""


class Part(msgspec.Struct, frozen=True):
    """One box's part in a plan over several: how its rank is started, but for what each run has of its own. Bytes are
    those of each of its ``devices`` (0: of its host's memory)."""

    rank: Small
    nodes: Small
    engine: Annotated[str, msgspec.Meta(max_length=32)]
    tensor_parallel: Small
    data_parallel: Small
    pipeline_parallel: Small
    devices: Small
    seats: Small
    context_tokens: Count
    batch_tokens: Count
    weights_bytes: Count
    cache_bytes: Count
    work_bytes: Count
    quantization: Annotated[str, msgspec.Meta(max_length=32)]
    half: bool
    master_address: Address


class Wanted(msgspec.Struct, frozen=True):
    """The model that all boxes serve together. ``part`` is that of the box that is told; ``None`` while there is no
    plan, or when the plan does without it."""

    model: Annotated[str, msgspec.Meta(max_length=256)]
    sha256: Annotated[str, msgspec.Meta(max_length=64)]
    part: Part | None = None


class Start(msgspec.Struct, frozen=True):
    """Run this box's rank in this run; a box that is told nothing runs none."""

    run: Id
    master_port: Annotated[int, msgspec.Meta(ge=1, le=65_535)]


class BoxLine(msgspec.Struct, frozen=True):
    """A box of the cluster in the others' eyes."""

    name: Name
    state: Annotated[str, msgspec.Meta(max_length=32)]


class Told(msgspec.Struct, frozen=True):
    """The leader's answer to a beat. ``answers`` repeats its number; ``ready``: the model answers; ``tell_hardware``:
    the next beat is to say what cards there are."""

    answers: Count
    start: Start | None = None
    wanted: Wanted | None = None
    ready: bool = False
    tell_hardware: bool = False
    boxes: Annotated[tuple[BoxLine, ...], msgspec.Meta(max_length=64)] = ()
