"""The daemon's side of llama.cpp: starts the worker, speaks its protocol, hands out events."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import structlog

from appliance.engine.base import EngineInfo, EngineStats, Feature, ProgressCallback
from appliance.engine.llamacpp import messages as wire
from appliance.engine.llamacpp.load_log import measured_bytes, read_placement
from appliance.engine.llamacpp.sequence import BATCH, INTERACTIVE
from appliance.engine.llamacpp.wire_values import finished_of, sampling_of, thinking_of
from appliance.engine.process import LOG_LINES, SupervisedProcess, describe_exit, engine_environment
from appliance.engine.request import (
    Finished,
    FinishReason,
    GenerationEvent,
    GenerationRequest,
    Priority,
    TextSegment,
    TokenDelta,
    TokenLogprob,
)
from appliance.engine.shares import BoxShares, Share
from appliance.errors import EngineLost, EngineStartFailed

_log = structlog.get_logger(__name__)


def worker_command(socket_number: int) -> list[str]:
    """How a worker is started; a frozen executable takes Python's words for it too."""
    return [sys.executable, "-m", "appliance.engine.llamacpp.worker", str(socket_number)]


FEW_THREADS = 8
OWN_END_S = 3.0
"""How long a worker that has closed its connection may take to be gone."""

STOP_MARGIN_S = 1.0
"""Of the time that a worker has to end so much is not for writing chats to disk."""

_PRIORITIES = {Priority.INTERACTIVE: INTERACTIVE, Priority.BATCH: BATCH}


def _waiting(threads: int) -> dict[str, str]:
    """How long llama.cpp's OpenMP threads spin for each other before they sleep.

    GNU's default is to spin for milliseconds: a thread whose core another program holds for a moment then stalls all
    the others with theirs. Measured with SmolLM2, 4 streams, 2 threads on 2 cores of which one is busy: 31 tokens/s
    with the default, 60 with 1,000 turns; without the other program 164 and 163. With many threads sleeping costs
    more than it saves, so there the default stays.
    """
    return {"GOMP_SPINCOUNT": "1000"} if threads <= FEW_THREADS else {}


class LlamaCppEngine:
    """One model in one worker process. Implements ``appliance.engine.base.Engine``."""

    def __init__(
        self,
        config: wire.WorkerConfig,
        *,
        environment: Mapping[str, str] | None = None,
        shares: BoxShares | None = None,
        on_processor: bool = True,
    ) -> None:
        """``environment`` is added to what the worker sees: which devices it may use. ``config`` is what it was
        started with, in the end. Of threads and room for idle chats the worker uses what ``shares`` leaves it beside
        other models, all that ``config`` says without; ``on_processor``: it computes there."""
        self.config = config
        self._shares = shares or BoxShares()
        self._on_processor = on_processor
        self._member = 0
        self._environment = {**_waiting(config.threads), **engine_environment(os.environ), **(environment or {})}
        self._process: SupervisedProcess | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[wire.Ready] | None = None
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._streams: dict[str, asyncio.Queue[wire.Output | None]] = {}
        self._calls: dict[int, asyncio.Future[list[int]]] = {}
        self._call_id = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._counters = wire.Counters()
        self._on_progress: ProgressCallback | None = None

    # -- life -------------------------------------------------------------------------------------------------------

    async def start(self, timeout_s: float, on_progress: ProgressCallback | None = None) -> EngineInfo:
        """Start the worker and load. Raises EngineStartFailed; nothing is left running then."""
        self._on_progress = on_progress
        try:
            ready = await self._start_once(self.config, timeout_s)
        except _WorkerCrashed as crash:
            if not self.config.extra_buffers:
                raise crash.failure() from None
            # Kernels for repacked weights are chosen at run time; where they crash the plain ones still work.
            _log.warning("worker crashed while starting; trying without repacked weights", cause=crash.cause)
            plain = msgspec.structs.replace(self.config, extra_buffers=False)
            try:
                ready = await self._start_once(plain, timeout_s)
            except _WorkerCrashed as second:
                raise second.failure() from None
            self.config = plain
        self._shares.set_busy(self._member, busy=False)
        lines = self._process.log_tail(LOG_LINES) if self._process is not None else ()
        measured = await asyncio.to_thread(measured_bytes, Path(self.config.model_path), lines)
        if ready.draft_problem:
            _log.warning("the draft model is not used", cause=ready.draft_problem)
        return EngineInfo(
            engine="llama.cpp",
            build=ready.build,
            backends=ready.backends,
            seats=ready.seats,
            context_tokens=ready.seat_context,
            vocabulary_size=ready.vocabulary_size,
            longest_token_bytes=ready.longest_token_bytes,
            model_bytes=ready.model_bytes,
            measured_bytes=measured,
            placement=read_placement(lines),
            features=frozenset({Feature.STRUCTURE, Feature.TOKEN_GRAMMAR, Feature.LOGPROBS, Feature.THINKING}),
        )

    async def _start_once(self, config: wire.WorkerConfig, timeout_s: float) -> wire.Ready:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = await SupervisedProcess.start(
                    worker_command(theirs.fileno()),
                    environment=self._environment,
                    pass_fds=(theirs.fileno(),),
                )
            except OSError as error:
                ours.close()
                raise EngineStartFailed(cause=f"the worker cannot be started: {error}") from error
        reader, self._writer = await asyncio.open_unix_connection(sock=ours)
        self._ready = asyncio.get_running_loop().create_future()
        self._reading = asyncio.create_task(self._read(reader), name="llama.cpp worker messages")
        alone = Share(config.threads, config.tier_memory_bytes, config.tier_disk_bytes)
        self._member, share = self._shares.join(alone, self._use, on_processor=self._on_processor)
        self._send(wire.Load(_within(config, share)))
        try:
            return await asyncio.wait_for(asyncio.shield(self._ready), timeout_s)
        except TimeoutError:
            tail = self._process.log_tail()
            await self.stop(timeout_s=5)
            raise EngineStartFailed(
                cause=f"it was not ready after {timeout_s:.0f} s", log_tail=tail, cause_code="start_timeout"
            ) from None
        except BaseException:
            await self.stop(timeout_s=5)
            raise

    async def stop(self, timeout_s: float) -> None:
        """End the worker; requests that still run get their ending. Idempotent."""
        if self._process is None:
            return
        with suppress(EngineLost):
            self._send(wire.Shutdown(save_s=max(0.0, timeout_s - STOP_MARGIN_S)))
        if self._process.returncode is None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), timeout_s)
        await self._process.stop(timeout_s=2)
        if self._reading is not None:
            await asyncio.wait({self._reading})
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    async def drain(self, timeout_s: float) -> None:
        """Wait until no request runs, at most ``timeout_s``."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout_s)

    async def wait_lost(self) -> str:
        """Return the cause when the worker has ended."""
        return await asyncio.shield(self._lost)

    # -- requests ---------------------------------------------------------------------------------------------------

    async def tokenize(self, segments: Sequence[TextSegment], *, add_bos: bool) -> list[int]:
        """Token ids of the segments in order. Raises EngineLost."""
        self._call_id += 1
        call_id = self._call_id
        future: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        self._calls[call_id] = future
        try:
            self._send(wire.Tokenize(call_id, [(segment.text, segment.trusted) for segment in segments], add_bos))
            return await future
        finally:
            del self._calls[call_id]

    async def generate(self, request: GenerationRequest) -> AsyncIterator[GenerationEvent]:
        """Events of one request. Closing the iterator early aborts the request."""
        outputs: asyncio.Queue[wire.Output | None] = asyncio.Queue()
        self._streams[request.request_id] = outputs
        self._idle.clear()
        self._shares.set_busy(self._member, busy=True)
        ended = False
        structure = request.structure
        try:
            self._send(
                wire.Generate(
                    request.request_id,
                    list(request.prompt_tokens),
                    request.max_tokens,
                    sampling_of(request.sampling),
                    request.owner,
                    _PRIORITIES[request.priority],
                    None if structure is None else wire.Structure(structure.kind.value, structure.text),
                    request.logprobs,
                    None if request.thinking is None else thinking_of(request.thinking),
                    request.answer_tokens,
                    request.sampling.seed is not None,
                    request.keeps_answer,
                )
            )
            while not ended:
                output = await outputs.get()
                if output is None:
                    raise EngineLost
                if output.text or output.count:
                    yield TokenDelta(output.text, output.count, tuple(TokenLogprob(*one) for one in output.logprobs))
                if output.finish is not None:
                    ended = True
                    yield finished_of(output)
        except EngineLost as lost:
            ended = True
            yield Finished(reason=FinishReason.ERROR, error=lost)
        finally:
            self._streams.pop(request.request_id, None)
            if not self._streams:
                self._idle.set()
                self._shares.set_busy(self._member, busy=False)
            if not ended:
                with suppress(EngineLost):
                    self._send(wire.Abort(request.request_id))

    async def abort(self, request_id: str) -> None:
        """End a request soon. Idempotent."""
        with suppress(EngineLost):
            self._send(wire.Abort(request_id))

    async def answer_now(self, request_id: str) -> None:
        """End a request's thought soon. Idempotent."""
        with suppress(EngineLost):
            self._send(wire.AnswerNow(request_id))

    def stats(self) -> EngineStats:
        """Counters of the last step."""
        return EngineStats(
            **msgspec.structs.asdict(self._counters),
            pid=self._process.pid if self._process else None,
            log_tail=self._process.log_tail() if self._process else (),
        )

    # -- messages ---------------------------------------------------------------------------------------------------

    def _use(self, share: Share) -> None:
        """The worker's share has changed."""
        with suppress(EngineLost):
            self._send(wire.Share(share.threads, share.chat_memory_bytes, share.chat_disk_bytes))

    def _send(self, message: wire.ToWorker) -> None:
        if self._writer is None or self._writer.is_closing() or self._lost.done():
            raise EngineLost
        self._writer.write(wire.encode_frame(message))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        """Take messages until the worker ends, then give everything that waits its ending."""
        assert self._process is not None
        assert self._ready is not None
        failed: wire.LoadFailed | None = None
        try:
            while True:
                header = await reader.readexactly(wire.HEADER_BYTES)
                message = wire.from_worker_decoder.decode(await reader.readexactly(wire.frame_length(header)))
                if isinstance(message, wire.LoadFailed):
                    failed = message
                else:
                    self._take(message)
        except (asyncio.IncompleteReadError, ConnectionError):
            # It is ending by itself: its own exit code says more than the signal that would be sent now.
            with suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), OWN_END_S)
        except (wire.FrameError, ValueError) as error:
            _log.error("the worker sent something that is no message", error=str(error))
            failed = failed or wire.LoadFailed("worker_protocol", f"the worker cannot be understood: {error}")
        returncode = await self._process.stop(timeout_s=10)
        self._shares.leave(self._member)
        cause = describe_exit(returncode)
        if not self._ready.done():
            self._fail_start(failed, returncode)
        elif not self._lost.done():
            self._lost.set_result(cause)
        for outputs in self._streams.values():
            outputs.put_nowait(None)
        for call in self._calls.values():
            if not call.done():
                call.set_exception(EngineLost())

    def _take(self, message: wire.FromWorker) -> None:
        match message:
            case wire.Step():
                self._counters = message.counters
                for output in message.outputs:
                    if (outputs := self._streams.get(output.request_id)) is not None:
                        outputs.put_nowait(output)
            case wire.Tokens():
                if (call := self._calls.get(message.call_id)) is not None and not call.done():
                    call.set_result(message.tokens)
            case wire.LoadProgress():
                if self._on_progress is not None:
                    self._on_progress(message.fraction)
            case wire.Ready():
                assert self._ready is not None
                self._ready.set_result(message)
            case wire.Hello():
                if message.protocol != wire.PROTOCOL:
                    raise wire.FrameError(f"protocol {message.protocol}, not {wire.PROTOCOL}")

    def _fail_start(self, failed: wire.LoadFailed | None, returncode: int) -> None:
        assert self._process is not None
        assert self._ready is not None
        tail = self._process.log_tail()
        if failed is not None:
            cause = _cause_in_log(tail) or failed.message
            self._ready.set_exception(EngineStartFailed(cause=cause, log_tail=tail, cause_code=failed.code))
        else:
            self._ready.set_exception(_WorkerCrashed(describe_exit(returncode), tail))


def _within(config: wire.WorkerConfig, share: Share) -> wire.WorkerConfig:
    return msgspec.structs.replace(
        config,
        threads=share.threads,
        tier_memory_bytes=share.chat_memory_bytes,
        tier_disk_bytes=share.chat_disk_bytes,
    )


class _WorkerCrashed(Exception):
    """The worker ended without saying why."""

    def __init__(self, cause: str, log_tail: tuple[str, ...]) -> None:
        super().__init__(cause)
        self.cause = cause
        self.log_tail = log_tail

    def failure(self) -> EngineStartFailed:
        hint = " (often: out of memory; see the kernel log)" if self.cause.endswith("SIGKILL") else ""
        return EngineStartFailed(
            cause=f"the worker ended while loading, {self.cause}{hint}",
            log_tail=self.log_tail,
            cause_code="worker_crashed",
        )


def _cause_in_log(lines: tuple[str, ...]) -> str | None:
    """llama.cpp's own reason for a failed load: the last line that names an error."""
    for line in reversed(lines):
        if "error loading model:" in line:
            return line.partition("error loading model:")[2].strip()
    return None
