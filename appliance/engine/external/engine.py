"""An engine that is an HTTP server. Implements ``appliance.engine.base.Engine``."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from appliance.engine.base import EngineInfo, EngineStats, ProgressCallback
from appliance.engine.external.connection import Connection, Refused, Unreachable
from appliance.engine.external.dialect import Call, CannotAsk, NotUnderstood
from appliance.engine.external.launch import Timeouts
from appliance.engine.external.metrics import ServerMetrics, read_metrics
from appliance.engine.external.sequence import RequestRun, Then
from appliance.engine.external.server import Server
from appliance.engine.external.sse import Event, SseError, SseReader
from appliance.engine.external.startup import served_context, server_build, wait_healthy
from appliance.engine.external.vocabulary import Vocabulary
from appliance.engine.request import (
    Finished,
    FinishReason,
    GenerationEvent,
    GenerationRequest,
    SamplingParams,
    TextSegment,
)
from appliance.errors import AppError, EngineBusy, EngineCannotDo, EngineLost, GenerationFailed

_log = structlog.get_logger(__name__)

_PROBE_TEXT = "Hello"
_STOP_S = 10.0
USAGE_S = 2.0
"""How long a server may take to tell its counts after an answer's end."""

END_NOTICED_S = 0.5
"""How long the end of a process may take to be known after its connections broke."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalSpec:
    """What is to be known of a served model beside its server. ``folder`` has its tokenizer; ``backends`` name what
    computes, as in ``EngineInfo``; ``weights_bytes`` is what its files hold."""

    engine: str
    folder: Path
    seats: int
    context_tokens: int
    backends: tuple[str, ...]
    weights_bytes: int | None = None


@dataclass
class _Running:
    """One request: what it is, where its events go, and who reads the server's answer."""

    run: RequestRun
    events: asyncio.Queue[GenerationEvent]
    reader: asyncio.Task[None] | None = None
    closed: bool = False


class ExternalEngine:
    """One model behind one server. For one event loop."""

    def __init__(self, server: Server, spec: ExternalSpec, *, timeouts: Timeouts | None = None) -> None:
        self._server = server
        self._spec = spec
        self._timeouts = timeouts or Timeouts()
        self._connection: Connection | None = None
        self._vocabulary: Vocabulary | None = None
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._running: dict[str, _Running] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._companions: list[asyncio.Task[None]] = []
        self._generated_tokens = self._prompt_tokens = self._cached_tokens = 0
        self._metrics = ServerMetrics()
        self._warned_of_counts = False

    # -- life -------------------------------------------------------------------------------------------------------

    async def start(self, timeout_s: float, on_progress: ProgressCallback | None = None) -> EngineInfo:
        """Start the server, wait until it answers, and try it. Raises EngineStartFailed; nothing is left then."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._start(on_progress)
        except TimeoutError:
            failure = self._server.failure(f"it was not ready after {timeout_s:.0f} s")
            failure.cause_code = "start_timeout"
            await self.stop(timeout_s=_STOP_S)
            raise failure from None
        except BaseException:
            await self.stop(timeout_s=_STOP_S)
            raise

    async def _start(self, on_progress: ProgressCallback | None) -> EngineInfo:
        self._vocabulary = await asyncio.to_thread(Vocabulary.open, self._spec.folder)
        await self._server.start(on_progress or (lambda fraction: None))
        self._connection = Connection(self._server.endpoint, self._timeouts)
        await wait_healthy(self._server, self._connection, self._timeouts)
        context_tokens = await served_context(self._server, self._connection, self._spec.context_tokens)
        build = await server_build(self._server, self._connection)
        await self._try_it()
        self._companions = [
            asyncio.create_task(self._watch(), name="engine server's end"),
            asyncio.create_task(self._watch_health(), name="engine server's health"),
        ]
        if self._server.endpoint.dialect.metrics_path is not None:
            self._companions.append(asyncio.create_task(self._scrape(), name="engine server's metrics"))
        return EngineInfo(
            engine=self._spec.engine,
            build=build,
            backends=self._spec.backends,
            seats=self._spec.seats,
            context_tokens=context_tokens,
            vocabulary_size=self._vocabulary.size,
            longest_token_bytes=self._vocabulary.longest_token_bytes,
            model_bytes=self._spec.weights_bytes,
            features=self._server.endpoint.dialect.features,
        )

    async def stop(self, timeout_s: float) -> None:
        """End all requests and the server. Idempotent."""
        for companion in self._companions:
            companion.cancel()
        if self._companions:
            await asyncio.wait(self._companions)
            self._companions = []
        for running in list(self._running.values()):
            self._finish(running, FinishReason.ABORTED)
        if self._connection is not None:
            await self._connection.aclose()
        await self._server.stop(timeout_s)

    async def drain(self, timeout_s: float) -> None:
        """Wait until no request runs, at most ``timeout_s``."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout_s)

    async def wait_lost(self) -> str:
        """Return the cause when the server has ended, or no longer answers."""
        return await asyncio.shield(self._lost)

    # -- requests ---------------------------------------------------------------------------------------------------

    async def tokenize(self, segments: Sequence[TextSegment], *, add_bos: bool) -> list[int]:
        """Token ids of the segments in order. Raises EngineLost."""
        vocabulary = self._vocabulary
        if vocabulary is None or self._lost.done():
            raise EngineLost
        tokens = await asyncio.to_thread(vocabulary.encode, segments)
        begin = vocabulary.bos if add_bos else None
        return tokens if begin is None else [begin, *tokens]

    async def generate(self, request: GenerationRequest) -> AsyncIterator[GenerationEvent]:
        """Events of one request. Closing the iterator early ends it at the server."""
        if self._vocabulary is None or self._connection is None or self._lost.done():
            yield Finished(reason=FinishReason.ERROR, error=EngineLost())
            return
        seed = request.sampling.seed
        run = RequestRun(
            request,
            self._vocabulary,
            seed=secrets.randbits(31) if seed is None else seed & 0x7FFFFFFF,
            model=self._server.endpoint.model,
            with_text=not self._server.endpoint.dialect.gives_tokens,
        )
        running = _Running(run, asyncio.Queue())
        self._running[request.request_id] = running
        self._idle.clear()
        running.reader = asyncio.create_task(self._read(running), name=f"answer {request.request_id}")
        try:
            while True:
                event = await running.events.get()
                yield event
                if isinstance(event, Finished):
                    return
        finally:
            # Once only: a second one would interrupt the closing of the connection, and the server would go on.
            self._finish(running, FinishReason.ABORTED)
            await asyncio.wait({running.reader})
            if self._running.get(request.request_id) is running:
                del self._running[request.request_id]
            if not self._running:
                self._idle.set()

    async def abort(self, request_id: str) -> None:
        """End a request soon. Idempotent."""
        if (running := self._running.get(request_id)) is not None:
            self._finish(running, FinishReason.ABORTED)

    async def answer_now(self, request_id: str) -> None:
        """End a request's thought soon. Idempotent."""
        if (running := self._running.get(request_id)) is not None:
            running.run.ask()

    def stats(self) -> EngineStats:
        """The box's own counts, and of the server's metrics what has a place among them."""
        known = self._metrics
        cells = known.cache_tokens or 0
        return EngineStats(
            active=len(self._running),
            waiting=known.waiting or 0,
            steps=known.steps or 0,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
            generated_tokens=self._generated_tokens,
            preemptions=known.preemptions or 0,
            cells=cells,
            cells_used=round(cells * (known.cache_share or 0.0)),
            drafted_tokens=known.drafted_tokens or 0,
            accepted_tokens=known.accepted_tokens or 0,
            pid=self._server.pid,
            log_tail=self._server.log_tail(),
        )

    # -- one answer -------------------------------------------------------------------------------------------------

    async def _read(self, running: _Running) -> None:
        """Take a request to its one ending, which is in the queue when this returns."""
        reason, error = FinishReason.ERROR, None
        try:
            while await self._call(running, running.run.next_call()) is Then.ASK_AGAIN:
                pass
        except asyncio.CancelledError:
            reason = FinishReason.ABORTED
        except Refused as refused:
            error = _refusal(refused)
        except CannotAsk as cannot:
            error = EngineCannotDo(problem=str(cannot))
        except TimeoutError:
            error = GenerationFailed(cause="the engine has stopped in the middle of it and says nothing more")
        except Unreachable as broken:
            error = await self._loss(broken)
        except (NotUnderstood, SseError) as garbage:
            error = GenerationFailed(cause=f"the engine sent something that is no answer ({garbage})")
        finally:
            self._finish(running, reason, error)

    async def _call(self, running: _Running, call: Call) -> Then:
        assert self._connection is not None
        run, limits, now = running.run, self._timeouts, asyncio.get_running_loop().time
        reader = SseReader()
        try:
            async with asyncio.timeout(limits.first_s) as clock, self._connection.stream(call) as chunks:
                async for chunk in chunks:
                    for event in reader.feed(chunk):
                        then = self._take(running, event)
                        if then is not Then.GO_ON:
                            return then
                    clock.reschedule(now() + (USAGE_S if run.ended else limits.stall_s))
                last = reader.finish()
                then = Then.GO_ON if last is None else self._take(running, last)
                if then is not Then.GO_ON:
                    return then
        except (TimeoutError, Unreachable):
            if not run.ended:
                raise
        if not run.ended:
            raise Unreachable("the answer breaks off")
        return Then.END

    def _take(self, running: _Running, event: Event) -> Then:
        piece = self._server.endpoint.dialect.read(event)
        if piece is None:
            return Then.GO_ON
        given, then = running.run.take(piece)
        for delta in given:
            running.events.put_nowait(delta)
            self._generated_tokens += delta.count
        return then

    def _finish(self, running: _Running, reason: FinishReason, error: Exception | None = None) -> None:
        """The ending of a request, once."""
        if running.closed:
            return
        running.closed = True
        if running.reader is not None and running.reader is not asyncio.current_task():
            running.reader.cancel()
        finished = running.run.close(reason, error)
        self._prompt_tokens += finished.prompt_tokens
        self._cached_tokens += finished.cached_tokens
        differs = running.run.prompt_differs
        if differs is not None and not self._warned_of_counts:
            self._warned_of_counts = True
            _log.warning("engine_counts_differ", engine=self._spec.engine, sent=finished.prompt_tokens, counted=differs)
        running.events.put_nowait(finished)

    async def _loss(self, broken: Unreachable) -> Exception:
        """Why an answer broke off: the server has ended, or ended only this one."""
        await asyncio.wait({self._lost}, timeout=END_NOTICED_S)
        if self._lost.done() or self._server.has_ended() or self._connection is None:
            return EngineLost()
        problem = await self._connection.is_healthy()
        if problem is not None:
            return EngineLost()
        return GenerationFailed(cause=f"the engine broke it off ({broken})")

    # -- the server -------------------------------------------------------------------------------------------------

    async def _try_it(self) -> None:
        """One token, before anybody waits for one. Raises EngineStartFailed."""
        tokens = await self.tokenize([TextSegment(_PROBE_TEXT)], add_bos=True)
        request = GenerationRequest(
            request_id=f"r1box-try-{secrets.token_hex(4)}",
            prompt_tokens=tuple(tokens),
            max_tokens=1,
            sampling=SamplingParams(temperature=0.0),
        )
        async for event in self.generate(request):
            if isinstance(event, Finished) and event.error is not None:
                cause = event.error.message if isinstance(event.error, AppError) else str(event.error)
                raise self._server.failure(f"its first answer failed: {cause}")
        self._generated_tokens = self._prompt_tokens = self._cached_tokens = 0

    async def _watch(self) -> None:
        self._lose(await self._server.wait_ended())

    async def _watch_health(self) -> None:
        """A server that runs and answers nobody is as lost as one that ended."""
        assert self._connection is not None
        failures, problem = 0, ""
        while failures < self._timeouts.health_failures:
            await asyncio.sleep(self._timeouts.health_every_s)
            if self._server.has_ended():
                return  # its end says more
            found = await self._connection.is_healthy()
            failures, problem = (0, "") if found is None else (failures + 1, found)
        self._lose(f"it no longer answers ({problem})")

    def _lose(self, cause: str) -> None:
        if not self._lost.done():
            self._lost.set_result(cause)
        for running in list(self._running.values()):
            self._finish(running, FinishReason.ERROR, EngineLost())

    async def _scrape(self) -> None:
        assert self._connection is not None
        path = self._server.endpoint.metrics_url or self._server.endpoint.dialect.metrics_path
        assert path is not None
        while True:
            with suppress(Unreachable):
                text = await self._connection.text(path)
                if text is not None:
                    self._metrics = read_metrics(text)
            await asyncio.sleep(self._timeouts.metrics_every_s)


def _refusal(refused: Refused) -> Exception:
    """A request that the server refuses is the request's fault where HTTP says so."""
    if refused.status in (400, 413, 422):
        return EngineCannotDo(problem=f"the engine refuses this request ({refused.message})")
    if refused.status == 429:
        return EngineBusy(problem=refused.message)
    return GenerationFailed(cause=f"the engine answers {refused.status} ({refused.message})")
