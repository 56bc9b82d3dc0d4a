"""From a model in safetensors to what engine and chat need: which big engine, on which cards, with which template."""

from __future__ import annotations

import math
from collections.abc import Collection
from datetime import datetime
from pathlib import Path

from appliance.engine.external.server_factory import Installation, ServerSpec
from appliance.engine.installed import EngineOnDisk, big_engines
from appliance.engine.serve_order import Container, ServeOrder
from appliance.serving.profile import profile_for
from appliance.serving.types import ProfileName, ServedModel
from appliance.settings import Settings
from drivers.types import HardwareSnapshot, Vendor
from models.catalogue import load_catalogue
from models.fit_folder import FolderFacts, fit_folder, needs_half
from models.import_safetensors import HubModel
from models.stored_folder import read_stored, stored_folder
from models.types import HOST, EngineName, FitPlan, InstalledModel

_GIB = 1024**3


def place_server(
    installed: InstalledModel, snapshot: HardwareSnapshot, settings: Settings
) -> tuple[FitPlan, ServerSpec, ServedModel]:
    """Decide how this model is served here. Reads the folder's headers; blocks for some milliseconds.

    Raises models.errors.ModelError (too large, context too long, damaged folder, no engine for it).
    """
    found = read_stored(installed)
    plan = fit_folder(
        FolderFacts(installed, found.shape),
        load_catalogue(),
        snapshot,
        settings.seats,
        settings.context_tokens,
        engines=wanted_engines(settings),
        allow_cpu=settings.allow_cpu_fallback or not snapshot.devices,
    )
    by_key = {device.key: device for device in snapshot.devices}
    chosen = [by_key[key] for key in plan.devices]
    words = [device.selector or device.index for device in chosen]
    order = ServeOrder(
        name=installed.id,
        folder=stored_folder(installed),
        plan=plan,
        quantization=plan.quantization,
        architecture=installed.architecture,
        # A wrong number would be worse than a device too many.
        visible=() if None in words else tuple(str(word) for word in words),
        half=needs_half(plan),
        is_mixture=installed.architecture.startswith("deepseek") and plan.engine is not EngineName.LLAMA_CPP,
        chat_template=found.chat_template,
        cache_gib=_cache_gib(plan),
    )
    card = "CANN" if chosen and chosen[0].vendor == Vendor.ASCEND else "CUDA"
    spec = ServerSpec(
        engine=plan.engine,
        order=order,
        installation=installation(settings),
        backends=tuple(f"{card}{number}" for number in range(len(chosen))) or ("CPU",),
        weights_bytes=plan.file_bytes,
    )
    return plan, spec, served_folder(installed, found)


def installation(settings: Settings) -> Installation:
    """Where the settings say that the big engine is."""
    container = None
    if settings.engine_container is not None:
        runtime, _, image = settings.engine_container.partition(":")
        container = Container(runtime, image)
    on_disk = big_engines(settings.engine_python, settings.ascend_root)
    python = settings.engine_python or next((one.python for one in on_disk if one.python is not None), None)
    return Installation(
        run_dir=settings.engine_dir or settings.state_dir / "engines",
        cache_dir=settings.state_dir / "engine-cache",
        python=Path("python3") if container is not None or python is None else python,
        root=settings.ascend_root,
        container=container,
        more=settings.engine_arguments,
    )


def wanted_engines(settings: Settings) -> frozenset[EngineName]:
    """The engines that may serve safetensors here: the one that is set, else those that are there."""
    if settings.engine != "auto":
        return frozenset({EngineName(settings.engine)}) - {EngineName.LLAMA_CPP}
    if settings.engine_container is not None:
        return frozenset({_engine_of_image(settings.engine_container)})
    return _names(big_engines(settings.engine_python, settings.ascend_root))


def served_folder(installed: InstalledModel, found: HubModel) -> ServedModel:
    """What chat knows of the model: its own template and tokens, and the profile it was recognised with."""
    return ServedModel(
        id=installed.id,
        name=installed.name,
        quantization=installed.quantization,
        created_at=int(datetime.fromisoformat(installed.imported_at).timestamp()),
        chat_template=found.chat_template,
        bos_token=found.bos_token,
        eos_token=found.eos_token,
        control_tokens=found.control_tokens,
        profile=profile_for(
            name=installed.name,
            chat_template=found.chat_template,
            control_tokens=found.control_tokens,
            recognised=None if installed.profile is None else ProfileName(installed.profile.value),
        ),
    )


def _names(found: Collection[EngineOnDisk]) -> frozenset[EngineName]:
    return frozenset(one.name for one in found)


def _engine_of_image(container: str) -> EngineName:
    image = container.lower()
    if "mindie" in image:
        return EngineName.MINDIE
    return EngineName.VLLM_ASCEND if "ascend" in image else EngineName.VLLM


def _cache_gib(plan: FitPlan) -> int:
    """Of a processor's plan: the gibibytes of the cache, rounded up."""
    return max(1, math.ceil(sum(line.kv_bytes for line in plan.memory if line.device == HOST) / _GIB))
