"""Between a server's start and its first request: waiting for it, and looking at what it serves."""

from __future__ import annotations

import asyncio
from typing import Any

from appliance.engine.external.connection import Connection, Unreachable
from appliance.engine.external.launch import Timeouts
from appliance.engine.external.server import Server


async def wait_healthy(server: Server, connection: Connection, timeouts: Timeouts) -> None:
    """Return when the server says that it is well. Raises EngineStartFailed when it ended instead, or when it is
    somebody else's and does not answer now."""
    ended = asyncio.create_task(server.wait_ended(), name="engine server's start")
    try:
        while (problem := await connection.is_healthy()) is not None:
            await asyncio.wait({ended}, timeout=timeouts.poll_s)
            if ended.done():
                raise server.failure(f"it ended while it started, {ended.result()}")
            if server.pid is None:
                raise server.failure(f"it does not answer ({problem})")
    finally:
        ended.cancel()


async def served_context(server: Server, connection: Connection, planned_tokens: int) -> int:
    """The context that a seat has: the plan's, or what the server says where that is less.

    Raises EngineStartFailed when the server has another model.
    """
    endpoint = server.endpoint
    if endpoint.dialect.models_path is None:
        return planned_tokens
    listed = (await _asked(server, connection, endpoint.dialect.models_path) or {}).get("data")
    models = {str(one.get("id")): one for one in listed if isinstance(one, dict)} if isinstance(listed, list) else {}
    if endpoint.model not in models:
        there = ", ".join(sorted(models)) or "none"
        raise server.failure(f"it does not serve the model '{endpoint.model}'; it has: {there}")
    longest = models[endpoint.model].get("max_model_len")
    return min(planned_tokens, longest) if isinstance(longest, int) and longest > 0 else planned_tokens


async def server_build(server: Server, connection: Connection) -> str:
    """Its version, as far as it tells one. Raises EngineStartFailed."""
    path = server.endpoint.dialect.version_path
    said = None if path is None else (await _asked(server, connection, path) or {}).get("version")
    return said if isinstance(said, str) else "unknown"


async def _asked(server: Server, connection: Connection, path: str) -> dict[str, Any] | None:
    try:
        return await connection.json(path)
    except Unreachable as broken:
        raise server.failure(f"it does not answer ({broken})") from broken
