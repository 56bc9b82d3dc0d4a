"""Requests that come, are aborted at any moment and end, on a real worker with the tiny R1, in this process."""

from __future__ import annotations

import gc
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import llama_cpp
import psutil

from appliance.engine.llamacpp import messages as wire
from appliance.engine.llamacpp.runner import Runner
from appliance.engine.llamacpp.worker import Worker

MODEL = Path(__file__).parents[3] / "fixtures" / "tiny_r1" / "gguf" / "Tiny-R1-Q4_K_M.gguf"
SEATS, CONTEXT, TOGETHER = 8, 512, 24


@dataclass(frozen=True)
class Aftermath:
    """``endings`` by how they ended, of ``requests``; cells in use when everything idle is given back, in the table and
    in what llama.cpp says; what the worker still knows of requests; resident memory after a fifth and at the end."""

    requests: int
    endings: Counter[str]
    twice: int
    after_the_end: int
    cells: int
    positions: int
    remembered: int
    early_bytes: int
    late_bytes: int
    counters: wire.Counters


class _Storm:
    """Sends requests and aborts from within the worker's own outputs, so that a seed gives the same storm each time."""

    def __init__(self, requests: int, seed: int, vocabulary: int) -> None:
        self.requests = requests
        self.random = random.Random(seed)
        self.vocabulary = vocabulary
        self.worker: Worker | None = None
        self.sent = 0
        self.open: set[str] = set()
        self.endings: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self.after_the_end = 0
        self.early_bytes = 0
        self.counters = wire.Counters()
        self.chats = [[self._token() for _ in range(self.random.randint(1, 200))] for _ in range(40)]

    def send(self, message: wire.FromWorker) -> None:
        assert isinstance(message, wire.Step)
        self.counters = message.counters
        for output in message.outputs:
            self.after_the_end += self.ended[output.request_id] > 0
            if output.finish is not None:
                self.ended[output.request_id] += 1
                self.endings[output.finish] += 1
                self.open.discard(output.request_id)
        for name in self.random.sample(sorted(self.open), min(len(self.open), self.random.choice((0, 0, 1)))):
            self._put(wire.Abort(name))
        self.more()

    def more(self) -> None:
        """Keep so many under way; at the end say goodbye."""
        while self.sent < self.requests and len(self.open) < TOGETHER:
            self._request()
        if self.early_bytes == 0 and self.sent >= self.requests // 5:
            self.early_bytes = resident_bytes()
        if self.sent == self.requests and not self.open:
            self._put(wire.Shutdown(save_s=5.0))

    def _request(self) -> None:
        name = f"r{self.sent}"
        self.sent += 1
        self.open.add(name)
        chat = self.random.choice(self.chats)
        prompt = chat[: self.random.randint(1, len(chat))] + [self._token() for _ in range(self.random.randint(0, 9))]
        sampling = wire.Sampling(seed=self.sent, temperature=self.random.choice((0.0, 0.8)))
        tokens = self.random.choice((1, 4, 16, 600))
        self._put(wire.Generate(name, prompt, tokens, sampling, self.random.choice((None, "a", "b"))))
        if self.random.random() < 0.1:
            self._put(wire.Abort(name))

    def _token(self) -> int:
        return self.random.randrange(20, self.vocabulary - 20)

    def _put(self, message: wire.ToWorker) -> None:
        assert self.worker is not None
        self.worker.inbox.put(message)


def storm(requests: int, folder: Path, seed: int = 1) -> Aftermath:
    """So many requests, 24 at a time on 8 seats, about half of them aborted; chats are kept in 4 MB and on disk."""
    config = wire.WorkerConfig(
        model_path=str(MODEL),
        seats=SEATS,
        seat_context=CONTEXT,
        threads=1,
        tier_memory_bytes=4_000_000,
        tier_disk_bytes=20_000_000,
        tier_dir=str(folder / "chats"),
        tier_key_file=str(folder / "key"),
        model_sha256="tiny",
    )
    runner = Runner(config, on_progress=lambda _fraction: None)
    try:
        runner.warm_up()
        wind = _Storm(requests, seed, runner.vocabulary_size)
        worker = Worker(config, runner, wind)
        wind.worker = worker
        wind.more()
        assert worker.run() == 0
        scheduler = worker.scheduler
        scheduler.check_integrity()
        late_bytes = resident_bytes()
        scheduler.slots.make_room(scheduler.slots.cells)
        scheduler.update(runner.run(scheduler.schedule()))
        # The spare sequence is the one after the slots.
        last = [llama_cpp.llama_memory_seq_pos_max(runner._memory, slot) for slot in range(runner.slots + 1)]
        return Aftermath(
            requests=requests,
            endings=wind.endings,
            twice=sum(count != 1 for count in wind.ended.values()) + requests - len(wind.ended),
            after_the_end=wind.after_the_end,
            cells=scheduler.slots.tree.cells,
            positions=max(last) + 1,
            remembered=len(worker._texts)
            + len(worker._with_logprobs)
            + len(runner._samplers)
            + scheduler.running_count
            + scheduler.waiting_count,
            early_bytes=wind.early_bytes,
            late_bytes=late_bytes,
            counters=worker.counters(),
        )
    finally:
        runner.close()


def resident_bytes() -> int:
    """Resident memory of this process, after what can be collected was."""
    gc.collect()
    return int(psutil.Process().memory_info().rss)
