"""What real loads took beside what was planned, kept for the next plan.

One entry for each model (its sha256), chip, build of llama.cpp, seats and context: the difference, measured minus
planned, on the device where it was largest and on the host. A plan for the same opening adds it when it is positive;
one for another opening of the same model, chip and build takes that of the entry whose context in all is nearest. What
was less than planned is kept for people and never taken off: the formula stays the least that is counted on.

The file is small (at most ``MOST_ENTRIES``, the oldest go first) and replaced as a whole; one that cannot be read
counts as empty, for all of it can be measured again.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from models.store_files import fsync_path, write_file
from models.types import HOST, FitPlan, InstalledModel

SCHEMA = 1
MOST_ENTRIES = 256
MOST_FILE_BYTES = 512 * 1024
MOST_DIFFERENCE_BYTES = 1 << 46
_MOST_TEXT = 256


class Residual(msgspec.Struct, frozen=True):
    """One measurement. ``device_bytes`` and ``host_bytes`` are measured minus planned; ``measured_at`` is UTC in
    ISO 8601. ``chip`` is ``chip_name``'s word."""

    model_sha256: str
    chip: str
    build: str
    seats: int
    context_tokens: int
    device_bytes: int
    host_bytes: int
    measured_at: str

    @property
    def key(self) -> tuple[str, str, str, int, int]:
        """What it was measured for: a new measurement of the same replaces it."""
        return (self.model_sha256, self.chip, self.build, self.seats, self.context_tokens)


@dataclass(frozen=True, slots=True)
class Extra:
    """Bytes to add to a plan, never negative."""

    device_bytes: int = 0
    host_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Corrections:
    """What is known of one model under one build; ``fit_installed`` takes it."""

    residuals: tuple[Residual, ...] = ()

    def for_opening(self, chip: str, seats: int, context_tokens: int) -> Extra:
        """What to add for this opening: of the same one if it was measured, else of the nearest by tokens in all."""
        known = [r for r in self.residuals if r.chip == chip]
        if not known:
            return Extra()
        tokens = seats * context_tokens
        nearest = min(
            known,
            key=lambda r: (
                (r.seats, r.context_tokens) != (seats, context_tokens),
                abs(math.log(r.seats * r.context_tokens / tokens)),
                -r.device_bytes,
            ),
        )
        return Extra(max(0, nearest.device_bytes), max(0, nearest.host_bytes))


@dataclass(frozen=True, slots=True)
class CatalogueCorrections:
    """What loads of this box's models took beside their plans, by variant and form of the catalogue: ``planner.plan``
    takes it. A form that was never loaded here has none: what another form took says little about it."""

    by_form: Mapping[tuple[str, str], Corrections] = field(default_factory=dict)

    def of(self, variant: str, quantization: str) -> Corrections:
        """Those of one form; without any, nothing is added."""
        return self.by_form.get((variant, quantization), Corrections())


def catalogue_corrections(
    residuals: Iterable[Residual], build: str, models: Iterable[InstalledModel]
) -> CatalogueCorrections:
    """The measurements under ``build`` of installed models that are forms of the catalogue."""
    known: dict[str, list[Residual]] = {}
    for residual in residuals:
        if residual.build == build:
            known.setdefault(residual.model_sha256, []).append(residual)
    found: dict[tuple[str, str], list[Residual]] = {}
    for model in models:
        if model.variant is not None and model.sha256 in known:
            found.setdefault((model.variant, model.quantization), []).extend(known[model.sha256])
    return CatalogueCorrections({form: Corrections(tuple(ones)) for form, ones in found.items()})


class _File(msgspec.Struct, frozen=True):
    schema: int
    entries: tuple[Residual, ...]


class ResidualStore:
    """The measurements in one file of the state folder."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> tuple[Residual, ...]:
        """All of them, oldest first; none when the file is missing, damaged or of another schema."""
        try:
            with self._path.open("rb") as file:
                data = file.read(MOST_FILE_BYTES + 1)
            found = msgspec.json.decode(data, type=_File)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return ()
        if found.schema != SCHEMA or len(data) > MOST_FILE_BYTES:
            return ()
        return tuple(r for r in found.entries if _is_sane(r))[-MOST_ENTRIES:]

    def corrections(self, model_sha256: str, build: str) -> Corrections:
        """Those of one model under one build."""
        return Corrections(tuple(r for r in self.load() if (r.model_sha256, r.build) == (model_sha256, build)))

    def add(self, residual: Residual) -> None:
        """Keeps a measurement in place of an older one of the same key. Raises ``ValueError`` for one that cannot be
        (no seats, a difference of 64 TiB) and ``OSError`` when it cannot be written."""
        if not _is_sane(residual):
            raise ValueError(f"no measurement: {residual}")
        entries = [r for r in self.load() if r.key != residual.key][-(MOST_ENTRIES - 1) :]
        while True:
            data = msgspec.json.encode(_File(SCHEMA, (*entries, residual)))
            if len(data) <= MOST_FILE_BYTES or not entries:
                break
            del entries[: max(1, len(entries) // 2)]
        temporary = self._path.with_name(f".{self._path.name}-{secrets.token_hex(8)}")
        try:
            write_file(temporary, data)
            temporary.replace(self._path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        fsync_path(self._path.parent)


def _is_sane(residual: Residual) -> bool:
    texts = (residual.model_sha256, residual.chip, residual.build, residual.measured_at)
    return (
        all(len(text) <= _MOST_TEXT for text in texts)
        and min(residual.seats, residual.context_tokens) > 0
        and max(abs(residual.device_bytes), abs(residual.host_bytes)) <= MOST_DIFFERENCE_BYTES
    )


@dataclass(frozen=True, slots=True)
class Difference:
    """Measured minus planned; negative where less was taken than planned."""

    device_bytes: int
    host_bytes: int


def difference(plan: FitPlan, measured: Mapping[str, int], *, with_pools: bool = False) -> Difference | None:
    """Measured minus planned: the largest of the plan's devices, and the host. ``None`` when they do not correspond.

    ``measured`` has bytes by the plan's device names and ``host``. What the engine's log says are buffers alone; what
    the device says it lost (``with_pools``) holds the driver's context and pools too, for which the plan has its
    reserve, and the draft model, which the engine's log leaves out.
    """
    planned = {m.device: m.total_bytes - (0 if with_pools else m.reserve_bytes + m.draft_bytes) for m in plan.memory}
    if not set(plan.devices) <= set(measured) or not set(plan.devices) <= set(planned):
        return None
    if not plan.devices and HOST not in measured:
        return None
    on_devices = max((measured[d] - planned[d] for d in plan.devices), default=0)
    on_host = measured[HOST] - planned[HOST] if HOST in measured and HOST in planned else 0
    return Difference(on_devices, on_host)


def by_plan_devices(plan: FitPlan, found: Mapping[str, int]) -> dict[str, int]:
    """Bytes under the plan's names instead of llama.cpp's: ``CUDA0`` is the first of the devices that the engine was
    shown, which are the plan's in its order. Empty when their number differs."""
    cards = sorted((name for name in found if name != HOST), key=lambda n: (len(n), n))
    if len(cards) != len(plan.devices):
        return {}
    names = dict(zip(cards, plan.devices, strict=True)) | {HOST: HOST}
    return {names[name]: size for name, size in found.items()}
