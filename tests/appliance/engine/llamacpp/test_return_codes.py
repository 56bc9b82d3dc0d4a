"""What ``llama_decode`` returns under a real worker: 1, 2 and -1 provoked in the library, fatal codes in its place.

``test_fatal_codes.py`` has these from the library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llama_cpp
import pytest

from appliance.engine.llamacpp import messages as wire
from appliance.engine.llamacpp.runner import Runner
from appliance.engine.llamacpp.worker import EXIT_FATAL_STEP, Worker

MODEL = Path(__file__).parents[3] / "fixtures" / "tiny_r1" / "gguf" / "Tiny-R1-Q8_0.gguf"
SEATS, CONTEXT = 3, 256


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    config = wire.WorkerConfig(model_path=str(MODEL), seats=SEATS, seat_context=CONTEXT, threads=1, draft_tokens=0)
    made = Runner(config, lambda _fraction: None)
    made.warm_up()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def empty(runner: Runner) -> None:
    llama_cpp.llama_memory_clear(runner._memory, True)
    runner._samplers.clear()


class Collected:
    """Keeps what a worker sends, and ends it when so many requests have ended."""

    def __init__(self, requests: int) -> None:
        self.left = requests
        self.texts: dict[str, str] = {}
        self.endings: dict[str, list[str]] = {}
        self.preemptions = 0
        self.worker: Worker | None = None
        self.on_step: Callable[[], None] = lambda: None

    def send(self, message: wire.FromWorker) -> None:
        assert isinstance(message, wire.Step)
        assert self.worker is not None
        self.preemptions = message.counters.preemptions
        for output in message.outputs:
            self.texts[output.request_id] = self.texts.get(output.request_id, "") + output.text
            if output.finish is not None:
                self.endings.setdefault(output.request_id, []).append(output.finish)
                self.left -= 1
        if self.left == 0:
            self.worker.inbox.put(wire.Shutdown())
        self.on_step()


def work(runner: Runner, prompts: dict[str, list[int]], prepare: Callable[[Collected], None]) -> tuple[int, Collected]:
    """A worker with these requests; ``prepare`` arranges what goes wrong."""
    sent = Collected(len(prompts))
    config = wire.WorkerConfig(model_path="", seats=SEATS, seat_context=CONTEXT, threads=1, draft_tokens=0)
    sent.worker = worker = Worker(config, runner, sent)
    for name, prompt in prompts.items():
        sampling = wire.Sampling(seed=1, temperature=0.0, logit_bias=((1, -100.0),))
        worker.inbox.put(wire.Generate(name, prompt, 12, sampling))
    prepare(sent)
    code = worker.run()
    worker.scheduler.check_integrity()
    return code, sent


def prompts(count: int = SEATS) -> dict[str, list[int]]:
    return {f"r{n}": [30 + (n * 37 + i * 7) % 900 for i in range(60)] for n in range(count)}


def steal(runner: Runner, stolen: int) -> None:
    """Fill so many cells with a sequence that no slot is."""
    for start in range(0, stolen, 256):
        count = min(256, stolen - start)
        batch = llama_cpp.llama_batch_init(count, 0, 1)
        batch.n_tokens = count
        for i in range(count):
            batch.token[i], batch.pos[i], batch.n_seq_id[i] = 7, start + i, 1
            batch.seq_id[i][0], batch.logits[i] = runner.slots, 0
        assert llama_cpp.llama_decode(runner._context, batch) == 0
        llama_cpp.llama_batch_free(batch)


def test_1_no_room_preempts_and_loses_nothing(runner: Runner) -> None:
    """Cells that the scheduler knows nothing of are taken in llama.cpp, as if it had counted wrong."""
    _, plain = work(runner, prompts(), lambda _: None)
    llama_cpp.llama_memory_clear(runner._memory, True)
    code, sent = work(runner, prompts(), lambda _: steal(runner, SEATS * CONTEXT - 100))
    assert (code, sent.texts) == (0, plain.texts)
    assert {one for ends in sent.endings.values() for one in ends} == {"length"}
    assert sent.preemptions > 0


def test_1_without_any_room_is_an_error_at_last(runner: Runner) -> None:
    code, sent = work(runner, prompts(), lambda _: steal(runner, SEATS * CONTEXT - 50))
    assert (code, sent.endings) == (0, {name: ["error"] for name in prompts()})


def test_2_an_aborted_step_ends_its_requests_and_the_worker_goes_on(runner: Runner) -> None:
    aborts = [False]
    callback = llama_cpp.ggml_abort_callback(lambda _data: aborts[0])
    llama_cpp.llama_set_abort_callback(runner._context, callback, None)

    def prepare(sent: Collected) -> None:
        def on_step() -> None:
            aborts[0] = len(sent.texts.get("r0", "")) > 0 and not sent.endings

        sent.on_step = on_step

    try:
        code, sent = work(runner, prompts(SEATS + 1), prepare)
    finally:
        llama_cpp.llama_set_abort_callback(runner._context, llama_cpp.ggml_abort_callback(), None)
    assert code == 0
    # Those of the step end with an error, the one that waited for a seat is answered.
    assert sent.endings == {"r0": ["error"], "r1": ["error"], "r2": ["error"], "r3": ["length"]}


def test_minus_1_an_invalid_batch_ends_its_request_alone(runner: Runner) -> None:
    bad = {"bad": [10**6, 1, 2]}
    code, sent = work(runner, bad, lambda _: None)
    assert (code, sent.endings) == (0, {"bad": ["error"]})
    code, sent = work(runner, prompts(), lambda _: None)
    assert (code, {one for ends in sent.endings.values() for one in ends}) == (0, {"length"})


@pytest.mark.parametrize("returned", [-2, -3])
def test_a_fatal_code_ends_the_worker_after_its_requests_were_told(
    runner: Runner, returned: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode: Callable[[Any, Any], int] = llama_cpp.llama_decode
    calls = [0]

    def breaks(context: Any, batch: Any) -> int:
        calls[0] += 1
        return returned if calls[0] == 3 else decode(context, batch)

    monkeypatch.setattr(llama_cpp, "llama_decode", breaks)
    code, sent = work(runner, prompts(), lambda _: None)
    assert code == EXIT_FATAL_STEP
    assert sent.endings == {name: ["error"] for name in prompts()}
