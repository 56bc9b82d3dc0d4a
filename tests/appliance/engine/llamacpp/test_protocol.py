"""The protocol between daemon and worker under bad conditions: other versions, noise, aborts, ends at any byte."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.llamacpp import engine as engine_module
from appliance.engine.llamacpp import messages as wire
from appliance.engine.llamacpp.engine import LlamaCppEngine
from appliance.engine.llamacpp.worker import Channel
from appliance.errors import EngineStartFailed
from tests.appliance.engine.llamacpp.test_worker import Collected, ScriptedRunner, generate
from tests.fakes import odd_worker

CONFIG = wire.WorkerConfig(model_path="", seats=1, seat_context=64, threads=1)


def odd(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Let the daemon start a worker that goes wrong in this way."""

    def command(number: int) -> list[str]:
        return [sys.executable, str(Path(odd_worker.__file__)), str(number), kind]

    monkeypatch.setattr(engine_module, "worker_command", command)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("version", r"protocol 999, not \d+"),
        ("noise", "cannot be understood"),
        ("huge", "a frame of 4,294,967,295 bytes was announced"),
        ("silent-end", "the worker ended while loading, exit code 0"),
    ],
)
async def test_a_worker_that_cannot_be_understood_is_ended_and_said_so(
    monkeypatch: pytest.MonkeyPatch, kind: str, words: str
) -> None:
    odd(monkeypatch, kind)
    engine = LlamaCppEngine(CONFIG)
    with pytest.raises(EngineStartFailed, match=words):
        await engine.start(30)
    assert engine._process is not None
    assert engine._process.returncode is not None


async def test_noise_from_a_worker_that_was_ready_ends_its_requests_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from appliance.engine.request import Finished, FinishReason, GenerationRequest, SamplingParams

    odd(monkeypatch, "noise-later")
    engine = LlamaCppEngine(CONFIG)
    await engine.start(30)
    request = GenerationRequest(request_id="a", prompt_tokens=(1,), max_tokens=3, sampling=SamplingParams())
    events = [event async for event in engine.generate(request)]
    assert [type(event) for event in events] == [Finished]
    assert events[0].reason is FinishReason.ERROR  # type: ignore[union-attr]
    assert "killed by" in await asyncio.wait_for(engine.wait_lost(), 30)
    await engine.stop(5)


@given(data=st.binary(max_size=200))
def test_whatever_comes_is_a_message_an_end_or_refused(data: bytes) -> None:
    """A worker never takes noise for a message, never reads beyond what was announced, never waits for more than is
    there."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(data)
        ours.shutdown(socket.SHUT_WR)
        channel = Channel(theirs)
        try:
            while (message := channel.receive()) is not None:
                assert isinstance(message, wire.ToWorker)
        except wire.FrameError:
            pass


@given(cut=st.integers(0, 60))
def test_a_message_that_is_cut_off_is_no_message(cut: int) -> None:
    frame = wire.encode_frame(wire.Tokenize(1, [("some text", False)], add_bos=True))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(frame[: min(cut, len(frame) - 1)])
        ours.shutdown(socket.SHUT_WR)
        channel = Channel(theirs)
        with suppress(wire.FrameError):
            assert channel.receive() is None


def test_an_abort_that_comes_during_a_step_is_answered_before_the_next_one() -> None:
    """The runner computes no token of a sequence after the step in which its abort came."""
    from appliance.engine.llamacpp.step import StepPlan, StepResult
    from appliance.engine.llamacpp.worker import Worker

    sent = Collected()
    worker: Worker

    class AbortsInStep(ScriptedRunner):
        aborted_in: int | None = None

        def run(self, plan: StepPlan) -> StepResult:
            result = super().run(plan)
            if len(self.plans) == 5:
                self.aborted_in = len(sent.of("a"))
                worker.inbox.put(wire.Abort("a"))
            if len(self.plans) == 12:
                worker.inbox.put(wire.Shutdown())
            return result

    runner = AbortsInStep()
    worker = Worker(wire.WorkerConfig(model_path="", seats=2, seat_context=64, threads=1), runner, sent)
    worker.inbox.put(generate("a", 50))
    worker.inbox.put(generate("b", 50))
    worker.run()
    after = [entry.request_id for plan in runner.plans[5:] for entry in plan.work]
    assert "a" not in after
    assert "b" in after
    assert sent.of("a")[-1].finish == "aborted"


def test_a_daemon_that_does_not_read_holds_the_worker_and_loses_nothing() -> None:
    """The worker stops at a full socket rather than collect outputs without bound; all of them come when it is read."""
    ours, theirs = socket.socketpair()
    for connection in (ours, theirs):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    count, text = 2_000, "x" * 100
    done = threading.Event()

    def write() -> None:
        channel = Channel(theirs)
        for number in range(count):
            channel.send(wire.Step([wire.Output("a", f"{number}{text}", 1)], wire.Counters()))
        done.set()

    writer = threading.Thread(target=write, daemon=True)
    with ours, theirs:
        writer.start()
        reader = ours.makefile("rb")
        assert not done.is_set()  # some hundred kB do not fit
        read: Callable[[], wire.FromWorker] = lambda: wire.from_worker_decoder.decode(  # noqa: E731
            reader.read(wire.frame_length(reader.read(wire.HEADER_BYTES)))
        )
        for number in range(count):
            message = read()
            assert isinstance(message, wire.Step)
            assert message.outputs[0].text == f"{number}{text}"
        writer.join(10)
        reader.close()
    assert done.is_set()
