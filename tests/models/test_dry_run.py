"""Dry runs through llama.cpp itself: what they say is what a real load takes, and whatever goes wrong has a name."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.child import ChildEnd, RunChild, run_child
from models.dry_run import (
    DryRun,
    DryRunFailure,
    DryRunFailureKind,
    Offload,
    Opening,
    dry_run,
    sparse_copy,
)
from models.dry_run_log import read_load_log
from models.fit import fit_installed
from models.gguf import GgufHeader, read_header
from models.types import HOST, KvType
from tests.fakes.gguf_writer import TypedList, small_metadata, small_tensors, write_gguf
from tests.models import machines
from tests.models.cards import build_fake_cards, shown
from tests.models.r1_files import write_variant
from tests.models.smollm2 import SMOLLM2
from tests.models.test_gguf import R1_7B, write_r1_7b
from tests.models.tiny_r1_files import Q4_K_M, Q8_0

Kind = DryRunFailureKind
R1_7B_FILE_BYTES = 4_683_073_248
"""Of the published DeepSeek-R1-Distill-Qwen-7B-Q4_K_M.gguf."""

LOAD = """
import sys
from appliance.engine.llamacpp.messages import WorkerConfig
from appliance.engine.llamacpp.runner import Runner
path, seats, context, kv_type, flash, extra = sys.argv[1:]
config = WorkerConfig(
    model_path=path, seats=int(seats), seat_context=int(context), threads=1, gpu_layers=0, kv_type=kv_type,
    flash_attention=flash == "True", extra_buffers=extra == "True",
)
Runner(config, lambda _: None).close()
"""


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_fake_cards(tmp_path_factory.mktemp("cards"))


@pytest.fixture(scope="module")
def tiny() -> GgufHeader:
    return read_header(Q8_0)


SEQUENCES = re.compile(r"n_seq_max += (\d+)")


def real_load(header: GgufHeader, opening: Opening, *, extra_buffers: bool = False) -> dict[str, dict[str, int]]:
    """What the worker's own runner logs when it loads for real."""
    words = [str(header.path), opening.seats, opening.context_tokens, opening.kv_type, opening.flash_attention]
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *map(str, [*words, extra_buffers])],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    opened = SEQUENCES.search(done.stderr)
    assert opened is not None
    # The plan's number of sequences is the worker's.
    assert int(opened[1]) == opening.sequences
    return read_load_log(header, done.stderr.splitlines())


def one(found: tuple[DryRun | DryRunFailure, ...]) -> DryRun:
    assert len(found) == 1
    assert isinstance(found[0], DryRun), found[0]
    return found[0]


def failure(found: tuple[DryRun | DryRunFailure, ...]) -> DryRunFailure:
    assert isinstance(found[0], DryRunFailure)
    assert found[0].hint
    return found[0]


@pytest.mark.parametrize(
    "opening",
    [Opening(2, 2048), Opening(1, 1024, flash_attention=False), Opening(2, 512, KvType.Q8_0)],
    ids=["flash", "no-flash", "q8_0-cache"],
)
@pytest.mark.parametrize("path", [Q8_0, Q4_K_M, SMOLLM2], ids=["Tiny-R1-Q8_0", "Tiny-R1-Q4_K_M", "SmolLM2"])
def test_a_real_load_takes_what_the_dry_run_says(path: Path, opening: Opening) -> None:
    header = read_header(path)
    answer = one(dry_run(header, [opening], Offload(extra_buffers=False)))
    loaded = real_load(header, opening)
    assert list(loaded) == [b.device for b in answer.buffers] == [HOST]
    for word, size in loaded[HOST].items():
        # Within one percent, beside what the log rounds (5 kB).
        assert getattr(answer.buffers[0], word) == pytest.approx(size, rel=0.01, abs=5300), word
    assert answer.total_bytes == pytest.approx(sum(loaded[HOST].values()), rel=0.01)


def test_what_the_processor_repacks_is_not_counted_twice() -> None:
    header = read_header(SMOLLM2)
    loaded = real_load(header, Opening(1, 512), extra_buffers=True)
    assert loaded[HOST]["model_bytes"] == pytest.approx(header.tensor_bytes, rel=0.01)


def test_the_real_header_of_r1_7b_is_read_planned_and_dry_run(tmp_path: Path, cards: Path) -> None:
    """Its metadata and tensor table are the published file's; of the token texts only the number is real, so the
    vocabulary is left out here. The file is a hole of the published size."""
    whole = write_r1_7b(tmp_path / "DeepSeek-R1-Distill-Qwen-7B-Q4_K_M.gguf")
    with whole.open("r+b") as file:
        file.truncate(max(R1_7B_FILE_BYTES, whole.stat().st_size))
    header = read_header(whole)
    plan = fit_installed(header, machines.T4)
    assert (plan.quantization, plan.gpu_layers, plan.devices) == ("Q4_K_M", 29, ("nvidia:0",))
    metadata = {k: v for k, v in R1_7B["metadata"].items() if not k.startswith("tokenizer.")}
    metadata |= {"tokenizer.ggml.model": "no_vocab", "qwen2.vocab_size": 152_064}
    tensors = [(n, tuple(s), t) for n, s, t in R1_7B["tensors"]]
    bare = read_header(write_gguf(tmp_path / "bare.gguf", metadata, tensors))
    opening = Opening(plan.seats, plan.context_tokens, plan.kv_type, plan.flash_attention, plan.ubatch_tokens)
    answer = one(dry_run(bare, [opening], Offload(plan.gpu_layers, plan.tensor_split, (cards,), shown(1))))
    assert answer.on(HOST).model_bytes + answer.on("CUDA0").model_bytes == 4_677_120_000
    for line, device in zip(plan.memory, ("CUDA0", HOST), strict=True):
        planned = line.total_bytes - line.reserve_bytes
        assert answer.on(device).total_bytes == pytest.approx(planned, rel=0.001), device


def test_a_header_alone_is_enough(tiny: GgufHeader, tmp_path: Path) -> None:
    first = tmp_path / "first-part-of-a-download"
    first.write_bytes(Q8_0.read_bytes()[: tiny.header_bytes + 1000])
    copy = sparse_copy(first, tmp_path / "copy.gguf", header_bytes=tiny.header_bytes, file_bytes=tiny.file_bytes)
    assert copy.stat().st_blocks * 512 < tiny.file_bytes / 2
    openings = [Opening(2, 1024), Opening(4, 1024)]
    assert [one((a,)).buffers for a in dry_run(read_header(copy), openings)] == [
        one((a,)).buffers for a in dry_run(tiny, openings)
    ]


@pytest.mark.parametrize(
    ("header_bytes", "file_bytes"), [(0, 100), (200, 100), (1 << 28, 1 << 30), (100, 1 << 45), (-1, 100)]
)
def test_absurd_sizes_are_refused(tmp_path: Path, header_bytes: int, file_bytes: int) -> None:
    with pytest.raises(ValueError, match="out of bounds"):
        sparse_copy(Q8_0, tmp_path / "copy.gguf", header_bytes=header_bytes, file_bytes=file_bytes)
    assert list(tmp_path.iterdir()) == []


def test_cards_and_host_each_get_their_part(tiny: GgufHeader, cards: Path) -> None:
    where = Offload(5, (2, 3), (cards,), shown(2))
    answer = one(dry_run(tiny, [Opening(4, 1024)], where))
    assert [b.device for b in answer.buffers] == ["CUDA0", "CUDA1", HOST]
    assert answer.on("CUDA0").kv_bytes == answer.on("CUDA1").kv_bytes == 2 * 4096 * 2 * 128 * 2
    assert sum(b.model_bytes for b in answer.buffers) == tiny.tensor_bytes
    assert answer.on(HOST).model_bytes == tiny.token_embd_bytes
    assert answer.on(HOST).output_bytes == pytest.approx(13 * 4 * 1536, abs=5300)
    assert answer.on("CUDA7").total_bytes == 0
    assert "llama-cpp-python" in answer.build


def test_layers_left_on_the_processor(tiny: GgufHeader, cards: Path) -> None:
    answer = one(dry_run(tiny, [Opening(1, 1024)], Offload(2, (), (cards,), shown(1))))
    assert answer.on("CUDA0").kv_bytes == 1024 * 2 * 128 * 2
    assert answer.on(HOST).kv_bytes == 3 * answer.on("CUDA0").kv_bytes


@pytest.mark.parametrize(("word", "kind"), [("FAKE_CARDS_CRASH", Kind.ABORTED), ("FAKE_CARDS_HANG", Kind.TIMED_OUT)])
def test_a_backend_that_dies_or_hangs(tiny: GgufHeader, cards: Path, word: str, kind: DryRunFailureKind) -> None:
    where = Offload(5, (), (cards,), shown(1, **{word: "1"}))
    openings = [Opening(1, 1024), Opening(2, 1024)]
    # A time limit that comes before the child hangs gives the same answer.
    found = dry_run(tiny, openings, where, timeout_s=2.0 if kind is Kind.TIMED_OUT else None)
    assert [(f.kind, f.opening) for f in found if isinstance(f, DryRunFailure)] == [(kind, o) for o in openings]
    if kind is Kind.ABORTED:
        assert "SIGABRT" in failure(found).message


def test_an_opening_that_llama_cpp_refuses_leaves_the_others(tiny: GgufHeader) -> None:
    openings = [Opening(1, 1024), Opening(1, 1024, KvType.Q8_0, flash_attention=False), Opening(2, 1024)]
    found = dry_run(tiny, openings)
    assert [type(a) for a in found] == [DryRun, DryRunFailure, DryRun]
    assert failure(found[1:]).kind is Kind.CONTEXT_REFUSED
    assert "requires flash_attn" in failure(found[1:]).message


def test_an_architecture_that_llama_cpp_does_not_know(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", small_metadata("warp"), small_tensors())
    found = failure(dry_run(read_header(path), [Opening(1, 256)]))
    assert found.kind is Kind.UNKNOWN_ARCHITECTURE
    assert "warp" in found.message


def test_a_file_that_llama_cpp_does_not_load(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", small_metadata(), small_tensors())
    found = failure(dry_run(read_header(path), [Opening(1, 256)]))
    assert found.kind is Kind.LOAD_REFUSED
    assert "error loading model" in found.message


def test_a_vocabulary_beyond_the_bound_of_memory(tmp_path: Path) -> None:
    """Twelve million tokens: the child ends, this process does not notice."""
    tokens = 200_000
    metadata = small_metadata(tokens=2) | {
        "tokenizer.ggml.tokens": TypedList(8, [f"{i:x}" * 100 for i in range(tokens)]),
        "tokenizer.ggml.token_type": TypedList(5, [1] * tokens),
    }
    path = write_gguf(tmp_path / "m.gguf", metadata, small_tensors(tokens=tokens))
    found = failure(dry_run(read_header(path), [Opening(1, 256)], memory_bytes=200 * 1024**2))
    assert found.kind in (Kind.ABORTED, Kind.LOAD_REFUSED)


def test_a_context_beyond_the_bound_of_memory(tiny: GgufHeader) -> None:
    found = dry_run(tiny, [Opening(1, 1024), Opening(64, 1 << 24)], memory_bytes=1024**3)
    assert isinstance(found[0], DryRun)
    assert failure(found[1:]).kind in (Kind.ABORTED, Kind.CONTEXT_REFUSED)


def scripted(*records: dict[str, Any], end: ChildEnd | None = None) -> RunChild:
    def run(_module: str, _request: object, on_record: Callable[[dict[str, Any]], None], **_: object) -> ChildEnd:
        for record in records:
            on_record(record)
        return end or ChildEnd(0)

    return run


START = {"kind": "start", "build": "b"}
LOADED = {"kind": "model", "loaded": True}
OPENED = {"kind": "context", "opened": True}


@pytest.mark.parametrize(
    ("run", "kind"),
    [
        (scripted(end=ChildEnd(1, stderr="ModuleNotFoundError: No module named 'llama_cpp'")), Kind.NOT_STARTED),
        (scripted(START, LOADED, OPENED), Kind.NOT_UNDERSTOOD),
        (scripted(START, end=ChildEnd(-9, garbled=True)), Kind.NOT_UNDERSTOOD),
        (scripted(START, LOADED, end=ChildEnd(-11)), Kind.ABORTED),
        (scripted(START, {"kind": "other"}, end=ChildEnd(-9, timed_out=True)), Kind.TIMED_OUT),
    ],
)
def test_every_other_ending_has_a_name(tiny: GgufHeader, run: RunChild, kind: DryRunFailureKind) -> None:
    assert failure(dry_run(tiny, [Opening(1, 256)], run=run)).kind is kind


def test_a_child_that_cannot_be_started(tiny: GgufHeader) -> None:
    def run(*_: object, **__: object) -> ChildEnd:
        raise OSError("no more processes")

    found = failure(dry_run(tiny, [Opening(1, 256)], run=run))
    assert found.kind is Kind.NOT_STARTED
    assert "no more processes" in found.message


def test_more_contexts_than_were_asked_for_are_ignored(tiny: GgufHeader) -> None:
    found = dry_run(tiny, [Opening(1, 256)], run=scripted(START, LOADED, OPENED, OPENED))
    assert len(found) == 1


@pytest.mark.parametrize("count", [0, 101])
def test_the_number_of_openings_is_bounded(tiny: GgufHeader, count: int) -> None:
    with pytest.raises(ValueError, match="openings"):
        dry_run(tiny, [Opening(1, 256)] * count)


def test_the_request_of_a_hundred_openings_is_not_too_long(tiny: GgufHeader) -> None:
    requests: list[dict[str, Any]] = []

    def run(module: str, request: dict[str, Any], on_record: Any, **limits: Any) -> ChildEnd:
        requests.append(request)
        return run_child(module, request, on_record, **limits)

    found = dry_run(tiny, [Opening(1, 256 * (i + 1)) for i in range(100)], run=run)
    assert all(isinstance(a, DryRun) for a in found)
    assert len(requests) == 1


def test_the_largest_model_is_laid_out_in_bounded_memory(tmp_path: Path) -> None:
    from models.catalogue import load_catalogue

    variant = load_catalogue().variant("R1-671B")
    assert variant is not None
    header = read_header(write_variant(tmp_path / "r1.gguf", variant, "Q8_0"))
    answer = one(dry_run(header, [Opening(16, 32_768)], memory_bytes=2 * 1024**3))
    assert answer.on(HOST).model_bytes == variant.quantizations["Q8_0"].tensor_bytes
