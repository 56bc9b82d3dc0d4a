"""The servers that the engine's benchmarks ask: R1 Box and its peers, each with the same model, threads and seats.

Peers are given by the environment, because none of them is a dependency of the project:

- ``R1BOX_BENCH_LLAMA_SERVER``: the ``llama-server`` built from the source that the installed llama-cpp-python carries
  (docs/engine.md says how);
- ``R1BOX_BENCH_XLLAMACPP``: a Python that has ``xllamacpp`` installed.

``llama_cpp.server`` comes with the tests' own dependencies.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import httpx

from appliance.demo import demo_file
from tests.bench.load import Target
from tests.bench.test_serving import start_box
from tests.e2e.box import Box, Home

SEATS = 8
SEAT_CONTEXT = 2048
START_TIMEOUT_S = 120
ANSWERS_ALL_TOKENS = {"logit_bias": {"0": -100, "2": -100}}
"""SmolLM2's end tokens, for servers that take a bias: every answer then has all its tokens."""

Start = Callable[[], AbstractContextManager[Target]]


@dataclass(frozen=True, slots=True)
class Server:
    """A name for the tables and how to start it."""

    name: str
    start: Start


def threads() -> str:
    """As many threads as there are cores, for everyone."""
    return str(os.cpu_count() or 1)


def ours(home: Home, *arguments: str, name: str = "R1 Box", boxes: list[Box] | None = None) -> Server:
    """The daemon as an operator starts it. The running box is put into ``boxes``, for its counters."""

    @contextmanager
    def start() -> Iterator[Target]:
        model = home.import_model(demo_file())
        key = home.create_key(f"bench-{time.monotonic_ns()}")
        box = start_box(home, "--seats", str(SEATS), "--context", str(SEAT_CONTEXT), *arguments, key=key)
        try:
            box.wait_ready()
            host, port = box.url.removeprefix("http://").split(":")
            if boxes is not None:
                boxes.append(box)
            yield Target(name, host, int(port), model, key, ANSWERS_ALL_TOKENS)
        finally:
            box.stop()

    return Server(name, start)


def llama_server(flags: Sequence[str] = (), *, name: str) -> Server | None:
    """``llama-server`` with 8 slots of one seat's context each, and more flags; None when it was not given."""
    binary = os.environ.get("R1BOX_BENCH_LLAMA_SERVER")
    if binary is None:
        return None
    total = SEATS * SEAT_CONTEXT
    command = [binary, "--model", str(demo_file()), "--threads", threads(), "--threads-batch", threads()]
    command += ["--ctx-size", str(total), "--parallel", str(SEATS), *flags]
    return Server(name, _starter(command, name, {"ignore_eos": True}, path="/health"))


def llama_cpp_server(*, name: str = "llama_cpp.server") -> Server:
    """The server of llama-cpp-python, which answers one request at a time."""
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(demo_file()), "--n_ctx", str(SEAT_CONTEXT)]
    command += ["--n_threads", threads(), "--n_threads_batch", threads(), "--interrupt_requests", "false"]
    return Server(name, _starter(command, name, ANSWERS_ALL_TOKENS, path="/v1/models"))


_XLLAMACPP = """
import sys, threading
import xllamacpp
model, threads, seats, context, port = sys.argv[1], *map(int, sys.argv[2:])
params = xllamacpp.CommonParams()
params.model.path = model
params.n_parallel = seats
params.n_ctx = seats * context
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
params.hostnames, params.port = ["127.0.0.1"], port
server = xllamacpp.Server(params)
threading.Event().wait()
"""


def xllamacpp_server(*, name: str = "xllamacpp") -> Server | None:
    """xllamacpp's server: llama-server as a Python module, built from llama.cpp of another day; None when not given."""
    python = os.environ.get("R1BOX_BENCH_XLLAMACPP")
    if python is None:
        return None
    command = [python, "-c", _XLLAMACPP, str(demo_file()), threads(), str(SEATS), str(SEAT_CONTEXT)]
    return Server(name, _starter(command, name, {"ignore_eos": True}, path="/health", port_flag=None))


def _starter(
    command: Sequence[str], name: str, extra: dict[str, object], *, path: str, port_flag: str | None = "--port"
) -> Start:
    @contextmanager
    def start() -> Iterator[Target]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        words = [*command, *([port_flag] if port_flag else []), str(port)]
        with tempfile.TemporaryFile() as log:
            process = subprocess.Popen(words, stdout=log, stderr=log)
            try:
                _wait_until_ready(f"http://127.0.0.1:{port}{path}", process)
                yield Target(name, "127.0.0.1", port, "any", extra=dict(extra))
            finally:
                process.terminate()
                process.wait(timeout=30)

    return start


def _wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            if httpx.get(url, timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert process.poll() is None, f"{process.args} ended with {process.returncode}"
        assert time.monotonic() < deadline, f"{process.args} was not ready in {START_TIMEOUT_S} s"
        threading.Event().wait(0.1)
