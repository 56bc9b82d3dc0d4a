"""A real box for the tests: the installed ``r1box`` command, its daemon as a process, the tiny R1 as its model."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
from openai import AsyncOpenAI

FIXTURES = Path(__file__).parent.parent / "fixtures" / "tiny_r1"
TINY_R1 = FIXTURES / "gguf" / "Tiny-R1-Q8_0.gguf"
R1BOX = Path(sys.executable).parent / "r1box"
START_TIMEOUT_S = 120


@dataclass(frozen=True)
class Golden:
    """A prompt whose answer at temperature 0 is known to the letter."""

    id: str
    kind: str
    messages: list[dict[str, Any]]
    reasoning: str
    content: str
    completion_tokens: int


def goldens(*kinds: str) -> list[Golden]:
    """Known prompts of these kinds that need neither tools nor a prefill."""
    entries = json.loads((FIXTURES / "prompts.json").read_text())["prompts"]
    return [
        Golden(e["id"], e["kind"], e["messages"], e["reasoning"], e["content"], e["completion_tokens"])
        for e in entries
        if e["kind"] in kinds and "tools" not in e and "prefill" not in e and e["content"] is not None
    ]


def loops() -> list[list[dict[str, Any]]]:
    """Messages on which the model thinks for ever."""
    entries = json.loads((FIXTURES / "prompts.json").read_text())["prompts"]
    return [entry["messages"] for entry in entries if entry["kind"] == "loop"]


class Home:
    """State folder and model store of one box."""

    def __init__(self, folder: Path) -> None:
        self.state_dir = folder / "state"
        self.models_dir = folder / "models"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("R1BOX_")},
            "R1BOX_STATE_DIR": str(self.state_dir),
            "R1BOX_MODELS_DIR": str(self.models_dir),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "COLUMNS": "200",
        }

    def run(
        self, *arguments: str, check: bool = True, input_text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run one command to its end, with ``input_text`` at its standard input."""
        result = subprocess.run(
            [str(R1BOX), *arguments],
            env=self.environment,
            input=input_text,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if check:
            assert result.returncode == 0, result.stderr
        return result

    def import_model(self, file: Path = TINY_R1) -> str:
        """Import a model; the result is its id."""
        return str(json.loads(self.run("models", "import", str(file), "--json").stdout)["id"])

    def create_key(self, name: str, *options: str) -> str:
        """A new API key, which may everything unless ``options`` say otherwise."""
        options = options or ("--scope", "all")
        return self.run("keys", "create", name, "--quiet", *options).stdout.strip()


class Box:
    """A running daemon. Made by ``start_box``."""

    def __init__(self, process: subprocess.Popen[str], key: str) -> None:
        self.process = process
        self.key = key
        self.errors: list[str] = []
        self.output: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=(process.stderr, self.errors), daemon=True),
            threading.Thread(target=self._read, args=(process.stdout, self.output), daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        self.url = ""

    @staticmethod
    def _read(stream: Any, lines: list[str]) -> None:
        lines.extend(line.rstrip("\n") for line in stream)

    def wait_listening(self) -> None:
        """Return when the address is known."""
        self.url = self.wait_until(lambda: _find(r"Listening on (https?://\S+)", self.errors))

    def wait_ready(self) -> None:
        """Return when ``/readyz`` says so."""

        def ready() -> bool:
            try:
                return httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200
            except httpx.TransportError:
                return False

        self.wait_until(ready)

    def wait_until(self, condition: Any) -> Any:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not (value := condition()):
            assert self.process.poll() is None, "\n".join(self.errors)
            assert time.monotonic() < deadline, "\n".join(self.errors)
            threading.Event().wait(0.02)
        return value

    def client(self, **options: Any) -> AsyncOpenAI:
        """The official client, which must not hide an error by trying again."""
        return AsyncOpenAI(base_url=f"{self.url}/v1", api_key=self.key, max_retries=0, timeout=60, **options)

    def post(self, body: Any, *, key: str | None = None, path: str = "/v1/chat/completions") -> httpx.Response:
        """A plain POST; ``body`` is JSON, or raw bytes."""
        headers = {"Authorization": f"Bearer {key or self.key}", "Content-Type": "application/json"}
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return httpx.post(f"{self.url}{path}", content=content, headers=headers, timeout=60)

    def readyz(self) -> dict[str, Any]:
        """Body of ``/readyz``."""
        return dict(httpx.get(f"{self.url}/readyz", timeout=5).json())

    def worker(self) -> psutil.Process:
        """The one worker process."""
        workers = [
            child
            for child in psutil.Process(self.process.pid).children(recursive=True)
            if "appliance.engine.llamacpp.worker" in " ".join(child.cmdline())
        ]
        assert len(workers) == 1, workers
        return workers[0]

    def stop(self) -> int:
        """End it as systemd does; the result is its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        returncode = self.process.wait(timeout=30)
        for reader in self._readers:
            reader.join(timeout=5)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        return returncode


PACED_R1BOX = (sys.executable, "-m", "tests.fakes.paced_box")
"""The command with an engine that writes without a model, R1BOX_BENCH_TOKENS_PER_S tokens a second."""


def start_box(
    home: Home,
    *arguments: str,
    key: str = "",
    wait: bool = True,
    policy: str = "free",
    command: Sequence[str] = (str(R1BOX),),
) -> Box:
    """Start ``r1box serve`` on a free port with one engine thread: other tests may run on the other core.

    Clients are free to ask for temperature 0, the goldens' one, unless ``policy`` is ``clamp``, as it is by default.
    """
    process = subprocess.Popen(
        [*command, "serve", "--port", "0", "--threads", "1", *arguments],
        env={**home.environment, "R1BOX_SAMPLING_POLICY": policy},
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    box = Box(process, key)
    try:
        box.wait_listening()
        if wait:
            box.wait_ready()
    except BaseException:
        process.kill()
        box.stop()
        raise
    return box


def _find(pattern: str, lines: list[str]) -> str | None:
    for line in lines:
        if match := re.search(pattern, line):
            return match.group(1)
    return None


@dataclass
class Answer:
    """A streamed answer put together. ``order`` numbers the arrivals over all streams that share a counter."""

    reasoning: str = ""
    content: str = ""
    finish_reason: str | None = None
    usage: Any = None
    first: int | None = None
    last: int = 0


async def stream(
    client: AsyncOpenAI, model: str, messages: list[dict[str, Any]], arrivals: list[int] | None = None, **options: Any
) -> Answer:
    """One streamed answer at temperature 0."""
    answer = Answer()
    chunks: Any = await client.chat.completions.create(
        model=model,
        messages=messages,  # type: ignore[arg-type]
        stream=True,
        stream_options={"include_usage": True},
        **{"temperature": 0, **options},
    )
    async for chunk in chunks:
        if arrivals is not None:
            arrivals.append(len(arrivals))
            answer.first = arrivals[-1] if answer.first is None else answer.first
            answer.last = arrivals[-1]
        answer.usage = chunk.usage or answer.usage
        if chunk.choices:
            delta = chunk.choices[0].delta
            answer.reasoning += getattr(delta, "reasoning_content", None) or ""
            answer.content += delta.content or ""
            answer.finish_reason = chunk.choices[0].finish_reason or answer.finish_reason
    return answer


async def gather(*awaitables: Any) -> list[Any]:
    """All results; a failure is a result too."""
    return list(await asyncio.gather(*awaitables, return_exceptions=True))
