"""Servers that misbehave: one ending for every request, and a reason that a person can act on."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from appliance.engine.external.engine import ExternalEngine
from appliance.engine.external.launch import Timeouts
from appliance.engine.request import FinishReason, SamplingParams, TextSegment
from appliance.errors import AppError, EngineCannotDo, EngineLost, EngineStartFailed, GenerationFailed
from tests.appliance.engine.contract import Outcome, run
from tests.appliance.engine.external.fake_servers import (
    QUICK,
    SECRET,
    engine_of,
    fake_mindie,
    fake_vllm,
    until,
)
from tests.fakes.engine_server import ANSWER, ENDLESS, Faults

AFTER_THE_TRY = {"spares": 1}
"""The engine tries one token itself before it takes requests."""


async def several(engine: ExternalEngine, count: int = 6, text: str = "Where is Paris?") -> list[Outcome]:
    """So many requests at once; ``run`` sees to it that none has an event after its ending."""
    return await asyncio.gather(*(run(engine, text, f"r{number}") for number in range(count)))


def problem(outcome: Outcome) -> AppError:
    assert outcome.finished.reason is FinishReason.ERROR
    assert isinstance(outcome.finished.error, AppError)
    return outcome.finished.error


async def started(tmp_path: Path, faults: Faults, timeouts: Timeouts = QUICK) -> ExternalEngine:
    engine = engine_of(fake_vllm(tmp_path, faults), timeouts)
    await engine.start(60)
    return engine


async def test_a_server_that_dies_in_an_answer_ends_every_request_once(tmp_path: Path) -> None:
    engine = await started(tmp_path, Faults(die_at=5, **AFTER_THE_TRY))
    lost = asyncio.create_task(engine.wait_lost())
    outcomes = await several(engine)
    assert {type(problem(outcome)) for outcome in outcomes} == {EngineLost}
    assert await asyncio.wait_for(lost, 10) == "exit code 70"
    with pytest.raises(EngineLost):
        await run(engine, "again", "later")
    await engine.stop(5)


async def test_a_killed_server_under_load_ends_all_and_leaves_no_child(tmp_path: Path) -> None:
    engine = await started(tmp_path, Faults(orphan=True))
    (orphan,) = [int(line.split()[1]) for line in engine.stats().log_tail if line.startswith("orphan")]
    running = asyncio.gather(*(run(engine, ENDLESS, f"r{number}", max_tokens=4000) for number in range(8)))
    await until(lambda: engine.stats().generated_tokens > 100)
    pid = engine.stats().pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert {type(problem(outcome)) for outcome in await running} == {EngineLost}
    assert await asyncio.wait_for(engine.wait_lost(), 10) == "killed by SIGKILL"
    assert not psutil.pid_exists(orphan) or psutil.Process(orphan).status() == psutil.STATUS_ZOMBIE
    await engine.stop(5)


async def test_garbage_ends_the_request_and_not_the_engine(tmp_path: Path) -> None:
    engine = await started(tmp_path, Faults(garbage_at=3, **AFTER_THE_TRY))
    for outcome in await several(engine):
        assert isinstance(problem(outcome), GenerationFailed)
        assert "sent something that is no answer" in problem(outcome).message
        assert outcome.finished.completion_tokens == outcome.tokens == 3
    await engine.stop(5)


async def test_an_endless_event_is_not_gathered_for_ever(tmp_path: Path) -> None:
    engine = await started(tmp_path, Faults(endless_event_at=2, **AFTER_THE_TRY))
    assert "more than 8,388,608 bytes" in problem(await run(engine, "x", "one")).message
    await engine.stop(5)


async def test_the_servers_own_error_in_a_stream_is_told(tmp_path: Path) -> None:
    engine = await started(tmp_path, Faults(error_at=4, **AFTER_THE_TRY))
    assert "CUDA error: an illegal memory access" in problem(await run(engine, "x", "one")).message
    await engine.stop(5)


async def test_an_answer_that_breaks_off_is_no_whole_answer(tmp_path: Path) -> None:
    engine = await started(tmp_path, Faults(break_at=4, **AFTER_THE_TRY))
    for outcome in await several(engine):
        assert isinstance(problem(outcome), GenerationFailed)
        assert "broke it off" in problem(outcome).message
    await engine.stop(5)


async def test_a_server_that_stops_in_the_middle_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    engine = await started(tmp_path, Faults(hang_at=4, **AFTER_THE_TRY), replace(QUICK, stall_s=0.2))
    for outcome in await several(engine):
        assert "stopped in the middle" in problem(outcome).message
        assert outcome.tokens == 4
    await engine.stop(5)


async def test_a_server_that_answers_nobody_is_lost(tmp_path: Path) -> None:
    faults = Faults(unhealthy_after=1, hang_at=10, **AFTER_THE_TRY)
    engine = await started(tmp_path, faults, replace(QUICK, health_s=0.1))
    endless = asyncio.create_task(run(engine, ENDLESS, "endless"))
    cause = await asyncio.wait_for(engine.wait_lost(), 20)
    assert cause.startswith("it no longer answers")
    assert isinstance(problem(await endless), EngineLost)
    await engine.stop(5)


async def test_wrong_counts_of_the_server_change_nothing_here(tmp_path: Path) -> None:
    engine = await started(tmp_path, Faults(prompt_tokens_off=7, completion_tokens_off=-3))
    right = await run(engine, "Where is Paris?", "one")
    assert right.text == ANSWER
    assert right.finished.completion_tokens == right.tokens
    assert right.finished.prompt_tokens == len(await engine.tokenize([TextSegment("Where is Paris?")], add_bos=False))
    assert 0 <= right.finished.cached_tokens <= right.finished.prompt_tokens
    await engine.stop(5)


async def test_a_refused_request_is_the_requests_fault(tmp_path: Path) -> None:
    engine = await started(tmp_path, Faults(refuse=400, **AFTER_THE_TRY))
    error = problem(await run(engine, "x", "one"))
    assert isinstance(error, EngineCannotDo)
    assert "not a fruit" in error.message
    assert error.http_status == 400
    await engine.stop(5)


async def test_a_server_that_closes_kept_connections_loses_no_request(tmp_path: Path) -> None:
    engine = await started(tmp_path, Faults(close_kept=True))
    for number in range(4):
        assert (await run(engine, "x", f"r{number}")).text == ANSWER
    await engine.stop(5)


async def test_a_leaving_reader_ends_the_answer_at_the_server(tmp_path: Path) -> None:
    engine = await started(tmp_path, Faults())
    tasks = [asyncio.create_task(run(engine, ENDLESS, f"r{number}", max_tokens=8000)) for number in range(4)]
    await until(lambda: engine.stats().generated_tokens > 40)
    for number in range(4):
        await engine.abort(f"r{number}")
    outcomes = await asyncio.gather(*tasks)
    assert {outcome.finished.reason for outcome in outcomes} == {FinishReason.ABORTED}

    async def aborted() -> int:
        assert engine._connection is not None
        seen = await engine._connection.json("/seen")
        return int((seen or {})["aborted"])

    async with asyncio.timeout(20):
        while await aborted() < 4:
            await asyncio.sleep(0.01)
    await engine.stop(5)


# -- starts -----------------------------------------------------------------------------------------------------------


async def refused_start(launch_engine: ExternalEngine, timeout_s: float = 60) -> EngineStartFailed:
    with pytest.raises(EngineStartFailed) as raised:
        await launch_engine.start(timeout_s)
    assert launch_engine.stats().pid is None or not psutil.pid_exists(launch_engine.stats().pid)
    return raised.value


async def test_a_wrong_flag_gives_the_logs_own_reason(tmp_path: Path) -> None:
    error = await refused_start(engine_of(fake_vllm(tmp_path, Faults(), "--max-model-length", "4096")))
    assert "vLLM says: unrecognized arguments: --max-model-length" in error.message
    assert error.log_tail


CUDA_LOG = """(EngineCore_DP0 pid=77) ERROR 11-22 09:00:01 [core.py:9] torch.OutOfMemoryError: CUDA out of memory. \
Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.52 GiB.
(APIServer pid=12) Traceback (most recent call last):
(APIServer pid=12) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"""


async def test_the_root_of_a_failure_is_told_and_not_its_echo(tmp_path: Path) -> None:
    error = await refused_start(engine_of(fake_vllm(tmp_path, Faults(die_at_start=CUDA_LOG))))
    assert "CUDA out of memory. Tried to allocate 2.00 GiB" in error.message
    assert "root cause above" not in error.message


async def test_a_server_that_never_gets_ready_is_ended(tmp_path: Path) -> None:
    error = await refused_start(engine_of(fake_vllm(tmp_path, Faults(never_ready=True))), timeout_s=3)
    assert "it was not ready after 3 s" in error.message
    assert error.cause_code == "start_timeout"


async def test_a_server_whose_first_answer_fails_takes_no_requests(tmp_path: Path) -> None:
    error = await refused_start(engine_of(fake_vllm(tmp_path, Faults(garbage_at=0))))
    assert "its first answer failed" in error.message


async def test_a_server_without_token_ids_is_refused(tmp_path: Path) -> None:
    error = await refused_start(engine_of(fake_vllm(tmp_path, Faults(no_ids=True))))
    assert "without the ids of its tokens" in error.message


async def test_a_server_with_another_model_is_refused(tmp_path: Path) -> None:
    error = await refused_start(engine_of(fake_vllm(tmp_path, Faults(other_model="qwen"))))
    assert "does not serve the model 'tiny-r1'; it has: qwen" in error.message


async def test_a_shorter_context_of_the_server_is_believed(tmp_path: Path) -> None:
    engine = engine_of(fake_vllm(tmp_path, Faults(max_model_len=1000)))
    assert (await engine.start(60)).context_tokens == 1000
    await engine.stop(5)


async def test_an_engine_that_is_not_there_says_so(tmp_path: Path) -> None:
    launch = replace(fake_vllm(tmp_path), argv=(str(tmp_path / "venv/bin/python"), "-m", "vllm"))
    error = await refused_start(engine_of(launch))
    assert "vLLM cannot be started (No such file or directory" in error.message


async def test_progress_of_a_slow_start_comes_from_its_log(tmp_path: Path) -> None:
    log = (
        "INFO 11-22 09:00:02 [core.py:1] Initializing a V1 LLM engine (v0.99) with config: ...",
        "Loading safetensors checkpoint shards:   0% Completed | 0/4 [00:00<?, ?it/s]",
        "Loading safetensors checkpoint shards:  50% Completed | 2/4 [00:02<00:02,  1.00s/it]",
        "Loading safetensors checkpoint shards: 100% Completed | 4/4 [00:04<00:00,  1.00s/it]",
        "INFO 11-22 09:00:09 [gpu_worker.py:2] Available KV cache memory: 9.76 GiB",
    )
    seen: list[float] = []
    engine = engine_of(fake_vllm(tmp_path, Faults(start_log=log)))
    await engine.start(60, seen.append)
    assert seen == sorted(seen)
    assert pytest.approx(seen[:6]) == [0.02, 0.08, 0.1, 0.375, 0.65, 0.8]
    assert len(seen) == 7
    await engine.stop(5)


async def test_no_secret_is_in_arguments_logs_or_files_that_stay(tmp_path: Path) -> None:
    launch = fake_vllm(tmp_path, Faults(start_log=("args: key=%KEY%",)))
    engine = engine_of(launch)
    await engine.start(60)
    assert SECRET not in " ".join(launch.argv)
    assert SECRET not in repr(launch.endpoint)
    assert any("key=[redacted]" in line for line in engine.stats().log_tail)
    assert oct(tmp_path.joinpath("engine.sock").parent.stat().st_mode)[-2:] == "00"
    await engine.stop(5)
    assert not tmp_path.joinpath("engine.sock").exists()


async def test_the_servers_metrics_are_ours(tmp_path: Path) -> None:
    engine = await started(tmp_path, Faults())
    await run(engine, "x", "one")
    await until(lambda: engine.stats().cells == 1600)
    stats = engine.stats()
    assert (stats.cells_used, stats.preemptions, stats.waiting) == (400, 3, 0)
    assert stats.generated_tokens > 0
    await engine.stop(5)


async def test_what_mindie_has_no_word_for_is_refused_not_left_out(tmp_path: Path) -> None:
    engine = engine_of(fake_mindie(tmp_path))
    await engine.start(60)
    sampling = SamplingParams(logit_bias=((5, 1.0),), min_p=0.1)
    error = problem(await run(engine, "x", "one", sampling=sampling))
    assert isinstance(error, EngineCannotDo)
    assert "has no logit_bias, min_p" in error.message
    assert (await run(engine, "Where is Paris?", "two")).text == ANSWER
    await engine.stop(5)
