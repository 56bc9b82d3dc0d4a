"""The tiny R1 from 16 bits to what a chip computes, through llama.cpp's own quantizer; and all that is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models import requantize as module
from models.catalogue import load_catalogue
from models.child import ChildEnd, RunChild, run_child
from models.errors import NeedsOtherEngine, NoSpace
from models.gate import Chip, ChipClass, Computes, judge_types
from models.gguf import read_header
from models.importer import import_gguf, import_path
from models.model_store import ModelStore
from models.requantize import PureType, RequantizeFailed, RequantizeRefused, parse_tensor, plan_types, requantize
from models.store_types import DiskBudget
from models.types import InstalledModel
from tests.models.r1_files import write_variant
from tests.models.tiny_r1_files import Q4_K_M, Q8_0, TINY_R1, write_tiny_r1

CATALOGUE = load_catalogue()
DENSE = [v for v in CATALOGUE.variants if v.shape.experts is None]


@pytest.fixture(scope="module")
def f16(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_r1(tmp_path_factory.mktemp("f16") / "Tiny-R1-F16.gguf")


@pytest.fixture
def tiny(store: ModelStore, f16: Path) -> InstalledModel:
    return import_gguf(store, f16).model


def left_over(store: ModelStore) -> list[str]:
    return [p.name for p in (store.root / ".staging").iterdir()]


def test_q8_0_is_what_the_published_way_gives(store: ModelStore, tiny: InstalledModel) -> None:
    seen: list[tuple[int, int]] = []
    made = requantize(store, tiny, PureType.Q8_0, lambda done, total: seen.append((done, total)), threads=1)
    model = made.result.model
    assert (model.id, model.quantization, made.warnings) == ("tiny-r1-q8_0", "Q8_0", ())
    assert made.result.is_new
    assert model.name == tiny.name
    assert store.get("tiny-r1-q8_0") == model
    header = read_header(model.path)
    # The fixture was quantized by the same code from the same numbers.
    fixture = read_header(Q8_0)
    assert {t.name: (t.shape, t.type_name) for t in header.tensors} == {
        t.name: (t.shape, t.type_name) for t in fixture.tensors
    }
    for tensor in header.tensors:
        at = next(t.offset for t in fixture.tensors if t.name == tensor.name)
        assert (
            model.path.read_bytes()[tensor.offset : tensor.offset + tensor.size_bytes]
            == Q8_0.read_bytes()[at : at + tensor.size_bytes]
        )
    assert len(seen) == len(header.tensors)
    assert seen[-1] == (header.tensor_bytes, header.tensor_bytes)
    assert left_over(store) == []


@pytest.mark.parametrize("type_name", ["F16", "BF16"])
def test_q4_0_is_pure_and_the_chip_takes_it(store: ModelStore, tmp_path: Path, type_name: str) -> None:
    source = import_gguf(store, write_tiny_r1(tmp_path / f"Tiny-R1-{type_name}.gguf", type_name)).model
    model = requantize(store, source, PureType.Q4_0, threads=1).result.model
    header = read_header(model.path)
    types = {t.name: t.type_name for t in header.tensors}
    assert types["token_embd.weight"] == types["output.weight"] == "Q8_0"
    assert {t for n, t in types.items() if n.startswith("blk.") and n.endswith("weight") and "norm" not in n} == {
        "Q4_0"
    }
    verdict = judge_types(Chip(ChipClass.ASCEND_910B), header.architecture, header.matrix_types)
    assert verdict.computes is Computes.ON_CARD
    assert store.verify(model.id) == model


def test_the_same_again_is_already_there(store: ModelStore, tiny: InstalledModel) -> None:
    first = requantize(store, tiny, PureType.Q4_0, threads=1).result
    again = requantize(store, tiny, PureType.Q4_0, threads=2).result
    assert (first.is_new, again.is_new) == (True, False)
    assert first.model == again.model
    assert left_over(store) == []


@pytest.mark.parametrize("variant", DENSE, ids=lambda v: v.id)
def test_sizes_of_the_catalogues_models(variant: Any, tmp_path: Path) -> None:
    """The quantizer's own dry run against the published and computed sizes, to the byte."""
    header = read_header(write_variant(tmp_path / "m.gguf", variant, "BF16"))
    for to, name in ((PureType.Q4_0, "Q4_0-pure"), (PureType.Q8_0, "Q8_0")):
        types = plan_types(header, to)
        sizes = {t.name: module.tensor_size(t, types[t.name]) for t in header.tensors}
        expected = variant.quantizations[name]
        assert sum(sizes.values()) == expected.tensor_bytes
        assert sizes["token_embd.weight"] == expected.token_embd_bytes
        assert sizes["output.weight"] == expected.output_bytes


def test_q8_0_is_a_source_with_a_warning(store: ModelStore) -> None:
    source = import_gguf(store, Q8_0).model
    made = requantize(store, source, PureType.Q4_0, threads=1)
    assert "Q8_0" in made.warnings[0]
    with pytest.raises(RequantizeRefused, match="already"):
        requantize(store, source, PureType.Q8_0)


def test_k_quants_are_refused_unless_forced(store: ModelStore) -> None:
    source = import_gguf(store, Q4_K_M).model
    with pytest.raises(RequantizeRefused, match="Q4_K, Q6_K") as caught:
        requantize(store, source, PureType.Q8_0)
    assert "twice" in caught.value.message
    assert caught.value.hint is not None
    assert "--force" in caught.value.hint
    assert [m.id for m in store.list().models] == [source.id]
    made = requantize(store, source, PureType.Q8_0, force=True, threads=1)
    assert "lost twice" in made.warnings[0]
    assert read_header(made.result.model.path).matrix_types == {"Q8_0"}


def test_other_formats_are_for_other_engines(store: ModelStore) -> None:
    source = import_path(store, TINY_R1 / "hf").model
    with pytest.raises(NeedsOtherEngine):
        requantize(store, source, PureType.Q8_0)


def test_without_room_nothing_begins(store: ModelStore, tiny: InstalledModel, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs

    def full(path: Any) -> os.statvfs_result:
        return os.statvfs_result((*real(path)[:3], 0, 0, *real(path)[5:]))

    monkeypatch.setattr(os, "statvfs", full)
    asked: list[str] = []

    def run(child: str, request: dict[str, Any], *rest: Any, **limits: Any) -> ChildEnd:
        asked.append("dry" if request["dry_run"] else "real")
        return run_child(child, request, *rest, **limits)

    with pytest.raises(NoSpace):
        requantize(store, tiny, PureType.Q8_0, run=run)
    assert asked == ["dry"]
    assert left_over(store) == []


def test_room_for_the_result_once_is_enough(tmp_path: Path, f16: Path) -> None:
    store = ModelStore(tmp_path / "narrow")
    tiny = import_gguf(store, f16).model
    result_bytes = Q8_0.stat().st_size
    narrow = ModelStore(store.root, budget=DiskBudget(max_bytes=store.usage().used_bytes + result_bytes * 11 // 10))
    made = requantize(narrow, tiny, PureType.Q8_0, threads=1).result.model
    assert made.size_bytes == pytest.approx(result_bytes, rel=0.05)
    assert narrow.verify(made.id) == made
    assert made.provenance is not None
    assert (made.provenance.kind, made.provenance.name) == ("file", f"{tiny.name}-Q8_0.gguf")
    assert left_over(narrow) == []


def test_interrupted_it_leaves_nothing(store: ModelStore, tiny: InstalledModel) -> None:
    def interrupt(done: int, _total: int) -> None:
        raise KeyboardInterrupt(done)

    with pytest.raises(KeyboardInterrupt):
        requantize(store, tiny, PureType.Q8_0, interrupt, threads=1)
    assert left_over(store) == []
    assert [m.id for m in store.list().models] == [tiny.id]


DIE = """
import os, signal, sys
from pathlib import Path
from models.model_store import ModelStore
from models.requantize import PureType, requantize
store = ModelStore(Path(sys.argv[1]))
def die(done, total):
    print(done, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
requantize(store, store.get(sys.argv[2]), PureType.Q8_0, die, threads=1)
"""


def test_killed_it_is_cleaned_when_the_store_is_opened(store: ModelStore, tiny: InstalledModel) -> None:
    """The process with the store dies after the first tensor, as in a power cut."""
    words = [sys.executable, "-c", DIE, str(store.root), tiny.id]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, bool(done.stdout)) == (-signal.SIGKILL, True), done.stderr
    again = ModelStore(store.root)
    assert left_over(again) == []
    assert [m.id for m in again.list().models] == [tiny.id]


Change = Callable[[dict[str, Any]], dict[str, Any] | None]


def changed(change: Change, *, action: str, end: ChildEnd | None = None) -> RunChild:
    """The real child whose records are changed (or dropped) on the way for one action."""

    def run(child: str, request: dict[str, Any], on_record: Callable[[Any], None], **limits: Any) -> ChildEnd:
        kind = "dry" if request.get("dry_run") else request["action"]
        if kind != action:
            return run_child(child, request, on_record, **limits)

        def pass_on(record: dict[str, Any]) -> None:
            new = change(record)
            if new is not None:
                on_record(new)

        ended = run_child(child, request, pass_on, **limits)
        return end or ended

    return run


def drop(record: dict[str, Any]) -> None:
    del record


@pytest.mark.parametrize(
    ("run", "problem"),
    [
        (changed(drop, action="dry", end=ChildEnd(-6, stderr="GGML_ASSERT(x) failed\n  more")), "SIGABRT: GGML_ASSERT"),
        (changed(lambda r: r if r["kind"] != "log" else None, action="dry"), "says nothing of"),
        (changed(lambda r: {**r, "code": 1}, action="quantize"), "llama.cpp ended with exit code 0"),
        (changed(drop, action="quantize", end=ChildEnd(-9, timed_out=True)), "said nothing for too long"),
        (changed(drop, action="generate", end=ChildEnd(-11)), "does not load: llama.cpp ended with killed by SIGSEGV"),
        (changed(lambda r: {**r, "finite": False}, action="generate"), "NaN or infinite"),
        (changed(lambda r: {**r, "tokens": []}, action="generate"), "computes nothing"),
        (changed(lambda r: {**r, "loaded": False}, action="generate"), "does not load"),
    ],
)
def test_what_does_not_pass_is_not_kept(store: ModelStore, tiny: InstalledModel, run: RunChild, problem: str) -> None:
    with pytest.raises(RequantizeFailed) as caught:
        requantize(store, tiny, PureType.Q8_0, threads=1, run=run)
    assert problem in caught.value.message
    assert left_over(store) == []
    assert [m.id for m in store.list().models] == [tiny.id]


def test_a_result_with_another_type_is_not_kept(store: ModelStore, tiny: InstalledModel) -> None:
    """The quantizer says one thing in its dry run and does another."""

    def other(record: dict[str, Any]) -> dict[str, Any]:
        return {**record, "text": record["text"].replace("(q8_0)", "(q4_0)")} if record["kind"] == "log" else record

    with pytest.raises(RequantizeFailed, match=r"'Q8_0', .* instead of .*'Q4_0'"):
        requantize(store, tiny, PureType.Q8_0, threads=1, run=changed(other, action="dry"))
    assert left_over(store) == []


def test_a_child_that_cannot_be_started(store: ModelStore, tiny: InstalledModel) -> None:
    def run(*_: object, **__: object) -> ChildEnd:
        raise OSError("no more processes")

    with pytest.raises(RequantizeFailed, match="no more processes"):
        requantize(store, tiny, PureType.Q8_0, run=run)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "[   5/ 339] blk.0.attn_k.weight - [1536, 256, 1, 1], type =   bf16, size =  0.75 MiB ->  0.21 MiB (q4_0)",
            ("blk.0.attn_k.weight", "Q4_0"),
        ),
        (
            "[ 5/339] blk.0.attn_k.weight - [1536, 256, 1, 1], type = f16, converting to q8_0 .. size = 0.75 MiB",
            ("blk.0.attn_k.weight", "Q8_0"),
        ),
        (
            "[   2/ 339] output_norm.weight - [  1536, 1, 1, 1], type =    f32, size =    0.006 MiB",
            ("output_norm.weight", "F32"),
        ),
        ("[1/2] x - [1, 1, 1, 1], type = f16, converting to q9_z .. size = 1 MiB", ("x", "q9_z")),
        ("warning: blk.0.attn_k_b.weight - ncols 128 not divisible by 256", None),
        ("[1/2] no tensor at all", None),
    ],
)
def test_lines_of_the_quantizer(line: str, expected: tuple[str, str] | None) -> None:
    found = parse_tensor(line)
    assert (None if found is None else (found.name, found.type_name)) == expected
