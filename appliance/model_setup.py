"""From a model in the store to what engine and chat need: placement on this machine, template, tokens, profile."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from appliance.attached import place_attached
from appliance.engine.external.server_factory import ServerSpec
from appliance.engine.factory import EngineSpec
from appliance.errors import AppError
from appliance.server_setup import place_server, wanted_engines
from appliance.serving.profile import profile_for
from appliance.serving.types import ProfileName, ServedModel
from appliance.settings import Settings
from drivers.types import Device, HardwareSnapshot, Vendor
from models.choice import why_served_by
from models.draft import DRAFTS, DraftPlace, place_draft, with_draft
from models.dry_fit import fit_exactly
from models.errors import ModelError, ModelNotFound
from models.fit import chip_name, fit_installed
from models.gguf import read_token_types, read_tokens
from models.gguf_header import GgufHeader
from models.gguf_set import installed_header
from models.model_store import ModelStore
from models.residuals import (
    CatalogueCorrections,
    Residual,
    ResidualStore,
    by_plan_devices,
    catalogue_corrections,
    difference,
)
from models.store_types import ModelFormat
from models.types import FitPlan, InstalledModel

_MARKED_TOKEN_TYPES = (3, 4)
"""GGUF token types CONTROL and USER_DEFINED (gguf specification, tokenizer.ggml.token_type)."""

_VISIBLE_WORDS = ("think", "tool")
"""Tags that belong in the text whatever type a converter gave them: thinking and tool calls are found by them."""


_SCARCE_FROM = 0.6
"""From this share of a memory on a plan is worth the second that llama.cpp's own lay-out takes."""


class TooManySeats(AppError):
    """More seats than llama.cpp can run at once (LLAMA_MAX_SEQ of llama.cpp 0c1e57098)."""

    code = "too_many_seats"
    http_status = 400
    template = "{seats} seats were asked for; the engine runs {most} sequences at the same time at most."
    hint_template = "Use --seats {most} or fewer; more people can wait in the queue (max_waiting)."


class DraftModelUnfit(AppError):
    """The draft model that the settings name cannot be used beside the model."""

    code = "draft_model_unfit"
    http_status = 400
    template = "{draft} cannot guess for {model}: {reason}."
    hint_template = "Use --draft-model off, or auto for one that is known to fit."


MOST_SEATS = 256

MOST_CHAT_MEMORY_BYTES = 8 * 1024**3
"""More of the host's memory is kept for idle chats only when the operator says so."""

MOST_CHAT_DISK_BYTES = 16 * 1024**3
"""The same of the disk."""

HOST_DEVICE = "host"
"""``MemoryEstimate.device`` of the host's memory."""


@dataclass(frozen=True, slots=True)
class ModelSetup:
    """Everything decided about a model before it is loaded."""

    installed: InstalledModel
    plan: FitPlan
    engine: EngineSpec | ServerSpec
    served: ServedModel
    why_engine: str = ""


def engine_vendors(backends_dir: Path | None = None) -> frozenset[Vendor]:
    """Vendors whose cards the installed llama.cpp can compute on: those with a ggml backend among its files or in
    ``backends_dir``.

    The CANN backend lies in ``site-packages/lib`` alone (a slip in the CMake file of llama-cpp-python 0.3.36), so
    both folders are looked at. llama_cpp itself is not imported: that is the worker's business.
    """
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or spec.origin is None:
        return frozenset()
    package = Path(spec.origin).parent
    folders = [package / "lib", package.parent / "lib", package.parent / "bin"]
    if backends_dir is not None:
        folders.append(backends_dir)
    names = {file.name for folder in folders if folder.is_dir() for file in folder.glob("libggml-*.so*")}
    backends = {"libggml-cuda": Vendor.NVIDIA, "libggml-cann": Vendor.ASCEND}
    return frozenset(vendor for backend, vendor in backends.items() if any(name.startswith(backend) for name in names))


def set_up(installed: InstalledModel, snapshot: HardwareSnapshot, settings: Settings) -> ModelSetup:
    """Decide how this model runs here. Reads the model's header; blocks for some milliseconds.

    Raises models.errors.ModelError (too large, context too long, damaged file, not on these cards) or TooManySeats.
    """
    if settings.seats is not None and settings.seats > MOST_SEATS:
        raise TooManySeats(seats=settings.seats, most=MOST_SEATS)
    if settings.attach_url is not None and installed.source == settings.attach_url:
        return ModelSetup(installed, *place_attached(installed, settings), f"{settings.attach_url} has the model.")
    if installed.format is ModelFormat.SAFETENSORS:
        placed = place_server(installed, snapshot, settings)
        return ModelSetup(installed, *placed, why_served_by(placed[0], wanted_engines(settings)))
    header = installed_header(installed)
    plan = _place(installed, header, snapshot, settings)
    control_tokens = _control_tokens(header)
    draft = None
    if settings.speculation and settings.draft_model != "off":
        draft = choose_draft(installed, plan, settings.draft_model, ModelStore(settings.models_dir).list().models)
        plan = plan if draft is None else with_draft(plan, draft[0].id, draft[1])
    engine = EngineSpec(
        model_path=installed.path,
        seats=plan.seats,
        context_tokens=plan.context_tokens,
        threads=settings.threads or snapshot.host.cpu_cores or 1,
        gpu_layers=plan.gpu_layers,
        kv_type=plan.kv_type.value,
        flash_attention=plan.flash_attention,
        ubatch_tokens=plan.ubatch_tokens,
        tensor_split=plan.tensor_split,
        environment=visible_devices(plan, snapshot.devices),
        backend_dirs=() if settings.backends_dir is None else (settings.backends_dir,),
        speculates=settings.speculation,
        draft_model_path=draft[0].path if draft is not None else None,
        draft_device=(draft[1].device or 0) if draft is not None else 0,
        visible_tokens=tuple(sorted(t for t in control_tokens if any(word in t for word in _VISIBLE_WORDS))),
        experts_on_host=plan.experts_on_host,
        tier_memory_bytes=_chat_memory_bytes(plan, snapshot, settings),
        tier_disk_bytes=_chat_disk_bytes(settings),
        tier_dir=chat_dir(settings),
        tier_key_file=chat_key_file(settings),
        model_sha256=installed.sha256,
        on_processor=not plan.devices or plan.host_layers > 0 or plan.experts_on_host,
    )
    served = _served(installed, header, control_tokens)
    return ModelSetup(installed, plan, engine, served, why_served_by(plan, wanted_engines(settings)))


def _place(installed: InstalledModel, header: GgufHeader, snapshot: HardwareSnapshot, settings: Settings) -> FitPlan:
    """The plan by the formulas and what earlier loads took beside them; where memory is scarce llama.cpp lays the
    buffers out once without weights, so that the figures are its own."""
    vendors = engine_vendors(settings.backends_dir)
    known = residual_store(settings).corrections(installed.sha256, llama_cpp_version())
    wish = (settings.seats, settings.context_tokens)
    allow_cpu = settings.allow_cpu_fallback or not snapshot.devices
    plan = fit_installed(
        header,
        snapshot,
        *wish,
        allow_cpu=allow_cpu,
        usable_vendors=vendors,
        corrections=known,
        offload=settings.offload,
    )
    if max(line.total_bytes / max(line.available_bytes, 1) for line in plan.memory) < _SCARCE_FROM:
        return plan
    found = fit_exactly(
        header,
        snapshot,
        *wish,
        allow_cpu=allow_cpu,
        usable_vendors=vendors,
        corrections=known,
        offload=settings.offload,
        backend_dirs=() if settings.backends_dir is None else (settings.backends_dir,),
        environment=lambda plan: visible_devices(plan, snapshot.devices),
    )
    if found.failure is None:
        return found.plan
    note = f"llama.cpp could not lay the buffers out beforehand ({found.failure.message}); the figures are estimates."
    return replace(found.plan, notes=(*found.plan.notes, note))


def choose_draft(
    installed: InstalledModel, plan: FitPlan, wish: str, others: Sequence[InstalledModel]
) -> tuple[InstalledModel, DraftPlace] | None:
    """The model of ``others`` that guesses what this one says, and where it goes: ``wish`` is its id, or ``auto`` for a
    small sibling that fits. Raises DraftModelUnfit, and ModelNotFound for an id that is not there."""
    if wish != "auto":
        asked = next((other for other in others if other.id == wish), None)
        if asked is None:
            raise ModelNotFound(wish, [other.id for other in others if other.id != installed.id][:3])
        if (place := place_draft(plan, installed_header(asked), smaller_by=1.0)) is None:
            reason = "it is not smaller, was trained for less context or does not fit into the memory that is left"
            raise DraftModelUnfit(draft=wish, model=installed.id, reason=reason)
        return asked, place
    variant = DRAFTS.get(installed.variant or "")
    for other in others:
        if variant is not None and other.variant == variant and other.format is ModelFormat.GGUF:
            with suppress(ModelError):
                if (place := place_draft(plan, installed_header(other))) is not None:
                    return other, place
    return None


def _chat_memory_bytes(plan: FitPlan, snapshot: HardwareSnapshot, settings: Settings) -> int:
    """What idle chats may take of the host's memory: as set, else half of what the plan leaves free there."""
    if settings.chat_memory_bytes is not None:
        return settings.chat_memory_bytes
    free_bytes = snapshot.host.memory_available_bytes
    if free_bytes is None:
        return 0
    planned_bytes = sum(line.total_bytes for line in plan.memory if line.device == HOST_DEVICE)
    return max(0, min((free_bytes - planned_bytes) // 2, MOST_CHAT_MEMORY_BYTES))


def chat_dir(settings: Settings) -> Path:
    """Where idle chats lie on disk."""
    return settings.chat_dir or settings.state_dir / "chats"


def chat_key_file(settings: Settings) -> Path:
    """The key that they are sealed with: without it they are noise."""
    return settings.state_dir / "chats.key"


def _chat_disk_bytes(settings: Settings) -> int:
    """What idle chats may take of the disk: as set, else a tenth of what is free there."""
    if settings.chat_disk_bytes is not None:
        return settings.chat_disk_bytes
    folder = chat_dir(settings)
    there = next(path for path in (folder, *folder.parents) if path.is_dir())
    return min(shutil.disk_usage(there).free // 10, MOST_CHAT_DISK_BYTES)


def residual_store(settings: Settings) -> ResidualStore:
    """What real loads on this box took beside their plans."""
    return ResidualStore(settings.state_dir / "measured-memory.json")


def measured_corrections(settings: Settings, models: Callable[[], Iterable[InstalledModel]]) -> CatalogueCorrections:
    """What loads of these models took here beside their plans, for plans of the whole catalogue. ``models`` are asked
    for only when something was measured."""
    measured = residual_store(settings).load()
    return catalogue_corrections(measured, llama_cpp_version(), models() if measured else ())


def llama_cpp_version() -> str:
    """The build that measurements belong to."""
    return version("llama-cpp-python")


def remember_memory(
    setup: ModelSetup, measured_bytes: Mapping[str, int], snapshot: HardwareSnapshot, settings: Settings
) -> None:
    """Keep what a load really took, for the next plan. Raises ``OSError`` when the state folder cannot be written."""
    plan = setup.plan
    found = difference(plan, by_plan_devices(plan, measured_bytes))
    if found is None:
        return
    by_key = {device.key: device for device in snapshot.devices}
    residual_store(settings).add(
        Residual(
            model_sha256=setup.installed.sha256,
            chip=chip_name(tuple(by_key[key] for key in plan.devices)),
            build=llama_cpp_version(),
            seats=plan.seats,
            context_tokens=plan.context_tokens,
            device_bytes=found.device_bytes,
            host_bytes=found.host_bytes,
            measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
    )


def visible_devices(plan: FitPlan, devices: tuple[Device, ...]) -> Mapping[str, str]:
    """Environment that shows the engine exactly the plan's devices, in the plan's order.

    A device is named by its ``selector`` where it has one: a MIG instance has no index. Empty (all devices are seen)
    for a plan on the processor, and when a driver tells neither: a wrong index would be worse than a device too many.
    """
    by_key = {device.key: device for device in devices}
    chosen = [by_key[key] for key in plan.devices]
    words = [device.selector or device.index for device in chosen]
    if not words or None in words:
        return {}
    visible = ",".join(str(word) for word in words)
    if chosen[0].vendor == Vendor.NVIDIA:
        # CUDA numbers cards by speed unless told to count as the driver (and our probe) does.
        return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": visible}
    return {"ASCEND_RT_VISIBLE_DEVICES": visible}


def _control_tokens(header: GgufHeader) -> frozenset[str]:
    types = read_token_types(header)
    tokens = read_tokens(header)
    return frozenset(token for token, kind in zip(tokens, types, strict=False) if kind in _MARKED_TOKEN_TYPES and token)


def _served(installed: InstalledModel, header: GgufHeader, control_tokens: frozenset[str]) -> ServedModel:
    template = header.chat_template
    return ServedModel(
        id=installed.id,
        name=installed.name,
        quantization=installed.quantization,
        created_at=int(datetime.fromisoformat(installed.imported_at).timestamp()),
        chat_template=template,
        bos_token=header.token_text("bos"),
        eos_token=header.token_text("eos"),
        control_tokens=control_tokens,
        profile=profile_for(
            name=installed.name,
            chat_template=template,
            control_tokens=control_tokens,
            recognised=None if installed.profile is None else ProfileName(installed.profile.value),
        ),
    )
