"""Engines of one model, one after the other, where the processor's fast kernels crash."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from appliance.engine.factory import EngineSpec, LlamaCppFactory, worker_config
from appliance.engine.llamacpp import engine as llamacpp

FAKE = Path(__file__).parents[2] / "fakes" / "crashing_worker.py"


async def test_kernels_that_crash_are_tried_once_not_at_every_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = tmp_path / "starts"
    monkeypatch.setattr(
        llamacpp, "worker_command", lambda number: [sys.executable, str(FAKE), str(number), str(starts)]
    )
    make = LlamaCppFactory(EngineSpec(model_path=tmp_path, seats=3, context_tokens=64, threads=1))
    for _ in range(3):
        engine = make()
        info = await engine.start(30)
        assert (info.seats, info.context_tokens) == (3, 64)
        await engine.stop(5)
    lines = starts.read_text().splitlines()
    assert lines == ["extra_buffers=True", *["extra_buffers=False"] * 3]


def test_the_spec_reaches_the_worker() -> None:
    spec = EngineSpec(
        model_path=Path("/m.gguf"),
        seats=600,
        context_tokens=64,
        threads=7,
        gpu_layers=29,
        ubatch_tokens=128,
        tensor_split=(20, 9),
        backend_dirs=(Path("/b"),),
        visible_tokens=("</think>",),
        experts_on_host=True,
    )
    config = worker_config(spec)
    assert (config.seats, config.batch_tokens, config.ubatch_tokens) == (600, 600, 128)
    assert (config.gpu_layers, config.tensor_split, config.threads) == (29, (20, 9), 7)
    assert config.experts_on_host
    assert (config.backend_dirs, config.visible_tokens, config.extra_buffers) == (("/b",), ("</think>",), True)
