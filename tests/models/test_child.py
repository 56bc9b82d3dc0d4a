"""Children that load llama.cpp: what becomes of them, whatever they do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from models.child import MOST_REQUEST_BYTES, STDERR_BYTES, ChildEnd, child_environment, run_child
from tests.models.cards import build_fake_cards
from tests.models.tiny_r1_files import Q8_0


def ignore(_record: dict[str, Any]) -> None:
    pass


def test_a_module_that_is_not_there() -> None:
    end = run_child("models.no_such_child", {}, ignore, timeout_s=60)
    assert end.exit_code == 1
    assert "No module named" in end.stderr
    assert len(end.stderr) <= STDERR_BYTES
    assert end.how == "exit code 1"
    assert not end.timed_out
    assert not end.garbled


def test_what_is_no_record_ends_the_child() -> None:
    seen: list[dict[str, Any]] = []
    end = run_child("json.tool", {"indented": [1, 2]}, seen.append, timeout_s=60)
    assert end.garbled
    assert seen == []


def test_what_the_caller_raises_comes_out_and_the_child_is_gone() -> None:
    def stop(record: dict[str, Any]) -> None:
        raise KeyboardInterrupt(record["kind"])

    with pytest.raises(KeyboardInterrupt, match="start"):
        run_child("models.dry_run_child", {"backend_dirs": []}, stop, timeout_s=60)


def test_a_child_whose_request_is_bad_says_so_on_standard_error() -> None:
    end = run_child("models.dry_run_child", {}, ignore, timeout_s=60)
    assert end.exit_code == 1
    assert "KeyError: 'backend_dirs'" in end.stderr[-200:] or "Traceback" in end.stderr


def test_no_time_at_all() -> None:
    end = run_child("models.dry_run_child", {"backend_dirs": []}, ignore, timeout_s=0.0)
    assert end.timed_out
    assert end.exit_code == -9
    assert end.how == "killed by SIGKILL"
    assert run_child("models.dry_run_child", {"backend_dirs": []}, ignore, silence_s=0.0).timed_out


HANG = """
import sys
from models.child import run_child
request = {
    "path": sys.argv[1], "backend_dirs": [sys.argv[2]], "memory_bytes": 0, "no_alloc": True, "gpu_layers": 99,
    "extra_buffers": True, "tensor_split": [], "openings": [{
        "context": 256, "batch": 256, "ubatch": 256, "sequences": 1, "outputs": 1, "kv_type": "f16",
        "flash_attention": True, "kv_unified": True,
    }],
}
environment = {"FAKE_CARDS": "1", "FAKE_CARDS_HANG": "1"}
run_child("models.dry_run_child", request, lambda r: print(r["kind"], flush=True), environment=environment)
"""


def test_a_child_ends_with_the_one_that_started_it(tmp_path: Path) -> None:
    words = [sys.executable, "-c", HANG, str(Q8_0), str(build_fake_cards(tmp_path))]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "start\n"
        (child,) = psutil.Process(parent.pid).children()
        parent.kill()
    _, alive = psutil.wait_procs([child], timeout=30)
    assert alive == []


def test_a_request_that_is_too_long_is_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="bytes"):
        run_child("models.dry_run_child", {"path": "x" * MOST_REQUEST_BYTES}, ignore)


def test_children_see_libraries_and_cards_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/usr/local/Ascend")
    found = child_environment({"CUDA_VISIBLE_DEVICES": "1,0"})
    assert "HF_TOKEN" not in found
    assert found["LD_LIBRARY_PATH"] == "/usr/local/Ascend"
    assert found["CUDA_VISIBLE_DEVICES"] == "1,0"
    assert found["GGML_NO_BACKTRACE"] == "1"


def test_signals_without_a_name() -> None:
    assert ChildEnd(-6).how == "killed by SIGABRT"
    assert ChildEnd(-200).how == "killed by signal 200"
