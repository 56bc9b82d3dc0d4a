"""Part of a model on cards, part in the host's memory: really loaded and computed, on cards that are the processor."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from appliance.engine.base import EngineInfo
from appliance.engine.llamacpp.engine import LlamaCppEngine
from appliance.engine.llamacpp.messages import WorkerConfig
from appliance.engine.llamacpp.runner import Runner
from models.dry_run import DryRun, Offload, Opening, dry_run
from models.gguf import read_header
from models.memory import host_output_bytes
from models.placement import Wish
from models.types import HOST, KvType
from tests.appliance.engine.contract import run
from tests.models.cards import build_fake_cards, shown
from tests.models.tiny_moe import write_tiny_moe
from tests.models.tiny_r1_files import Q8_0

PROMPT = "<｜begin▁of▁sentence｜><｜User｜>" + "Say where you were computed. " * 9 + "<｜Assistant｜><think>\n"
"""Over 32 tokens: from there on weights on the host are copied to a card."""
MIB = 1 << 20


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_fake_cards(tmp_path_factory.mktemp("cards"))


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_moe(tmp_path_factory.mktemp("moe") / "moe.gguf")


async def answer(model: Path, cards: Path | None, count: int, **changes: object) -> tuple[str, EngineInfo]:
    """What a worker answers, and what it is."""
    config = WorkerConfig(
        model_path=str(model),
        seats=2,
        seat_context=256,
        threads=1,
        extra_buffers=False,
        backend_dirs=() if cards is None else (str(cards),),
        **changes,  # type: ignore[arg-type]
    )
    engine = LlamaCppEngine(config, environment=shown(count, FAKE_CARDS_OFFLOAD="1"))
    info = await engine.start(60)
    try:
        outcome = await run(engine, PROMPT, "a", max_tokens=24)
    finally:
        await engine.stop(5)
    assert outcome.finished.error is None
    assert outcome.tokens > 0
    return outcome.text, info


@pytest.mark.parametrize(("layers", "split"), [(2, ()), (3, (1, 2))])
async def test_some_layers_on_cards_give_the_same_answer(cards: Path, layers: int, split: tuple[int, ...]) -> None:
    count = max(1, len(split))
    alone, _ = await answer(Q8_0, None, 0, gpu_layers=0)
    text, info = await answer(Q8_0, cards, count, gpu_layers=layers, tensor_split=split)
    assert text == alone
    offload = Offload(layers, split, (cards,), shown(count, FAKE_CARDS_OFFLOAD="1"), extra_buffers=False)
    (laid_out,) = dry_run(read_header(Q8_0), [Opening(2, 256)], offload)
    assert isinstance(laid_out, DryRun)
    assert info.measured_bytes is not None
    assert set(info.measured_bytes) == {HOST, *(f"CUDA{i}" for i in range(count))}
    for device, size in info.measured_bytes.items():
        assert laid_out.on(device).total_bytes == pytest.approx(size, rel=0.01, abs=0.05 * MIB)


async def test_experts_on_the_host_give_the_same_answer(cards: Path, mixture: Path) -> None:
    on_card, whole = await answer(mixture, cards, 1, gpu_layers=6)
    text, part = await answer(mixture, cards, 1, gpu_layers=6, experts_on_host=True)
    assert text == on_card
    header = read_header(mixture)
    experts = sum(tensor.size_bytes for tensor in header.tensors if "_exps" in tensor.name)
    assert whole.measured_bytes is not None
    assert part.measured_bytes is not None
    assert whole.measured_bytes["CUDA0"] - part.measured_bytes["CUDA0"] >= experts
    offload = Offload(6, (), (cards,), shown(1, FAKE_CARDS_OFFLOAD="1"), extra_buffers=False, experts_on_host=True)
    (laid_out,) = dry_run(header, [Opening(2, 256)], offload)
    assert isinstance(laid_out, DryRun)
    assert laid_out.stray_tensors == 0
    assert laid_out.on(HOST).model_bytes == experts + header.token_embd_bytes
    for device, size in part.measured_bytes.items():
        assert laid_out.on(device).total_bytes == pytest.approx(size, rel=0.01, abs=0.05 * MIB)


def test_the_worker_opens_as_many_sequences_as_plans_count(capfd: pytest.CaptureFixture[str]) -> None:
    """Each has a row of logits: a worker that opens more than the plan's takes more than was planned."""
    Runner(WorkerConfig(model_path=str(Q8_0), seats=3, seat_context=256, threads=1), lambda _fraction: None).close()
    log = capfd.readouterr().err
    sequences = Wish(3, 256, KvType.F16, flash_attention=True, ubatch_tokens=512).sequences
    found = re.search(r"n_seq_max += (\d+)", log)
    assert found is not None
    assert int(found[1]) == sequences == Opening(3, 256).sequences
    output = re.search(r"CPU +output buffer size = +([\d.]+) MiB", log)
    assert output is not None
    rows = host_output_bytes(read_header(Q8_0).shape(), sequences)
    assert float(output[1]) == pytest.approx(rows / MIB, abs=0.01)


async def test_without_cards_the_experts_are_where_they_are_anyway(mixture: Path) -> None:
    alone, _ = await answer(mixture, None, 0, gpu_layers=0)
    assert (await answer(mixture, None, 0, gpu_layers=0, experts_on_host=True))[0] == alone
