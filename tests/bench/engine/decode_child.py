"""A worker of this process that decodes: ``python -m tests.bench.engine.decode_child SEQUENCES [profile]``.

A process of its own, because OpenMP reads how long its threads spin (``GOMP_SPINCOUNT``, as the daemon sets it) when it
is loaded. Prints one line of JSON, then the profile.
"""

from __future__ import annotations

import cProfile
import json
import os
import pstats
import queue
import sys
import time

from appliance.demo import demo_file
from appliance.engine.llamacpp import messages as wire
from appliance.engine.llamacpp.runner import Runner
from appliance.engine.llamacpp.worker import Worker

TOKENS = 128


class _Sink:
    """Takes what a worker sends and ends it when every sequence has ended."""

    def __init__(self, sequences: int) -> None:
        self.left = sequences
        self.tokens = 0
        self.counters = wire.Counters()
        self.inbox: queue.SimpleQueue[wire.ToWorker | None] | None = None

    def send(self, message: wire.FromWorker) -> None:
        if isinstance(message, wire.Step):
            self.counters = message.counters
            self.tokens += sum(output.count for output in message.outputs)
            self.left -= sum(output.finish is not None for output in message.outputs)
            if self.left == 0 and self.inbox is not None:
                self.inbox.put(wire.Shutdown())


def decode(sequences: int, profile: cProfile.Profile | None = None) -> tuple[float, wire.Counters]:
    """Tokens/s of so many sequences in a worker of this process, and its counters."""
    threads = os.cpu_count() or 1
    config = wire.WorkerConfig(model_path=str(demo_file()), seats=sequences, seat_context=512, threads=threads)
    runner = Runner(config, on_progress=lambda _fraction: None)
    try:
        runner.warm_up()
        sink = _Sink(sequences)
        worker = Worker(config, runner, sink)
        sink.inbox = worker.inbox
        prompt = runner.tokenize([("Tell me a long story about a lighthouse.", True)], add_bos=True)
        ends = tuple((token, -100.0) for token in (0, 2))
        for number in range(sequences):
            sampling = wire.Sampling(seed=number, logit_bias=ends)
            worker.inbox.put(wire.Generate(f"r{number}", [*prompt, 40 + number], TOKENS, sampling))
        started = time.perf_counter()
        if profile is not None:
            profile.enable()
        worker.run()
        if profile is not None:
            profile.disable()
        return sink.tokens / (time.perf_counter() - started), sink.counters
    finally:
        runner.close()


def main() -> None:
    """Decode and print."""
    profile = cProfile.Profile() if "profile" in sys.argv else None
    rate, counters = decode(int(sys.argv[1]), profile)
    figures = {"tokens_per_s": rate, "decode_s": counters.decode_s, "busy_s": counters.busy_s}
    print(json.dumps(figures))
    if profile is not None:
        pstats.Stats(profile).strip_dirs().sort_stats("tottime").print_stats(14)


if __name__ == "__main__":
    main()
