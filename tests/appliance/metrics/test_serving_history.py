"""The hour of serving: rates from counters that fall and come, in buckets that keep their places."""

from __future__ import annotations

from dataclasses import replace

from appliance.engine.base import EngineState, EngineStats, EngineStatus
from appliance.errors import ModelNotReady
from appliance.metrics.serving_history import EVERY_S, ServingRecorder
from appliance.serving.admission import Admission
from tests.fakes.engine import FAKE_INFO, FakeEngine


class Counting(FakeEngine):
    """Has generated what a test wants."""

    tokens = 0

    def stats(self) -> EngineStats:
        return replace(super().stats(), generated_tokens=self.tokens)


class Engines:
    """Some engines by model."""

    def __init__(self) -> None:
        self.ready_ones: dict[str, Counting] = {"a": Counting()}

    def statuses(self) -> dict[str, EngineStatus]:
        return {name: EngineStatus(state=EngineState.READY) for name in ("a", "b")}

    def ready(self, model_id: str) -> tuple[Counting, object]:
        if model_id not in self.ready_ones:
            raise ModelNotReady(reason="it is not loaded.")
        return self.ready_ones[model_id], FAKE_INFO


class Queues:
    """One queue with one seat."""

    def __init__(self) -> None:
        self.queue = Admission(seats=1, max_waiting=5)

    def all(self) -> dict[str, Admission]:
        return {"a": self.queue}


def test_rates_running_and_waiting() -> None:
    engines, queues, now = Engines(), Queues(), [1000.0]
    recorder = ServingRecorder(engines, queues, lambda: now[0])  # type: ignore[arg-type]

    def read(**tokens: int) -> None:
        for name, count in tokens.items():
            engines.ready_ones.setdefault(name, Counting()).tokens = count
        recorder.read()
        now[0] += EVERY_S

    read(a=1000)
    assert set(recorder.history(3600, 60).tokens_per_s) == {None}
    queues.queue.enter()
    queues.queue.enter()
    read(a=1100, b=7000)  # what b counted before it was seen is no speed
    read(a=20, b=7030)  # a was started anew
    told = recorder.history(30, 6)
    assert (told.step_s, told.now_tokens_per_s) == (EVERY_S, 15.0)
    assert told.tokens_per_s[-3:-1] == (20.0, 10.0)
    assert (told.running[-2], told.waiting[-2]) == (1.0, 1.0)
    del engines.ready_ones["a"]
    read(b=7030)
    assert recorder.history(3600, 10).tokens_per_s[-1] == 10.0
    for _ in range(1000):
        read(b=7030)
    whole = recorder.history(3600, 720)
    assert len(whole.tokens_per_s) == 720
    assert set(whole.tokens_per_s[:-1]) == {0.0}
