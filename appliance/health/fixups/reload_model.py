"""Load a model again: what its engine held is given back first."""

from __future__ import annotations

from typing import Protocol

from appliance.engine.base import EngineInfo

_DRAIN_S = 60.0


class ModelLoader(Protocol):
    """The part of ``ModelHost`` that is needed here."""

    @property
    def default_id(self) -> str | None: ...

    def on_device(self, key: str) -> str | None:
        """The loaded model that lies on a device."""
        ...

    async def unload(self, model_id: str, *, drain_timeout_s: float) -> None: ...

    async def load(self, model_id: str, *, swap: bool = True, pin: bool = False) -> EngineInfo: ...


class ReloadModel:
    """Running answers get a minute to end. The subject is a model, or a device that carries one."""

    name = "reload_model"
    label = "Load the model again"

    def __init__(self, models: ModelLoader) -> None:
        self._models = models

    async def apply(self, subject: str | None) -> str:
        """Raises what keeps the model from being loaded."""
        model_id = self._models.on_device(subject) if subject is not None and ":" in subject else subject
        model_id = model_id or self._models.default_id
        if model_id is None:
            return "There is no model to load."
        await self._models.unload(model_id, drain_timeout_s=_DRAIN_S)
        await self._models.load(model_id)
        return f"{model_id} is loaded again."
