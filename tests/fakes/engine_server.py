"""A server that speaks vLLM's protocol, or MindIE's, as a process of its own, and does what goes wrong on demand.

``python -m tests.fakes.engine_server PROTOCOL FOLDER FAULTS ARGUMENTS...``: FOLDER has the tokenizer that it reads
prompts with, FAULTS is JSON of ``Faults``, ARGUMENTS are the engine's own. Shapes: vLLM's
``entrypoints/openai/completion/protocol.py`` and its start-up log; MindIE's token interface and configuration file.

The "model" is a function of the prompt's text: see ``words_for``. What it thinks ends in ``</think>`` when the prompt
is inside a thought.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

ENDLESS = "count for ever"
LONG_THOUGHT = "think long"
STRUCTURED = '{"ok": true}'
ANSWER = "Paris is the capital of France."
THOUGHT = "I know that. "


@dataclass(frozen=True)
class Faults:
    """What goes wrong. ``*_at`` are counts of tokens in one answer, -1 for never."""

    never_ready: bool = False
    unhealthy_after: int = -1
    """Answers after which health is no longer answered."""
    die_at_start: str = ""
    """Lines of log before it ends with exit code 1."""
    die_at: int = -1
    hang_at: int = -1
    garbage_at: int = -1
    break_at: int = -1
    error_at: int = -1
    endless_event_at: int = -1
    no_ids: bool = False
    text_only: bool = False
    prompt_tokens_off: int = 0
    completion_tokens_off: int = 0
    refuse: int = 0
    close_kept: bool = False
    """Closes a kept connection without an answer when a request comes on it."""
    tokens_per_event: int = 1
    start_log: tuple[str, ...] = ()
    orphan: bool = False
    """Has a child that outlives it, in its group."""
    other_model: str = ""
    max_model_len: int = 0
    pace_s: float = 0.0
    """Seconds between two tokens, as an engine's steps take; for benchmarks, tests have no clock."""
    spares: int = 0
    """So many answers are right before an answer goes wrong."""


@dataclass
class State:
    """What the server remembers; tests ask for it with GET /seen."""

    answers: int = 0
    running: int = 0
    aborted: int = 0
    bodies: list[dict[str, Any]] = field(default_factory=list)


def words_for(prompt: str) -> str:
    """All that the model says after the prompt's text, without what it says there already."""
    turn = prompt.rsplit("<｜Assistant｜>", 1)[-1]
    inside = "<think>" in turn and "</think>" not in turn
    answer = ANSWER
    if ENDLESS in prompt:
        answer = " again and again" * 2000
    thought = (THOUGHT * (400 if LONG_THOUGHT in prompt else 3)) if inside else ""
    return (thought + "\n</think>\n\n" if inside else "") + answer


class FakeServer:
    """One server. ``context`` as --max-model-len said, None when nothing did."""

    def __init__(self, protocol: str, folder: Path, faults: Faults, model: str, key: str, context: int) -> None:
        self._protocol = protocol
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._eos = json.loads((folder / "config.json").read_text())["eos_token_id"]
        self._faults = faults
        self._model = model
        self._key = key
        self._context = context
        self.state = State()
        self.stuck = False
        """A rank of several is lost."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            first = True
            while (head := await _head(reader)) is not None:
                method, path, headers = head
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                if self._faults.close_kept and not first and method == "POST":
                    return
                first = False
                await self._answer(method, path, headers, body, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    async def _answer(
        self, method: str, path: str, headers: dict[str, str], body: bytes,
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter,
    ) -> None:  # fmt: skip
        faults = self._faults
        if path in ("/health", "/v2/health/ready"):
            if 0 <= faults.unhealthy_after <= self.state.answers:
                await asyncio.Event().wait()
            _send(writer, 503 if faults.never_ready else 200, b"")
        elif path == "/seen":
            _send(writer, 200, json.dumps(vars(self.state)).encode())
        elif path == "/version":
            _send(writer, 200, b'{"version":"0.99.0+fake"}')
        elif path == "/metrics":
            _send(writer, 200, self._metrics().encode())
        elif path.startswith("/v1") and self._key and headers.get("authorization") != f"Bearer {self._key}":
            _send(writer, 401, b'{"error":"Unauthorized"}')
        elif path == "/v1/models":
            one = {"id": faults.other_model or self._model, "max_model_len": faults.max_model_len or self._context}
            _send(writer, 200, json.dumps({"object": "list", "data": [one]}).encode())
        elif method == "POST" and path in ("/v1/completions", "/infer_token"):
            await self._generate(json.loads(body), reader, writer)
        elif method == "POST" and path == "/v1/chat/completions":
            asked = json.loads(body)
            asked["prompt"] = f"<｜User｜>{asked['messages'][-1]['content']}<｜Assistant｜>"
            await self._generate(asked, reader, writer)
        else:
            _send(writer, 404, b'{"detail":"Not Found"}')

    async def _generate(
        self, asked: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.state.bodies.append(asked)
        if self._faults.refuse and self.state.answers >= self._faults.spares:
            message = {"error": {"message": "prompt_logprobs is not a fruit", "type": "BadRequestError"}}
            _send(writer, self._faults.refuse, json.dumps(message).encode())
            self.state.answers += 1
            return
        self.state.running += 1
        ended = asyncio.create_task(reader.read(1))
        telling = asyncio.create_task(self._tell(asked, writer))
        done, _ = await asyncio.wait({ended, telling}, return_when=asyncio.FIRST_COMPLETED)
        self.state.running -= 1
        self.state.answers += 1
        left = telling not in done or isinstance(telling.exception(), ConnectionError)
        telling.cancel()
        ended.cancel()
        await asyncio.wait({ended, telling})
        if left:
            self.state.aborted += self._faults.break_at < 0
            raise ConnectionResetError
        telling.result()

    async def _tell(self, asked: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        said = self._vllm(asked) if self._protocol == "vllm" else self._mindie(asked)
        async for data in said:
            if isinstance(data, str):
                data = data.encode()
            writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    def _ids(self, asked: dict[str, Any]) -> tuple[list[int], list[int], str]:
        """Prompt, what is said, why it ends."""
        prompt = asked.get("prompt", asked.get("input_id"))
        ids = self._tokenizer.encode(prompt, add_special_tokens=False).ids if isinstance(prompt, str) else prompt
        text = self._tokenizer.decode(ids, skip_special_tokens=False)
        words = STRUCTURED if asked.get("structured_outputs") else words_for(text)
        if not asked.get("structured_outputs"):
            turn = text.rsplit("<｜Assistant｜>", 1)[-1]
            said = turn.rsplit("</think>", 1)[-1].lstrip("\n") if "</think>" in turn else ""
            words = words.removeprefix(said) if said and words.startswith(said) else words
        tokens = [*self._tokenizer.encode(words, add_special_tokens=False).ids, self._eos]
        most = asked.get("max_tokens", asked.get("parameters", {}).get("max_new_tokens"))
        return ids, tokens[:most], "length" if len(tokens) > most else "stop"

    async def _paced(self, tokens: Sequence[int]) -> AsyncIterator[tuple[int, list[int]]]:
        """Tokens in the events' portions, with what goes wrong between them."""
        step = self._faults.tokens_per_event
        faults = self._faults if self.state.answers >= self._faults.spares else Faults()
        for place in range(0, len(tokens), step):
            await asyncio.sleep(faults.pace_s)
            if self.stuck:
                await asyncio.Event().wait()
            if 0 <= faults.die_at <= place:
                os._exit(70)
            if 0 <= faults.hang_at <= place:
                await asyncio.Event().wait()
            if 0 <= faults.break_at <= place:
                raise ConnectionResetError
            yield place, list(tokens[place : place + step])

    async def _vllm(self, asked: dict[str, Any]) -> AsyncIterator[str | bytes]:
        prompt, tokens, reason = self._ids(asked)
        faults = self._faults if self.state.answers >= self._faults.spares else Faults()
        async for place, part in self._paced(tokens):
            if 0 <= faults.garbage_at <= place:
                yield b"\xff\xfe<html>502 Bad Gateway</html>\n\n"
                return
            if 0 <= faults.error_at <= place:
                yield 'data: {"error": {"message": "CUDA error: an illegal memory access", "code": 500}}\n\n'
                return
            if 0 <= faults.endless_event_at <= place:
                yield b"data: " + b"x" * (9 * 1024 * 1024)
                return
            is_last = place + len(part) >= len(tokens)
            choice: dict[str, Any] = {
                "index": 0,
                "text": self._tokenizer.decode([t for t in part if t != self._eos], skip_special_tokens=False),
                "logprobs": self._logprobs(asked, part),
                "finish_reason": reason if is_last else None,
            }
            if not faults.no_ids and not faults.text_only:
                choice["token_ids"] = part
            if "messages" in asked:
                choice["delta"] = {"content": choice.pop("text")}
            yield f"data: {json.dumps({'id': 'cmpl-1', 'choices': [choice]})}\n\n"
        usage = {
            "prompt_tokens": len(prompt) + faults.prompt_tokens_off,
            "completion_tokens": len(tokens) + faults.completion_tokens_off,
            "prompt_tokens_details": {"cached_tokens": len(prompt) // 16 * 16 if self.state.answers else 0},
        }
        yield f"data: {json.dumps({'id': 'cmpl-1', 'choices': [], 'usage': usage})}\n\n"
        yield "data: [DONE]\n\n"

    def _logprobs(self, asked: dict[str, Any], part: Iterable[int]) -> dict[str, Any] | None:
        wanted = asked.get("logprobs")
        if wanted is None:
            return None
        tops = [
            {f"token_id:{t}": -0.1, **{f"token_id:{t - one - 1}": -3.0 - one for one in range(wanted)}} for t in part
        ]
        return {
            "tokens": [f"token_id:{t}" for t in part],
            "token_logprobs": [-0.1 for _ in part],
            "top_logprobs": tops,
        }

    async def _mindie(self, asked: dict[str, Any]) -> AsyncIterator[str | bytes]:
        _, tokens, reason = self._ids(asked)
        async for place, part in self._paced(tokens):
            if 0 <= self._faults.garbage_at <= place:
                yield "Engine callback timeout.\n\n"
                return
            said: dict[str, Any] = {
                "prefill_time": 45.5 if place == 0 else None,
                "decode_time": None if place == 0 else 17.0,
                "token": {"id": part, "text": self._tokenizer.decode(part)},
            }
            if place + len(part) >= len(tokens):
                ending = "eos_token" if reason == "stop" else "length"
                said |= {
                    "generated_text": self._tokenizer.decode(tokens),
                    "details": {"finish_reason": ending, "generated_tokens": len(tokens), "seed": 1},
                }
            yield f"data: {json.dumps(said)}\n\n"

    def _metrics(self) -> str:
        engine = f'engine="0",model_name="{self._model}"'
        return (
            "# HELP vllm:num_requests_waiting Number of requests waiting.\n"
            f"vllm:num_requests_waiting{{{engine}}} 0.0\n"
            f"vllm:kv_cache_usage_perc{{{engine}}} 0.25\n"
            f"vllm:num_preemptions_total{{{engine}}} 3.0\n"
            f'vllm:cache_config_info{{block_size="16",engine="0",num_gpu_blocks="100"}} 1.0\n'
            f"vllm:iteration_tokens_total_count{{{engine}}} {self.state.answers}.0\n"
        )


async def _head(reader: asyncio.StreamReader) -> tuple[str, str, dict[str, str]] | None:
    line = await reader.readline()
    if not line:
        return None
    method, path, _ = line.decode().split()
    headers = {}
    while (line := await reader.readline()).strip():
        name, _, value = line.decode().partition(":")
        headers[name.strip().lower()] = value.strip()
    return method, path, headers


def _send(writer: asyncio.StreamWriter, status: int, body: bytes) -> None:
    writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)


async def _gather(options: argparse.Namespace, server: FakeServer) -> None:
    """Rank 0 of several: answers when all ranks have come; when one of them is lost it computes nothing any more, and
    neither says so nor ends, as real ones may."""
    come = asyncio.Semaphore(0)

    async def rank(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        come.release()
        await reader.read()
        server.stuck = True

    await asyncio.start_server(rank, options.master_addr, options.master_port)
    for _ in range(options.nnodes - 1):
        await come.acquire()


async def _headless(options: argparse.Namespace) -> None:
    """Another rank: comes to rank 0, and computes until that is lost."""
    print(f"headless rank {options.node_rank}", flush=True)
    reader, _ = await asyncio.open_connection(options.master_addr, options.master_port)
    await reader.read()
    print("RuntimeError: Connection closed by peer", file=sys.stderr, flush=True)
    sys.exit(1)


def _vllm_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="api_server.py")
    for name in (
        "--model", "--served-model-name", "--uds", "--kv-cache-dtype", "--dtype", "--scheduling-policy",
        "--structured-outputs-config", "--gpu-memory-utilization", "--distributed-executor-backend", "--chat-template",
        "--quantization", "--compilation-config", "--master-addr",
    ):  # fmt: skip
        parser.add_argument(name)
    for name in (
        "--max-model-len", "--max-num-seqs", "--max-num-batched-tokens", "--tensor-parallel-size",
        "--data-parallel-size", "--port", "--nnodes", "--node-rank", "--master-port", "--pipeline-parallel-size",
    ):  # fmt: skip
        parser.add_argument(name, type=int)
    for name in (
        "--enable-prefix-caching", "--enable-prompt-tokens-details", "--disable-uvicorn-access-log",
        "--enable-expert-parallel", "--enforce-eager", "--headless",
    ):  # fmt: skip
        parser.add_argument(name, action="store_true")
    return parser.parse_args(arguments)


async def run(protocol: str, folder: Path, faults: Faults, arguments: list[str]) -> None:
    """Serve until told to stop."""
    if protocol == "vllm":
        options = _vllm_arguments(arguments)
        if options.headless:
            await _headless(options)
            return
        key = os.environ.get("VLLM_API_KEY", "")
        server = FakeServer(protocol, folder, faults, options.served_model_name, key, options.max_model_len)
        print("INFO 11-22 09:00:00 [api_server.py:100] vLLM API server version 0.99.0+fake", flush=True)
    else:
        config = json.loads(Path(os.environ["MIES_CONFIG_JSON_PATH"]).read_text())
        deployed = config["BackendConfig"]["ModelDeployConfig"]
        model = deployed["ModelConfig"][0]["modelName"]
        server = FakeServer(protocol, folder, faults, model, "", deployed["maxSeqLen"])
    for line in faults.start_log:
        print(line.replace("%KEY%", os.environ.get("VLLM_API_KEY", "")), flush=True)
    if faults.die_at_start:
        print(faults.die_at_start, file=sys.stderr, flush=True)
        sys.exit(1)
    if faults.orphan:
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", "import signal; signal.pause()")
        print("orphan", child.pid, flush=True)
    if protocol == "vllm" and options.nnodes is not None:
        await _gather(options, server)
    if protocol == "vllm":
        if options.port is None:
            listening: list[asyncio.Server] = [await asyncio.start_unix_server(server.serve, options.uds)]
        else:
            listening = [await asyncio.start_server(server.serve, "127.0.0.1", options.port)]
        print("INFO:     Application startup complete.", flush=True)
    else:
        ports = [config["ServerConfig"][name] for name in ("port", "managementPort", "metricsPort")]
        listening = [await asyncio.start_server(server.serve, "127.0.0.1", port) for port in ports]
        print("Daemon start success!", flush=True)
    await asyncio.gather(*(one.serve_forever() for one in listening))


def main(arguments: list[str]) -> None:
    """See the module's docstring."""
    protocol, folder, faults, *rest = arguments
    said = json.loads(faults)
    said["start_log"] = tuple(said.get("start_log", ()))
    asyncio.run(run(protocol, Path(folder), Faults(**said), rest))


if __name__ == "__main__":
    main(sys.argv[1:])
