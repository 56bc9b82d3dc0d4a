"""The one writer of the served engine's state."""

from __future__ import annotations

from appliance.engine.base import Engine, EngineInfo, EngineStatus


class EngineManager:
    """Interface for readers; the body follows."""

    def status(self) -> EngineStatus:
        raise AssertionError

    def ready(self) -> tuple[Engine, EngineInfo]:
        """The engine that can take requests now. Raises ModelNotReady."""
        raise AssertionError
