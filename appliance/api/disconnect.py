"""Noticing that a client has left, for answers that are computed whole."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

from appliance.api.errors import ClientGone

_Result = TypeVar("_Result")


async def wait_disconnect(receive: Receive) -> None:
    """Return when the connection is closed. The request's body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_disconnected(receive: Receive, work: Coroutine[Any, Any, _Result]) -> _Result:
    """The result of ``work``, which is cancelled, and awaited to its end, when the client leaves first.

    Plain asyncio tasks, not a cancel scope: within a cancelled scope of anyio the abort that ``work`` has to await in
    its clean-up would be cancelled again. Raises ClientGone, and what ``work`` raises.
    """
    worker = asyncio.ensure_future(work)
    watcher = asyncio.ensure_future(wait_disconnect(receive))
    try:
        await asyncio.wait((worker, watcher), return_when=asyncio.FIRST_COMPLETED)
        if worker.done():
            return worker.result()
        raise ClientGone
    finally:
        await cancel_all(worker, watcher)


async def cancel_all(*tasks: asyncio.Future[Any]) -> None:
    """Cancel the tasks and wait until their clean-up is over; how they ended is not of interest any more."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
