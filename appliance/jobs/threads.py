"""Runs a job's work in a thread that does not keep the daemon from ending.

``asyncio.to_thread`` takes a thread of the loop's executor, and the loop's end waits for all of those: a download whose
hub has gone silent would hold up a restart until systemd kills the daemon. What these threads write survives a power
cut (temporary names, resumable parts), so it survives their end too.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

_Result = TypeVar("_Result")


async def in_thread(name: str, call: Callable[..., _Result], *arguments: Any) -> _Result:
    """The result of ``call`` in a thread of its own. Raises what it raises; when cancelled, the thread goes on
    unseen."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_Result] = loop.create_future()
    context = contextvars.copy_context()

    def tell(deliver: Callable[[Any], None], value: object) -> None:
        # A loop that has ended hears nothing any more.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(lambda: None if future.done() else deliver(value))

    def work() -> None:
        try:
            result = context.run(call, *arguments)
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits
            tell(future.set_exception, error)
        else:
            tell(future.set_result, result)

    threading.Thread(target=work, name=name, daemon=True).start()
    return await future
