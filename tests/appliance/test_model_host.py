"""Loads, swaps and unloads over a machine whose memory is counted, and a state machine that tries everything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from appliance.engine.base import EngineState
from appliance.errors import EngineStartFailed, ModelNotReady
from models.errors import TooLarge
from tests.appliance.hosts import HostBox
from tests.appliance.serving.box import turns


@pytest.fixture
async def box() -> AsyncIterator[HostBox]:
    """A card of 20 GiB; the default of 8, and others."""
    made = HostBox()
    for name, size in (("main", 8), ("a", 10), ("b", 10), ("small", 2), ("huge", 30)):
        made.add(name, size)
    yield made
    await made.host.aclose()
    assert made.held == set()


async def until(condition: object) -> None:
    async with asyncio.timeout(5):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.001)


async def test_models_that_fit_live_side_by_side(box: HostBox) -> None:
    await box.host.boot("main")
    await box.host.load("a")
    await box.host.load("small")
    assert box.states() == {"main": "ready", "a": "ready", "small": "ready"}
    assert box.host.status().model_id == "main"
    assert {one.model_id for one in box.host.engines()} == {"main", "a", "small"}
    assert set(box.host.served) == {"main", "a", "small"}
    assert box.host.ready("a")[0] is box.engine("a")


async def test_a_request_swaps_and_the_default_stays(box: HostBox) -> None:
    await box.host.boot("main")
    await box.host.bring_up("a")
    await box.host.bring_up("b")
    assert box.states() == {"main": "ready", "b": "ready"}
    assert box.engine("a").stopped
    with pytest.raises(TooLarge):
        await box.host.bring_up("huge")
    assert box.states() == {"main": "ready", "b": "ready", "huge": "failed"}


async def test_a_failed_load_is_not_tried_for_every_request(box: HostBox) -> None:
    box.start_errors["a"] = EngineStartFailed(cause="no luck")
    with pytest.raises(EngineStartFailed):
        await box.host.bring_up("a")
    with pytest.raises(EngineStartFailed):
        await box.host.bring_up("a")
    assert len(box.engines["a"]) == 1
    assert (box.host.status("a").state, box.host.status("a").error) == (
        EngineState.FAILED, "The model could not be loaded: no luck",
    )  # fmt: skip
    box.now_s += 60
    await box.host.bring_up("a")
    assert box.states() == {"a": "ready"}


async def test_a_swap_waits_for_answers_and_for_the_memory(box: HostBox) -> None:
    box.lag = 5
    await box.host.boot("main")
    await box.host.load("a")
    ticket = box.admissions.of("a").enter()
    loading = asyncio.create_task(box.host.bring_up("b"))
    await until(lambda: "a" not in box.host.served)
    await turns(50)
    assert not box.engine("a").stopped
    assert "b" not in box.engines
    # Who has its seat goes on; who comes now waits until the model is back.
    box.host.ready("a")
    assert await box.host.must_load("a")
    ticket.release()
    await loading
    assert box.states() == {"main": "ready", "b": "ready"}


async def test_requests_share_one_load_and_are_bounded(box: HostBox) -> None:
    box.gate.clear()
    waiting = [asyncio.create_task(box.host.bring_up("a")) for _ in range(3)]
    await until(lambda: box.host.progress("a") == 0.5)
    with pytest.raises(ModelNotReady, match="3 requests wait for that already"):
        await box.host.bring_up("a")
    waiting[0].cancel()
    box.gate.set()
    await asyncio.wait(waiting)
    assert [task.cancelled() for task in waiting] == [True, False, False]
    assert len(box.engines["a"]) == 1
    assert box.host.progress("a") is None


async def test_while_the_box_starts_nobody_is_kept_waiting(box: HostBox) -> None:
    box.gate.clear()
    booting = asyncio.create_task(box.host.boot("main"))
    await until(lambda: box.host.status().load_fraction == 0.5)
    with pytest.raises(ModelNotReady, match="50 %"):
        await box.host.bring_up("main")
    box.gate.set()
    await booting


async def test_an_engine_that_dies_takes_no_other_with_it(box: HostBox) -> None:
    await box.host.boot("main")
    await box.host.load("a")
    box.used -= box.sizes["a"]
    await box.engine("a").die()
    assert box.host.ready("main")
    await until(lambda: len(box.engines["a"]) == 2 and box.host.status("a").state is EngineState.READY)
    assert box.host.status("a").restarts == 1
    assert len(box.engines["main"]) == 1


async def test_unload_ends_a_load_under_way(box: HostBox) -> None:
    box.gate.clear()
    loading = asyncio.create_task(box.host.load("a"))
    await until(lambda: box.host.progress("a") == 0.5)
    await box.host.unload("a", drain_timeout_s=0)
    with pytest.raises(asyncio.CancelledError):
        await loading
    assert (box.states(), box.used) == ({}, 0)


async def test_another_default(box: HostBox) -> None:
    await box.host.boot("main")
    await box.host.load("a")
    await box.host.activate("b")
    assert (box.host.default_id, box.default) == ("b", "b")
    assert box.states() == {"a": "ready", "b": "ready"} or box.states() == {"main": "ready", "b": "ready"}
    with pytest.raises(TooLarge):
        await box.host.activate("huge")
    assert (box.host.default_id, box.default) == ("b", "b")


async def test_the_first_model_that_comes_to_a_running_box_is_its_default() -> None:
    made = HostBox()
    assert (await made.host.entries()).models == ()
    made.add("first", 8)
    made.set_default("first")
    made.add("second", 2)
    assert [(one.id, one.default) for one in (await made.host.entries()).models] == [("first", True), ("second", False)]
    made.set_default("second")  # by the command line: of a running box only the API changes it
    assert list(await made.host.installed()) == ["first", "second"]
    await made.host.bring_up("first")
    assert made.host.status().model_id == "first"
    await made.host.aclose()


async def test_operators_see_all_models(box: HostBox) -> None:
    await box.host.boot("main")
    await box.host.load("small", pin=True)
    entries = {entry.id: entry for entry in (await box.host.entries()).models}
    assert set(entries) == set(box.sizes)
    assert (entries["main"].default, entries["main"].pinned, entries["main"].state) == (True, True, "ready")
    assert (entries["small"].default, entries["small"].pinned) == (False, True)
    assert (entries["a"].state, entries["a"].seats) == ("installed", None)
    assert entries["main"].planned_bytes == 8 * 1024**3
    assert next(iter(await box.host.installed())) == "main"


async def test_requests_may_be_kept_from_loading() -> None:
    box = HostBox(load_on_request="off")
    box.add("main", 8)
    box.add("a", 8)
    await box.host.boot("main")
    with pytest.raises(ModelNotReady, match="'a' is not loaded"):
        await box.host.bring_up("a")
    assert list(await box.host.installed()) == ["main"]
    await box.host.bring_up("nowhere")
    fit = HostBox(load_on_request="fit")
    for name in ("main", "a", "b"):
        fit.add(name, 10)
    await fit.host.boot("main")
    await fit.host.bring_up("a")
    with pytest.raises(TooLarge):
        await fit.host.bring_up("b")
    await asyncio.gather(box.host.aclose(), fit.host.aclose())


async def test_models_that_nobody_asks_for_leave() -> None:
    box = HostBox(idle_unload_s=60)
    for name in ("main", "a"):
        box.add(name, 8)
    await box.host.boot("main")
    await box.host.load("a")
    ticket = box.admissions.of("a").enter()
    box.host.start()
    start_s = box.now_s
    await until(lambda: box.now_s > start_s + 200)
    assert box.states() == {"main": "ready", "a": "ready"}
    ticket.release()
    await until(lambda: box.states() == {"main": "ready"})
    await box.host.aclose()


class AnyOrder(RuleBasedStateMachine):
    """Loads, requests, unloads, deaths and swaps in any order: memory is never over-committed (the fake engine checks
    it when it starts), no file stays held, the default never leaves, and what is ready is what is served."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()

    def run(self, action: object) -> object:
        async def bounded() -> object:
            async with asyncio.timeout(20):
                try:
                    return await action  # type: ignore[misc]
                except (TooLarge, ModelNotReady, EngineStartFailed):
                    return None

        return self.loop.run_until_complete(bounded())

    @initialize(sizes=st.lists(st.integers(1, 14), min_size=3, max_size=5), lag=st.integers(0, 3))
    def begin(self, sizes: list[int], lag: int) -> None:
        async def make() -> None:
            self.box = HostBox(lag=lag)
            for number, size in enumerate(sizes):
                self.box.add(f"m{number}", size)
            await self.box.host.boot("m0")

        self.run(make())

    @rule(number=st.integers(0, 4))
    def request(self, number: int) -> None:
        self.run(self.box.host.bring_up(f"m{number % len(self.box.sizes)}"))

    @rule(numbers=st.lists(st.integers(0, 4), min_size=2, max_size=4))
    def requests_at_once(self, numbers: list[int]) -> None:
        async def all_of_them() -> None:
            names = [f"m{number % len(self.box.sizes)}" for number in numbers]
            await asyncio.gather(*(self.box.host.bring_up(name) for name in names), return_exceptions=True)

        self.run(all_of_them())

    @rule(number=st.integers(1, 4))
    def unload(self, number: int) -> None:
        self.run(self.box.host.unload(f"m{1 + number % (len(self.box.sizes) - 1)}", drain_timeout_s=1))

    @rule(number=st.integers(0, 4))
    def fail_next(self, number: int) -> None:
        self.box.start_errors[f"m{number % len(self.box.sizes)}"] = EngineStartFailed(cause="told to fail")

    @rule()
    def time_passes(self) -> None:
        self.box.now_s += 60

    @precondition(lambda self: self.box.host.served)
    @rule(number=st.integers(0, 4))
    def die(self, number: int) -> None:
        """The engine comes back by itself; what it held is taken again."""
        name = sorted(self.box.host.served)[number % len(self.box.host.served)]

        async def kill() -> None:
            before = len(self.box.engines[name])
            self.box.start_errors.pop(name, None)
            self.box.used -= self.box.sizes[name]
            self.box.engine(name).stopped = True
            await self.box.engine(name).die()
            await until(
                lambda: len(self.box.engines[name]) > before and self.box.host.status(name).state is EngineState.READY
            )

        self.run(kill())

    @invariant()
    def is_sane(self) -> None:
        if not hasattr(self, "box"):
            return
        box = self.box
        ready = {name for name, state in box.states().items() if state == "ready"}
        assert ready == set(box.host.served) == box.held
        assert box.used - box.owed == sum(box.sizes[name] for name in ready) <= box.total
        assert "m0" in ready

    def teardown(self) -> None:
        if hasattr(self, "box"):
            self.run(self.box.host.aclose())
            assert self.box.held == set()
        self.loop.close()


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = hypothesis_settings(max_examples=25, stateful_step_count=15, deadline=None)
