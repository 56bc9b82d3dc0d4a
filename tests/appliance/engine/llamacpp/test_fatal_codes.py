"""llama.cpp's own fatal return codes: its backend breaks in the middle of a step, under a real worker process."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from appliance.engine.llamacpp.engine import LlamaCppEngine
from appliance.engine.llamacpp.worker import EXIT_FATAL_STEP
from appliance.engine.request import FinishReason
from appliance.errors import EngineLost
from tests.appliance.engine.contract import run
from tests.appliance.engine.llamacpp.test_engine import START, config
from tests.fakes.ggml.build import build_broken_compute

ENDLESS = f"{START}Is this sentence false?<｜Assistant｜><think>\n"


@pytest.mark.parametrize(("how", "code"), [("f", -3), ("m", -2)])
async def test_a_backend_that_breaks_ends_every_request_once_and_the_worker(
    tmp_path: Path, how: str, code: int
) -> None:
    """``GGML_STATUS_FAILED`` becomes -3 and ``GGML_STATUS_ALLOC_FAILED`` -2 (llama-context.cpp, ``decode``)."""
    breaks = tmp_path / "breaks"
    environment = {"LD_PRELOAD": str(build_broken_compute(tmp_path)), "R1BOX_FAKE_COMPUTE": str(breaks)}
    engine = LlamaCppEngine(config(), environment=environment)
    try:
        await engine.start(60)
        tasks = [asyncio.create_task(run(engine, ENDLESS, f"k{n}", max_tokens=4000)) for n in range(6)]
        while engine.stats().active < 4:
            await asyncio.sleep(0)
        breaks.write_text(how)
        outcomes = await asyncio.wait_for(asyncio.gather(*tasks), 30)
        assert {outcome.finished.reason for outcome in outcomes} == {FinishReason.ERROR}
        said = [str(outcome.finished.error) for outcome in outcomes]
        assert sum(f"llama_decode ended with {code}" in one for one in said) == 4, said
        assert sum(isinstance(outcome.finished.error, EngineLost) for outcome in outcomes) == 2, "two had no seat"
        assert str(EXIT_FATAL_STEP) in await asyncio.wait_for(engine.wait_lost(), 5)
    finally:
        await engine.stop(5)
