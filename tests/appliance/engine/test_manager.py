"""The one writer of the engine's state, with fake engines that die when told to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from appliance.engine.base import Engine, EngineState, EngineStatus
from appliance.engine.manager import Backoff, EngineManager
from appliance.errors import EngineStartFailed, ModelNotReady
from tests.fakes.engine import FAKE_INFO, FakeEngine


class Factory:
    """Makes fakes; ``failing`` are the numbers of those whose start fails."""

    def __init__(self, *failing: int) -> None:
        self.made: list[FakeEngine] = []
        self._failing = failing

    def __call__(self) -> Engine:
        number = len(self.made) + 1
        error = EngineStartFailed(cause=f"start {number} fails") if number in self._failing else None
        self.made.append(FakeEngine(start_error=error))
        return self.made[-1]


class Pauses:
    """Stands in for sleeping: notes how long, and lets others run."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
def manager(pauses: Pauses) -> EngineManager:
    return EngineManager(start_timeout_s=5, backoff=Backoff(first_s=1, most_s=4, healthy_s=1e9), sleep=pauses)


async def test_a_load_goes_through_its_states_and_is_ready(manager: EngineManager) -> None:
    seen: list[EngineStatus] = []
    manager.on_change(seen.append)
    with pytest.raises(ModelNotReady, match="none is loaded"):
        manager.ready()
    await manager.load("m", Factory())
    assert [(status.state, status.load_fraction) for status in seen] == [
        (EngineState.STARTING, 0.0),
        (EngineState.STARTING, 0.0),
        (EngineState.STARTING, 0.5),
        (EngineState.STARTING, 1.0),
        (EngineState.READY, None),
    ]
    assert manager.ready()[1] == FAKE_INFO
    await manager.unload(drain_timeout_s=1, stop_timeout_s=1)
    assert [status.state for status in seen[-3:]] == [
        EngineState.DRAINING,
        EngineState.STOPPING,
        EngineState.STOPPED,
    ]


async def test_a_first_start_that_fails_is_raised_and_not_repeated(manager: EngineManager) -> None:
    factory = Factory(1)
    with pytest.raises(EngineStartFailed, match="start 1 fails"):
        await manager.load("m", factory)
    assert manager.status().state is EngineState.FAILED
    assert "start 1 fails" in str(manager.status().error)
    await manager.unload(drain_timeout_s=1, stop_timeout_s=1)
    assert (manager.status().state, len(factory.made)) == (EngineState.STOPPED, 1)


async def test_a_dead_engine_is_restarted_with_growing_pauses(manager: EngineManager, pauses: Pauses) -> None:
    factory = Factory(2, 3)
    await manager.load("m", factory)
    await factory.made[0].die("killed by SIGKILL")
    await until(lambda: len(factory.made) == 4 and manager.status().state is EngineState.READY)
    assert pauses.seconds == [1, 2, 4]
    assert manager.status().restarts == 3
    assert factory.made[0].stopped
    assert manager.ready()[0] is factory.made[3]
    await manager.unload(drain_timeout_s=1, stop_timeout_s=1)


async def test_a_lost_engine_is_not_ready_and_says_why(manager: EngineManager) -> None:
    factory = Factory()
    await manager.load("m", factory)
    seen: list[EngineStatus] = []
    manager.on_change(seen.append)
    await factory.made[0].die("killed by SIGKILL")
    await until(lambda: any(status.state is EngineState.FAILED for status in seen))
    failed = next(status for status in seen if status.state is EngineState.FAILED)
    assert (failed.model_id, failed.info) == ("m", None)
    assert "killed by SIGKILL" in str(failed.error)
    await until(lambda: manager.status().state is EngineState.READY)
    await manager.unload(drain_timeout_s=1, stop_timeout_s=1)


async def test_unload_while_a_restart_pauses_ends_it(pauses: Pauses) -> None:
    forever = asyncio.Event()

    async def sleep(_seconds: float) -> None:
        await forever.wait()

    manager = EngineManager(start_timeout_s=5, sleep=sleep)
    factory = Factory()
    await manager.load("m", factory)
    await factory.made[0].die()
    await until(lambda: manager.status().state is EngineState.FAILED)
    await manager.unload(drain_timeout_s=1, stop_timeout_s=1)
    assert (manager.status().state, len(factory.made)) == (EngineState.STOPPED, 1)


async def test_two_loads_at_once_are_a_mistake(manager: EngineManager) -> None:
    await manager.load("m", Factory())
    with pytest.raises(RuntimeError, match="loaded already"):
        await manager.load("n", Factory())
    await manager.unload(drain_timeout_s=1, stop_timeout_s=1)


def test_the_backoff_doubles_up_to_its_most() -> None:
    backoff = Backoff(first_s=0.25, most_s=3)
    assert [backoff.pause_s(attempt) for attempt in range(1, 7)] == [0.25, 0.5, 1, 2, 3, 3]
