"""What llama.cpp itself will allocate for a model: exact buffers for each device, without loading it.

A child (``models.dry_run_child``) loads the header with ``no_alloc`` and makes a context for each opening; here its log
is read. That is how llama.cpp's own ``--fit`` measures. It takes about a second for a large vocabulary and milliseconds
for each opening. A header alone is enough: see ``sparse_copy``.

Records of the child: ``start`` (build, devices), ``log`` (text), ``model`` (loaded), ``context`` (opened), one for each
opening in their order, ``end``; log lines come before the record they belong to.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from models.child import ChildEnd, Record, RunChild, run_child
from models.dry_run_log import ContextLog, LogNotUnderstood, ModelLog, buffers
from models.gguf_format import MAX_HEADER_BYTES
from models.gguf_header import GgufHeader
from models.memory import CACHE_SLOTS, SPARE_SEQUENCES, UBATCH_TOKENS
from models.types import EXPERT_TENSORS, KvType

CHILD = "models.dry_run_child"
BATCH_TOKENS = 2048
MEMORY_LIMIT_BYTES = 6 * 1024**3
"""What the child may take: the largest known header needs 1.5 GB of addresses, most of it libraries."""
START_LIMIT_S = 60.0
OPENING_LIMIT_S = 5.0
MOST_OPENINGS = 100
MOST_FILE_BYTES = 1 << 44


@dataclass(frozen=True, slots=True)
class Opening:
    """How a model is opened, as the worker does it: one cache for all; a sequence for each seat, ``cache_slots`` more
    that keep what conversations share, and ``SPARE_SEQUENCES``; a row of logits for each sequence (``outputs``,
    llama.cpp's n_outputs_max, ``None``: as many as sequences)."""

    seats: int
    context_tokens: int
    kv_type: KvType = KvType.F16
    flash_attention: bool = True
    ubatch_tokens: int = UBATCH_TOKENS
    batch_tokens: int = BATCH_TOKENS
    outputs: int | None = None
    kv_unified: bool = True
    cache_slots: int = CACHE_SLOTS

    @property
    def sequences(self) -> int:
        """llama.cpp's n_seq_max."""
        return self.seats + self.cache_slots + SPARE_SEQUENCES

    def request(self) -> dict[str, Any]:
        """As the child reads it."""
        return {
            "sequences": self.sequences,
            "context": self.seats * self.context_tokens,
            "kv_type": self.kv_type.value,
            "flash_attention": self.flash_attention,
            "ubatch": self.ubatch_tokens,
            "batch": self.batch_tokens,
            "outputs": self.sequences if self.outputs is None else self.outputs,
            "kv_unified": self.kv_unified,
        }


@dataclass(frozen=True, slots=True)
class Offload:
    """Where the layers go. ``tensor_split`` has the layers of each device, ``backend_dirs`` folders with loadable
    backends; ``environment`` shows the engine its devices (``CUDA_VISIBLE_DEVICES``). ``extra_buffers``: weights may be
    repacked for the processor; ``experts_on_host``: the routed experts of all layers lie in the host's memory."""

    gpu_layers: int = 0
    tensor_split: tuple[int, ...] = ()
    backend_dirs: tuple[Path, ...] = ()
    environment: Mapping[str, str] | None = None
    extra_buffers: bool = True
    experts_on_host: bool = False


@dataclass(frozen=True, slots=True)
class DeviceBuffers:
    """Bytes on one device, named as llama.cpp names it (``CUDA0``), or in the ``host``'s memory."""

    device: str
    model_bytes: int = 0
    kv_bytes: int = 0
    compute_bytes: int = 0
    output_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        return self.model_bytes + self.kv_bytes + self.compute_bytes + self.output_bytes


@dataclass(frozen=True, slots=True)
class DryRun:
    """The buffers of one opening, the host's last. ``stray_tensors``: how many tensors of layers that were sent to
    cards stay on the host because the backend does not take their type (the gate knows why)."""

    opening: Opening
    build: str
    buffers: tuple[DeviceBuffers, ...]
    stray_tensors: int = 0

    @property
    def total_bytes(self) -> int:
        return sum(b.total_bytes for b in self.buffers)

    def on(self, device: str) -> DeviceBuffers:
        """The buffers of ``device``, all zero when it has none."""
        return next((b for b in self.buffers if b.device == device), DeviceBuffers(device))


class DryRunFailureKind(StrEnum):
    """Why there is no answer."""

    NOT_STARTED = "dry_run_not_started"
    ABORTED = "dry_run_aborted"
    TIMED_OUT = "dry_run_timed_out"
    UNKNOWN_ARCHITECTURE = "dry_run_unknown_architecture"
    LOAD_REFUSED = "dry_run_load_refused"
    CONTEXT_REFUSED = "dry_run_context_refused"
    NOT_UNDERSTOOD = "dry_run_not_understood"


_HINTS = {
    DryRunFailureKind.NOT_STARTED: "Check that llama-cpp-python is installed in the Python that runs this.",
    DryRunFailureKind.ABORTED: "The plan is estimated by formula instead; the file may be damaged: verify it.",
    DryRunFailureKind.TIMED_OUT: "The plan is estimated by formula instead; a card's driver may hang: r1box doctor.",
    DryRunFailureKind.UNKNOWN_ARCHITECTURE: "Update this software, or take another model.",
    DryRunFailureKind.LOAD_REFUSED: "Check the file: r1box models verify; what llama.cpp says is in the message.",
    DryRunFailureKind.CONTEXT_REFUSED: "Take fewer seats, less context or another form of the cache.",
    DryRunFailureKind.NOT_UNDERSTOOD: "The plan is estimated by formula instead: this llama.cpp writes another log.",
}


@dataclass(frozen=True, slots=True)
class DryRunFailure:
    """Why an opening has no buffers; ``message`` is for people, its ``kind`` the stable code."""

    opening: Opening
    kind: DryRunFailureKind
    message: str

    @property
    def hint(self) -> str:
        """What to do next."""
        return _HINTS[self.kind]


def dry_run(
    header: GgufHeader,
    openings: Sequence[Opening],
    offload: Offload | None = None,
    *,
    timeout_s: float | None = None,
    memory_bytes: int = MEMORY_LIMIT_BYTES,
    run: RunChild = run_child,
) -> tuple[DryRun | DryRunFailure, ...]:
    """One answer for each opening. Never raises for what the child does.

    ``header`` is that of the file at ``header.path``, which llama.cpp opens (of a split model the first part, with the
    tensors of all). ``timeout_s``: a minute and five seconds for each opening when not given. Raises ``ValueError`` for
    no openings or more than 100.
    """
    if not 1 <= len(openings) <= MOST_OPENINGS:
        raise ValueError(f"1 to {MOST_OPENINGS} openings at once, not {len(openings)}")
    where = offload or Offload()
    reading = _Reading(header, tuple(openings))
    request = {
        "path": os.fspath(header.path.absolute()),
        "no_alloc": True,
        "gpu_layers": where.gpu_layers,
        "tensor_split": list(where.tensor_split),
        "extra_buffers": where.extra_buffers,
        "host_tensors": [EXPERT_TENSORS] if where.experts_on_host else [],
        "backend_dirs": [os.fspath(folder) for folder in where.backend_dirs],
        "memory_bytes": memory_bytes,
        # As the runner does: with the experts on the host a card does not compute what lies there.
        "openings": [opening.request() | {"op_offload": not where.experts_on_host} for opening in openings],
    }
    limit_s = START_LIMIT_S + OPENING_LIMIT_S * len(openings) if timeout_s is None else timeout_s
    try:
        end = run(CHILD, request, reading.take, timeout_s=limit_s, environment=where.environment)
    except OSError as error:
        return reading.finish_with(DryRunFailureKind.NOT_STARTED, f"The dry run did not start: {error}.")
    return reading.finish(end)


def sparse_copy(source: Path, target: Path, *, header_bytes: int, file_bytes: int) -> Path:
    """A file that begins as ``source`` and is ``file_bytes`` long, the rest a hole: enough for a dry run.

    For a file that is not here yet: write its first megabytes and its full size, then ``read_header`` the result.
    Raises ``ValueError`` for absurd sizes (a header over 128 MiB, a file over 16 TiB) and ``OSError``.
    """
    if not 0 < header_bytes <= min(MAX_HEADER_BYTES, file_bytes) or file_bytes > MOST_FILE_BYTES:
        raise ValueError(f"a header of {header_bytes} bytes in a file of {file_bytes} is out of bounds")
    with source.open("rb") as old, target.open("xb") as new:
        left = header_bytes
        while left and (block := old.read(min(left, 1 << 20))):
            new.write(block)
            left -= len(block)
        new.truncate(file_bytes)
    return target


class _Reading:
    """Turns the child's records into answers."""

    def __init__(self, header: GgufHeader, openings: tuple[Opening, ...]) -> None:
        self._header = header
        self._openings = openings
        self._model = ModelLog()
        self._context = ContextLog()
        self._build = "llama.cpp"
        self._started = False
        self._loaded: bool | None = None
        self._answers: list[DryRun | DryRunFailure] = []

    def take(self, record: Record) -> None:
        match record.get("kind"):
            case "start":
                self._started = True
                self._build = str(record.get("build"))
            case "log":
                log = self._model if self._loaded is None else self._context
                log.take(str(record.get("text")), is_error=record.get("is_error") is True)
            case "model":
                self._loaded = record.get("loaded") is True
            case "context" if len(self._answers) < len(self._openings):
                self._answers.append(self._answer(opened=record.get("opened") is True))
                self._context = ContextLog()

    def _answer(self, *, opened: bool) -> DryRun | DryRunFailure:
        opening = self._openings[len(self._answers)]
        if not opened:
            said = self._context.last_word or "no reason given"
            return DryRunFailure(opening, DryRunFailureKind.CONTEXT_REFUSED, f"llama.cpp opens no context: {said}.")
        try:
            sums = buffers(self._header, self._model, self._context)
        except LogNotUnderstood as error:
            return DryRunFailure(opening, DryRunFailureKind.NOT_UNDERSTOOD, f"llama.cpp's log is not clear: {error}.")
        found = tuple(DeviceBuffers(device, **values) for device, values in sums.items())
        return DryRun(opening, self._build, found, self._model.stray_tensors)

    def finish(self, end: ChildEnd) -> tuple[DryRun | DryRunFailure, ...]:
        if len(self._answers) == len(self._openings):
            return tuple(self._answers)
        if self._loaded is False:
            said = self._model.last_word or "no reason given"
            unknown = "unknown model architecture" in said
            kind = DryRunFailureKind.UNKNOWN_ARCHITECTURE if unknown else DryRunFailureKind.LOAD_REFUSED
            return self.finish_with(kind, f"llama.cpp does not load it: {said}.")
        if end.timed_out:
            return self.finish_with(DryRunFailureKind.TIMED_OUT, "The dry run did not end in time.")
        if end.garbled:
            return self.finish_with(DryRunFailureKind.NOT_UNDERSTOOD, "The dry run printed what is no record.")
        if not self._started:
            last = (end.stderr.strip().splitlines() or ["no word"])[-1]
            kind = DryRunFailureKind.NOT_STARTED
            return self.finish_with(kind, f"The dry run did not start ({end.how}): {last}.")
        first = next(iter(end.stderr.strip().splitlines()), self._context.last_word or self._model.last_word or "")
        return self.finish_with(DryRunFailureKind.ABORTED, f"llama.cpp ended in the dry run ({end.how}): {first}.")

    def finish_with(self, kind: DryRunFailureKind, message: str) -> tuple[DryRun | DryRunFailure, ...]:
        """What was answered, and this failure for the rest."""
        rest = self._openings[len(self._answers) :]
        return (*self._answers, *(DryRunFailure(opening, kind, message) for opening in rest))
