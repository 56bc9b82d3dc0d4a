"""What would fit this machine: the planner's sheet for the API."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from appliance.engine.installed import installed_engines
from appliance.model_setup import engine_vendors, measured_corrections
from appliance.schemas.plans import MachineCards, Plan, Plans, PlansQuery, WhyNot
from appliance.settings import Settings
from drivers.types import HardwareSnapshot
from models.explain import explain
from models.model_store import ModelStore
from models.plan_json import plan_to_json, rejection_to_json
from models.planner import plan
from models.site_catalogue import load_site_catalogue
from models.types import EngineName, PlanResult


class PlanReader:
    """Plans anew for every question."""

    def __init__(
        self, settings: Settings, store: ModelStore, machine: Callable[[], Awaitable[HardwareSnapshot]]
    ) -> None:
        """``machine`` is the hardware as it would be without any model loaded."""
        self._settings = settings
        self._store = store
        self._machine = machine

    async def plans(self, wish: PlansQuery) -> Plans:
        """The sheet. Raises VariantUnknown."""
        snapshot = await self._machine()
        return await asyncio.to_thread(self._plan, snapshot, wish)

    def _plan(self, snapshot: HardwareSnapshot, wish: PlansQuery) -> Plans:
        settings = self._settings
        catalogue = load_site_catalogue(settings.catalogue_dir)
        result = plan(
            catalogue,
            snapshot,
            wish.seats,
            wish.context_tokens,
            usable_vendors=engine_vendors(settings.backends_dir),
            engines=tuple(EngineName),
            installed=installed_engines(),
            offload=wish.offload,
            corrections=measured_corrections(settings, lambda: self._store.list().models),
        )
        if wish.variant is not None:
            told = explain(catalogue, result, wish.variant)
            result = PlanResult(
                tuple(one for part in told for one in part.plans),
                tuple(one for part in told for one in part.rejections),
                result.notes,
            )
        return Plans(
            cards=_cards(snapshot),
            host_memory_available_bytes=snapshot.host.memory_available_bytes,
            plans=tuple(Plan.model_validate(plan_to_json(one)) for one in result.plans),
            rejections=tuple(WhyNot.model_validate(rejection_to_json(one)) for one in result.rejections),
            notes=result.notes,
        )


def _cards(snapshot: HardwareSnapshot) -> tuple[MachineCards, ...]:
    counted: dict[tuple[str, int | None], int] = {}
    for device in snapshot.devices:
        kind = (device.chip or device.name, device.memory_total_bytes)
        counted[kind] = counted.get(kind, 0) + 1
    return tuple(
        MachineCards(name=name, count=count, memory_total_bytes=memory) for (name, memory), count in counted.items()
    )
