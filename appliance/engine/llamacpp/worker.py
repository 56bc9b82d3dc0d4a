"""The worker process: loads one model and runs steps until the daemon says otherwise or goes away.

Started as ``python -m appliance.engine.llamacpp.worker FD`` with one end of a socket pair. Two threads: the *reader*
takes messages and answers ``Tokenize`` at once (a vocabulary is read-only), the main thread runs steps. The reader
never touches the scheduler: it passes messages on through a queue.

Ends: exit 0 after ``Shutdown`` or when the daemon is gone, 1 after ``LoadFailed``, 70 after a fatal step.
"""

from __future__ import annotations

import os
import queue
import signal
import socket
import sys
import threading
import time
from dataclasses import replace
from typing import Any, Protocol

import msgspec

from appliance.engine.llamacpp import messages as wire
from appliance.engine.llamacpp.arrival import Vocabulary, sequence_for
from appliance.engine.llamacpp.detokenizer import Detokenizer
from appliance.engine.llamacpp.preparing import Prepared, Preparer
from appliance.engine.llamacpp.runner import LoadError, Runner
from appliance.engine.llamacpp.sampler import Constraint
from appliance.engine.llamacpp.scheduler import Scheduler, SchedulerLimits
from appliance.engine.llamacpp.slots import IDLE_CELLS_WITHOUT_FLASH
from appliance.engine.llamacpp.step import DecodeStatus, SequenceEvent, StepPlan, StepResult, TokenChance
from appliance.engine.llamacpp.step_times import StepTimes
from appliance.engine.llamacpp.tier_blocks import TierLimits, block_tokens_for
from appliance.engine.llamacpp.tier_disk import BlockRead, BlocksFound, BlockWritten, DiskMessage, DiskRoom, DiskTick
from appliance.engine.llamacpp.tier_keeper import TierKeeper, open_disk

EXIT_LOAD_FAILED = 1
EXIT_FATAL_STEP = 70


class Channel:
    """Frames over a socket. ``send`` may be called from both threads."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._reader = connection.makefile("rb")
        self._lock = threading.Lock()

    def send(self, message: wire.FromWorker) -> None:
        """Send one frame. Raises OSError when the daemon is gone."""
        frame = wire.encode_frame(message)
        with self._lock:
            self._connection.sendall(frame)

    def receive(self) -> wire.ToWorker | None:
        """The next message, None at the end. Raises FrameError for something else."""
        header = self._reader.read(wire.HEADER_BYTES)
        if len(header) < wire.HEADER_BYTES:
            return None
        body = self._reader.read(wire.frame_length(header))
        try:
            return wire.to_worker_decoder.decode(body)
        except msgspec.DecodeError as error:
            raise wire.FrameError(str(error)) from error


class StepRunner(Vocabulary, Protocol):
    """What a worker needs of ``runner.Runner``; tests of the worker's own logic give a scripted one."""

    @property
    def shares(self) -> bool: ...

    @property
    def slots(self) -> int: ...

    @property
    def bytes_per_token(self) -> float: ...

    def identity(self) -> bytes | None: ...

    @property
    def blocks(self) -> dict[bytes, Any]: ...

    @property
    def outputs(self) -> int: ...

    def run(self, plan: StepPlan) -> StepResult: ...

    def use_threads(self, threads: int) -> None: ...

    def piece(self, token: int) -> bytes: ...

    def token_text(self, token: int) -> bytes: ...


class Outbox(Protocol):
    """Where outputs go: a ``Channel``."""

    def send(self, message: wire.FromWorker) -> None: ...


Message = wire.ToWorker | Prepared | DiskMessage | None
Inbox = queue.SimpleQueue[Message]


class Worker:
    """Steps of one model, from messages to messages."""

    def __init__(self, config: wire.WorkerConfig, runner: StepRunner, channel: Outbox) -> None:
        limits = SchedulerLimits(
            seats=config.seats,
            slots=runner.slots,
            seat_context=config.seat_context,
            step=config.batch_tokens,
            chunk_beside_decode=config.chunk_beside_decode,
            outputs=runner.outputs,
            draft=config.draft_tokens,
            even_chunks=config.flash_attention is False,
            idle_cells=IDLE_CELLS_WITHOUT_FLASH if config.flash_attention is False else None,
        )
        tiers = TierLimits(
            memory_bytes=config.tier_memory_bytes,
            block_tokens=block_tokens_for(runner.bytes_per_token),
            bytes_per_token=runner.bytes_per_token,
        )
        self.scheduler = Scheduler(limits, shares=runner.shares, tiers=tiers)
        self.inbox: Inbox = queue.SimpleQueue()
        disk = open_disk(config, runner.identity(), self.inbox.put)
        self._keeper = TierKeeper(self.scheduler, runner.blocks, disk)
        self._save_s = wire.Shutdown().save_s
        self._runner = runner
        self._channel = channel
        self._texts: dict[str, Detokenizer] = {}
        self._with_logprobs: set[str] = set()
        self._steps = self._prompt_tokens = self._cached_tokens = self._generated_tokens = 0
        self._decode_s = self._busy_s = 0.0
        self._step_times = StepTimes()

    def run(self) -> int:
        """Work until told to stop; the result is the exit code."""
        while True:
            outputs: list[wire.Output] = []
            if not self._take_messages(outputs):
                self._save_all()
                return 0
            started = time.perf_counter()
            outputs += self._outputs(self.scheduler.take_aborted())
            plan = self.scheduler.schedule()
            result = self._step(plan)
            outputs += self._outputs(self.scheduler.update(result), result)
            self._keeper.do_work()
            stepped = time.perf_counter()
            self._busy_s += stepped - started
            if outputs or plan.saves:
                self._channel.send(wire.Step(outputs, self.counters()))
            self._busy_s += time.perf_counter() - stepped
            if result.status is DecodeStatus.FATAL:
                sys.stderr.write(f"fatal: {result.message}\n")
                return EXIT_FATAL_STEP

    def _save_all(self) -> None:
        """What idle slots hold goes to disk, as far as the time that ``Shutdown`` gives allows it."""
        if not self._keeper.has_disk:
            return
        self.scheduler.abort_all()

        def step() -> None:
            self.scheduler.take_aborted()
            self.scheduler.update(self._runner.run(self.scheduler.schedule()))
            self._keeper.do_work()

        step()
        self._keeper.close(step, self._save_s)

    def _step(self, plan: StepPlan) -> StepResult:
        """Run one plan; how long it took goes with the result."""
        started = time.perf_counter()
        result = self._runner.run(plan)
        if not plan.work:
            return result
        duration_s = time.perf_counter() - started
        self._steps += 1
        self._decode_s += result.decode_s
        self._step_times.add(duration_s)
        # What moved to and from the tiers is measured apart: it must not count as the cost of tokens.
        return replace(result, duration_s=duration_s - result.save_s - result.restore_s)

    def counters(self) -> wire.Counters:
        """Totals since the load."""
        slots, tiers = self.scheduler.slots, self.scheduler.tiers
        return wire.Counters(
            active=self.scheduler.running_count,
            waiting=self.scheduler.waiting_count,
            steps=self._steps,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
            generated_tokens=self._generated_tokens,
            preemptions=self.scheduler.preemptions,
            decode_s=self._decode_s,
            busy_s=self._busy_s,
            shared_tokens=slots.shared_tokens,
            prefix_waits=self.scheduler.prefix_waits,
            evictions=slots.evictions,
            evicted_tokens=slots.evicted_tokens,
            cells_used=slots.tree.cells,
            cells=slots.cells,
            step_counts=tuple(self._step_times.counts),
            step_s=self._step_times.total_s,
            longest_step_s=self._step_times.longest_s,
            tier_hits=tiers.hits,
            tier_hit_tokens=tiers.hit_tokens,
            tier_saves=tiers.index.counts.saves,
            tier_saved_bytes=tiers.index.counts.saved_bytes,
            tier_restored_bytes=tiers.restored_bytes,
            tier_drops=tiers.index.counts.drops,
            tier_failures=tiers.failures,
            tier_memory_bytes=tiers.index.memory_bytes,
            drafted_tokens=self.scheduler.speculation.drafted,
            accepted_tokens=self.scheduler.speculation.accepted,
            model_drafted_tokens=self.scheduler.speculation.model_drafted,
            model_accepted_tokens=self.scheduler.speculation.model_accepted,
            tier_disk_bytes=tiers.index.disk_bytes,
            tier_disk_drops=tiers.index.counts.disk_drops,
        )

    def _take_messages(self, outputs: list[wire.Output]) -> bool:
        """Handle everything in the inbox; without work, wait for something first. False to end."""
        if not self.scheduler.has_work:
            self.scheduler.check_integrity()
            if not self._handle(self._keeper.wait(self.inbox), outputs):
                return False
        while not self.inbox.empty():
            if not self._handle(self.inbox.get(), outputs):
                return False
        return True

    def _handle(self, message: Message, outputs: list[wire.Output]) -> bool:
        match message:
            case wire.Generate():
                outputs += self._start(message, None)
            case Prepared(aborted=True):
                outputs.append(wire.Output(message.message.request_id, finish="aborted"))
            case Prepared(problem=str()):
                outputs.append(wire.Output(message.message.request_id, finish="error", message=message.problem or ""))
            case Prepared():
                outputs += self._start(message.message, message.constraint)
            case wire.Abort():
                self.scheduler.abort(message.request_id)
            case wire.AnswerNow():
                self.scheduler.answer_now(message.request_id)
            case wire.Share():
                self._runner.use_threads(message.threads)
                self._keeper.resize(message.tier_memory_bytes, message.tier_disk_bytes)
            case BlocksFound() | BlockRead() | BlockWritten() | DiskRoom() | DiskTick():
                self._keeper.take(message)
            case wire.Shutdown():
                self._save_s = message.save_s
                return False
            case _:
                return False
        return True

    def _start(self, message: wire.Generate, constraint: Constraint | None) -> list[wire.Output]:
        """Give a request to the scheduler; its ending where it can never run."""
        rejected = self.scheduler.add(sequence_for(message, constraint, self._runner))
        if rejected is not None:
            return [wire.Output(message.request_id, finish="error", message=rejected.message)]
        self._texts[message.request_id] = Detokenizer()
        if message.logprobs is not None:
            self._with_logprobs.add(message.request_id)
        return []

    def _outputs(self, events: list[SequenceEvent], result: StepResult | None = None) -> list[wire.Output]:
        """Turn the scheduler's events into text: one output for all tokens that a sequence got in a step."""
        outputs: list[wire.Output] = []
        for event in events:
            if event.token is not None:
                self._generated_tokens += 1
                text = self._texts[event.request_id].add(self._runner.piece(event.token))
                logprobs: tuple[wire.TokenLogprob, ...] = ()
                if event.request_id in self._with_logprobs:
                    chances = [] if result is None else result.chances.get(event.request_id, [])
                    logprobs = (self._logprob(event.token, chances),)
                count = 1
                if outputs and outputs[-1].request_id == event.request_id:
                    before = outputs.pop()
                    text, count, logprobs = before.text + text, before.count + 1, (*before.logprobs, *logprobs)
                outputs.append(wire.Output(event.request_id, text, count, logprobs=logprobs))
            if event.finish is not None:
                self._prompt_tokens += event.prompt_tokens
                self._cached_tokens += event.cached_tokens
                self._with_logprobs.discard(event.request_id)
                # What could not be sampled ends like any other for the scheduler.
                problem = None if result is None else result.problems.get(event.request_id)
                outputs.append(
                    wire.Output(
                        event.request_id,
                        self._texts.pop(event.request_id).finish(),
                        finish=event.finish.value if problem is None else "error",
                        prompt_tokens=event.prompt_tokens,
                        cached_tokens=event.cached_tokens,
                        completion_tokens=event.completion_tokens,
                        message=problem or event.message,
                        thinking_end=event.thought_end,
                        answer_looped=event.answer_looped,
                    )
                )
        return outputs

    def _logprob(self, token: int, chances: list[TokenChance]) -> wire.TokenLogprob:
        """The next of a request's log probabilities; of a token that was not drawn but written for the model it is 0:
        nothing else could have come."""
        text = self._runner.token_text
        while chances and chances[0].token != token:
            chances.pop(0)
        if not chances:
            return text(token), 0.0, ()
        chance = chances.pop(0)
        return text(token), chance.logprob, tuple((text(one), logprob) for one, logprob in chance.top)


def read_messages(channel: Channel, runner: Runner, inbox: Inbox) -> None:
    """The reader thread: pass messages on, answer ``Tokenize`` here, have structures compiled. Puts None when the
    daemon is gone."""
    preparer = Preparer(lambda structure: runner.structures.compile(structure), inbox.put)
    try:
        while (message := channel.receive()) is not None:
            match message:
                case wire.Tokenize():
                    tokens = runner.tokenize(message.segments, add_bos=message.add_bos)
                    channel.send(wire.Tokens(message.call_id, tokens))
                case wire.Generate(structure=wire.Structure()):
                    preparer.take(message)
                case wire.Abort() if preparer.abort(message.request_id):
                    pass
                case _:
                    inbox.put(message)
    except (OSError, wire.FrameError) as error:
        sys.stderr.write(f"the connection to the daemon broke: {error}\n")
    finally:
        inbox.put(None)


def serve(connection: socket.socket) -> int:
    """A worker's whole life on one connection; the result is the exit code."""
    channel = Channel(connection)
    channel.send(wire.Hello(wire.PROTOCOL, os.getpid()))
    load = channel.receive()
    if not isinstance(load, wire.Load):
        return 0
    try:
        runner = Runner(load.config, on_progress=_Progress(channel))
        measured = runner.warm_up()
    except LoadError as error:
        channel.send(wire.LoadFailed(error.code, str(error)))
        return EXIT_LOAD_FAILED
    try:
        worker = Worker(load.config, runner, channel)
        worker.scheduler.begin_with(measured)
        channel.send(runner.ready())
        reader = threading.Thread(target=read_messages, args=(channel, runner, worker.inbox), daemon=True)
        reader.start()
        return worker.run()
    finally:
        runner.close()


class _Progress:
    """Passes on a load's progress, at most a hundred times: llama.cpp calls back per tensor."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._percent = -1

    def __call__(self, fraction: float) -> None:
        percent = int(fraction * 100)
        if percent > self._percent:
            self._percent = percent
            self._channel.send(wire.LoadProgress(fraction))


def main(arguments: list[str]) -> int:
    """Entry point: the number of the inherited socket is the only argument."""
    # The daemon decides when a worker ends; a Ctrl-C in its terminal reaches the whole process group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stderr.reconfigure(line_buffering=True, errors="replace")  # type: ignore[union-attr]
    try:
        with socket.socket(fileno=int(arguments[0])) as connection:
            return serve(connection)
    except ConnectionError:
        # The daemon is gone; nobody is left to be told.
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
