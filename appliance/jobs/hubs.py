"""The hubs and plans that the settings speak of, for downloads by the command line and by jobs."""

from __future__ import annotations

import os
from collections.abc import Sequence

from appliance.engine.installed import installed_engines
from appliance.model_setup import engine_vendors, measured_corrections
from appliance.settings import Settings
from drivers.types import HardwareSnapshot
from models.download_http import RateLimit
from models.hubs import Hub, HubName, access_from, make_hub
from models.model_store import ModelStore
from models.planner import plan
from models.types import Catalogue, EngineName, PlanResult


def hubs_of(settings: Settings, bytes_per_s: int | None = None) -> list[Hub]:
    """The hubs in the order of the settings; ``bytes_per_s`` goes over the settings' limit."""
    rate = bytes_per_s if bytes_per_s is not None else settings.download_bytes_per_s
    limit = RateLimit(rate) if rate is not None else None
    endpoints = {
        HubName.HUGGINGFACE: settings.huggingface_endpoint,
        HubName.MODELSCOPE: settings.modelscope_endpoint,
    }
    tokens = {
        HubName.HUGGINGFACE: settings.huggingface_token_file,
        HubName.MODELSCOPE: settings.modelscope_token_file,
    }
    return [
        make_hub(
            access_from(
                hub,
                os.environ,
                endpoint=endpoints[hub],
                token_file=tokens[hub],
                proxy=settings.hub_proxy,
                ca_bundle=settings.hub_ca_bundle,
                limit=limit,
            )
        )
        for hub in map(HubName, settings.hub_order.split(","))
    ]


def asked_hubs(hubs: Sequence[Hub], wanted: str) -> list[Hub]:
    """Those that are called ``wanted``, or all for ``auto``."""
    return [one for one in hubs if wanted == "auto" or one.access.name.value == wanted]


def plans_of(settings: Settings, catalogue: Catalogue, store: ModelStore, snapshot: HardwareSnapshot) -> PlanResult:
    """What fits the machine of ``snapshot``, as ``r1box plan`` finds it."""
    return plan(
        catalogue,
        snapshot,
        settings.seats,
        settings.context_tokens,
        usable_vendors=engine_vendors(settings.backends_dir),
        engines=tuple(EngineName),
        installed=installed_engines(),
        corrections=measured_corrections(settings, lambda: store.list().models),
    )
