"""Supervised processes: logs, endings, and what they may see."""

from __future__ import annotations

import os
import sys

import psutil
import pytest

from appliance.engine.process import LOG_LINE_BYTES, LOG_LINES, SupervisedProcess, describe_exit, engine_environment


async def start(program: str) -> SupervisedProcess:
    return await SupervisedProcess.start([sys.executable, "-c", program], environment=engine_environment(os.environ))


async def test_what_it_writes_is_kept_up_to_a_number_of_lines() -> None:
    process = await start(f"for n in range({LOG_LINES} + 50): print('line', n)")
    assert await process.wait() == 0
    assert process.log_tail(2) == (f"line {LOG_LINES + 48}", f"line {LOG_LINES + 49}")
    assert len(process.log_tail(10_000)) == LOG_LINES


async def test_a_line_longer_than_the_ring_takes_does_not_stall_it() -> None:
    process = await start(f"print('x' * {LOG_LINE_BYTES * 20}); print('after')")
    assert await process.wait() == 0
    assert process.log_tail(1) == ("after",)


async def test_a_last_line_without_an_end_is_kept() -> None:
    process = await start("import sys; sys.stderr.write('fatal: no newline')")
    await process.wait()
    assert process.log_tail() == ("fatal: no newline",)


async def test_stop_ends_the_whole_group_even_when_it_ignores_term() -> None:
    process = await start(
        "import os, signal, subprocess, sys\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])\n"
        "print('up', child.pid, flush=True)\n"
        "signal.pause()\n"
    )
    while not process.log_tail():
        await _a_moment(process)
    child = psutil.Process(int(process.log_tail()[0].split()[1]))
    assert await process.stop(timeout_s=0.2) == -9
    psutil.wait_procs([child], timeout=5)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert await process.stop(timeout_s=0.2) == -9


async def _a_moment(process: SupervisedProcess) -> None:
    import asyncio

    assert process.returncode is None
    await asyncio.sleep(0)


async def test_a_program_that_is_not_there_raises() -> None:
    with pytest.raises(FileNotFoundError):
        await SupervisedProcess.start(["/nonexistent/program"], environment={})


def test_an_engine_sees_libraries_and_cards_and_no_secrets() -> None:
    seen = engine_environment(
        {
            "PATH": "/bin",
            "LD_LIBRARY_PATH": "/opt",
            "ASCEND_RT_VISIBLE_DEVICES": "0",
            "CUDA_VISIBLE_DEVICES": "1",
            "OMP_NUM_THREADS": "2",
            "R1BOX_API_KEY": "r1b_secret",
            "AWS_SECRET_ACCESS_KEY": "x",
        }
    )
    assert set(seen) == {
        "PATH",
        "LD_LIBRARY_PATH",
        "ASCEND_RT_VISIBLE_DEVICES",
        "CUDA_VISIBLE_DEVICES",
        "OMP_NUM_THREADS",
    }


def test_exits_in_words() -> None:
    assert [describe_exit(code) for code in (0, 70, -9, -11, -99)] == [
        "exit code 0",
        "exit code 70",
        "killed by SIGKILL",
        "killed by SIGSEGV",
        "killed by signal 99",
    ]
