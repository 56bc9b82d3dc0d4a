"""Threads of jobs: results, errors, context, and an end of the loop that does not wait for them."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar

import pytest

from appliance.jobs.threads import in_thread

WHO: ContextVar[str] = ContextVar("who")


async def test_results_errors_and_context() -> None:
    WHO.set("chen")
    assert await in_thread("t", lambda number: (number, WHO.get(), threading.current_thread().name), 3) == (
        3,
        "chen",
        "t",
    )

    def fails() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await in_thread("t", fails)


def test_the_loops_end_does_not_wait() -> None:
    go, ended = threading.Event(), threading.Event()

    def hangs() -> None:
        go.wait()
        ended.set()

    async def main() -> None:
        task = asyncio.create_task(in_thread("hangs", hangs))
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(main())
    assert not ended.is_set()
    # What it tells a loop that has ended is lost, and no error.
    go.set()
    assert ended.wait(60)
