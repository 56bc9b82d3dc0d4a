"""10,000 requests with random aborts, and what the engine takes beside llama.cpp's buffers with 64 sequences."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import psutil
import pytest

from appliance.demo import demo_file
from appliance.engine.llamacpp.engine import LlamaCppEngine
from appliance.engine.llamacpp.messages import WorkerConfig
from appliance.engine.request import GenerationRequest, SamplingParams
from tests.appliance.engine.llamacpp.storm import MODEL, storm

pytestmark = pytest.mark.bench

REQUESTS = int(os.environ.get("R1BOX_BENCH_STORM", "10000"))


def test_a_storm_of_aborts(tmp_path: Path) -> None:
    started = time.perf_counter()
    after = storm(REQUESTS, tmp_path)
    counters = after.counters
    print(
        f"{after.requests:,} requests in {time.perf_counter() - started:.0f} s: {dict(after.endings)}; ended not once: "
        f"{after.twice}, outputs after an ending: {after.after_the_end}; cells left {after.cells}, positions left "
        f"{after.positions}, requests remembered {after.remembered}; resident {after.early_bytes / 1e6:.1f} MB after a "
        f"fifth, {after.late_bytes / 1e6:.1f} MB at the end; preemptions {counters.preemptions}, evictions "
        f"{counters.evictions}, tiers: {counters.tier_hits} hits, {counters.tier_saves} saves, "
        f"{counters.tier_drops} + {counters.tier_disk_drops} drops, {counters.tier_failures} failures"
    )


@pytest.mark.parametrize("model", [MODEL, demo_file()], ids=lambda path: path.name)
async def test_memory_of_64_sequences(model: Path) -> None:
    config = WorkerConfig(model_path=str(model), seats=64, seat_context=256, threads=os.cpu_count() or 1)
    engine = LlamaCppEngine(config)
    try:
        info = await engine.start(120)
        assert info.measured_bytes is not None
        pid = engine.stats().pid

        async def one(number: int) -> None:
            request = GenerationRequest(
                request_id=f"r{number}",
                prompt_tokens=tuple(40 + (number * n) % 400 for n in range(60)),
                max_tokens=30,
                sampling=SamplingParams(),
            )
            async for _ in engine.generate(request):
                pass

        await asyncio.gather(*(one(number) for number in range(64)))
        memory = psutil.Process(pid).memory_full_info()
        buffers = sum(info.measured_bytes.values())
        print(
            f"{model.name}, 64 sequences: the worker's own memory (USS) {memory.uss / 1e6:.0f} MB, resident "
            f"{memory.rss / 1e6:.0f} MB, llama.cpp's buffers {buffers / 1e6:.0f} MB: resident beyond them "
            f"{(memory.rss - buffers) / 1e6:.0f} MB"
        )
    finally:
        await engine.stop(5)
