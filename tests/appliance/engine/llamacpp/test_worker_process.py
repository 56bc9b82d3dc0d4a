"""The worker as a process, with the test in the daemon's place."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from appliance.engine.llamacpp import messages as wire
from appliance.engine.llamacpp.engine import worker_command
from appliance.engine.llamacpp.worker import EXIT_LOAD_FAILED

MODEL = Path(__file__).parents[3] / "fixtures" / "tiny_r1" / "gguf" / "Tiny-R1-Q8_0.gguf"
TIMEOUT_S = 60


class Daemon:
    """Our end of the connection."""

    def __init__(self, connection: socket.socket, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.connection = connection
        self._reader: IO[bytes] = connection.makefile("rb")

    def send(self, message: wire.ToWorker) -> None:
        self.connection.sendall(wire.encode_frame(message))

    def receive(self) -> wire.FromWorker:
        header = self._reader.read(wire.HEADER_BYTES)
        return wire.from_worker_decoder.decode(self._reader.read(wire.frame_length(header)))

    def receive_until(self, kind: type) -> list[wire.FromWorker]:
        messages = [self.receive()]
        while not isinstance(messages[-1], kind):
            messages.append(self.receive())
        return messages

    def leave(self) -> None:
        """What the kernel does for a daemon that dies."""
        self._reader.close()
        self.connection.close()


@contextmanager
def worker(model: Path = MODEL) -> Iterator[Daemon]:
    ours, theirs = socket.socketpair()
    ours.settimeout(TIMEOUT_S)
    with theirs:
        process = subprocess.Popen(
            worker_command(theirs.fileno()), pass_fds=(theirs.fileno(),), stderr=subprocess.DEVNULL
        )
    daemon = Daemon(ours, process)
    try:
        assert daemon.receive() == wire.Hello(wire.PROTOCOL, process.pid)
        daemon.send(wire.Load(wire.WorkerConfig(model_path=str(model), seats=2, seat_context=512, threads=1)))
        yield daemon
    finally:
        daemon.leave()
        process.kill()
        process.wait()


def generate(daemon: Daemon) -> None:
    daemon.send(wire.Generate("r", [5, 6, 7], 400, wire.Sampling(seed=1, temperature=0.0, logit_bias=((1, -100.0),))))


def test_it_loads_with_progress_answers_and_ends_when_told() -> None:
    with worker() as daemon:
        loading = daemon.receive_until(wire.Ready)
        fractions = [message.fraction for message in loading if isinstance(message, wire.LoadProgress)]
        assert fractions == sorted(fractions)
        assert fractions[-1] == 1.0
        daemon.send(wire.Tokenize(7, [("Hello", True)], add_bos=False))
        answer = daemon.receive_until(wire.Tokens)[-1]
        assert isinstance(answer, wire.Tokens)
        assert (answer.call_id, len(answer.tokens) > 0) == (7, True)
        generate(daemon)
        assert daemon.receive_until(wire.Step)
        daemon.send(wire.Shutdown())
        assert daemon.process.wait(TIMEOUT_S) == 0


@pytest.mark.parametrize("busy", [False, True])
def test_it_ends_when_the_daemon_is_gone(busy: bool) -> None:
    with worker() as daemon:
        daemon.receive_until(wire.Ready)
        if busy:
            generate(daemon)
            daemon.receive_until(wire.Step)
        daemon.leave()
        assert daemon.process.wait(TIMEOUT_S) == 0


def test_it_ends_on_something_that_is_no_message() -> None:
    with worker() as daemon:
        daemon.receive_until(wire.Ready)
        daemon.connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert daemon.process.wait(TIMEOUT_S) == 0


def test_a_model_that_cannot_be_loaded_is_told_and_ends_it(tmp_path: Path) -> None:
    file = tmp_path / "no.gguf"
    file.write_bytes(b"GGUF")
    with worker(file) as daemon:
        failed = daemon.receive_until(wire.LoadFailed)[-1]
        assert isinstance(failed, wire.LoadFailed)
        assert failed.code == "model_load_failed"
        assert daemon.process.wait(TIMEOUT_S) == EXIT_LOAD_FAILED
