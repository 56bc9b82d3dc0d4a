"""Split sets: found from any part, checked over all parts, readable by llama.cpp's own naming."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from models.errors import (
    CorruptHeader,
    GgufTruncated,
    ImportSourceUnreadable,
    ModelError,
    NeedsOtherEngine,
    SplitSetIncomplete,
    SplitSetInconsistent,
)
from models.gguf import read_header
from models.gguf_set import combine, installed_header, part_name, parts_of, prefix_of, set_name
from models.importer import check_model_file, display_name, import_gguf, import_path
from models.model_store import ModelStore
from tests.fakes.gguf_writer import small_tensors, write_gguf, write_small
from tests.models.store_samples import split_gguf, write_hub_folder, write_set

TINY_R1 = Path(__file__).parents[1] / "fixtures" / "tiny_r1" / "gguf" / "Tiny-R1-Q8_0.gguf"


@pytest.mark.parametrize("given", [1, 2, 3])
def test_any_part_brings_the_whole_set(store: ModelStore, tmp_path: Path, given: int) -> None:
    parts = write_set(tmp_path / "stick", 3, prefix="DeepSeek-R1-Q8_0")
    result = import_gguf(store, parts[given - 1])
    model = result.model
    whole = read_header(write_small(tmp_path / "whole.gguf"))
    assert model.id == "deepseek-r1-q8_0"
    assert model.name == "DeepSeek-R1"
    assert [f.name for f in model.files] == [f"model-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    assert model.path == model.files[0].path
    assert model.size_bytes == sum(p.stat().st_size for p in parts)
    assert model.parameters == whole.parameters
    assert [f.path.read_bytes() for f in model.files] == [p.read_bytes() for p in parts]
    assert store.verify(model.id) == model
    assert model.source == parts[given - 1].name


def test_the_stored_set_reads_as_one_header(store: ModelStore, tmp_path: Path) -> None:
    model = import_path(store, write_set(tmp_path / "stick", 4)[2].parent).model
    header = installed_header(model)
    whole = read_header(write_small(tmp_path / "whole.gguf"))
    assert {(t.name, t.shape, t.size_bytes) for t in header.tensors} == {
        (t.name, t.shape, t.size_bytes) for t in whole.tensors
    }
    assert header.parameters == whole.parameters
    assert header.file_bytes == model.size_bytes
    assert header.shape() == whole.shape()
    single = import_gguf(store, tmp_path / "whole.gguf").model
    assert installed_header(single).tensors == read_header(single.path).tensors


def test_llama_cpp_is_given_its_own_names() -> None:
    # llama_split_path in llama.cpp: "%s-%05d-of-%05d.gguf"
    assert part_name("model", 1, 3) == "model-00001-of-00003.gguf"
    assert set_name("a-00001-of-00003.gguf") == set_name("a-00003-of-00003.gguf")
    assert len({set_name(n) for n in ("a-00001-of-00003.gguf", "a-00001-of-00002.gguf", "b-00001-of-00003.gguf")}) == 3
    assert set_name("a.gguf") is None
    assert prefix_of("a-Q8_0-00001-of-00003.gguf") == "a-Q8_0"
    assert prefix_of("a-Q8_0.gguf") == "a-Q8_0"


def test_a_set_of_one_is_a_single_file(store: ModelStore, tmp_path: Path) -> None:
    (part,) = write_set(tmp_path, 1)
    model = import_gguf(store, part).model
    assert [f.name for f in model.files] == ["model.gguf"]
    assert display_name(read_header(part)) == "Big-R1"


def test_a_large_set(store: ModelStore, tmp_path: Path) -> None:
    tensors = [*small_tensors(), *((f"blk.1.extra.{n}.weight", (32, 8), "Q8_0") for n in range(60))]
    parts = write_set(tmp_path / "many", 40, tensors=tensors)
    model = import_gguf(store, parts[39]).model
    assert len(model.files) == 40
    assert len(installed_header(model).tensors) == len(tensors)


def test_missing_parts_are_named(store: ModelStore, tmp_path: Path) -> None:
    parts = write_set(tmp_path, 9)
    for number in (2, 5):
        parts[number - 1].unlink()
    with pytest.raises(SplitSetIncomplete) as caught:
        import_gguf(store, parts[8])
    assert caught.value.details["missing"] == ["Big-R1-00002-of-00009.gguf", "Big-R1-00005-of-00009.gguf"]
    assert "Big-R1-00005-of-00009.gguf" in caught.value.message
    assert store.list().models == ()


Changes = dict[int, dict[str, Any]]
BAD_SETS: dict[str, tuple[Changes, type[ModelError], str]] = {
    "two of the same": ({2: {"split.no": 0}}, SplitSetInconsistent, "instead of part 2 of 3"),
    "of another set": ({2: {"split.count": 5}}, SplitSetInconsistent, "instead of part 2 of 3"),
    "no part": ({3: {"split.count": None}}, SplitSetInconsistent, "no part of a set"),
    "tensors counted otherwise": ({3: {"split.tensors.count": 3}}, SplitSetInconsistent, "counts other tensors"),
    "too few tensors": ({n: {"split.tensors.count": 99} for n in (1, 2, 3)}, SplitSetInconsistent, "promises 99"),
    "another model": ({2: {"general.architecture": "llama"}}, SplitSetInconsistent, "another architecture"),
    "too many parts": ({n: {"split.count": 60_000} for n in (1, 2, 3)}, SplitSetInconsistent, "60,000 parts"),
    "number is text": ({1: {"split.no": "one"}}, CorruptHeader, "split.no"),
}


@pytest.mark.parametrize("case", BAD_SETS)
def test_parts_that_do_not_fit_are_refused(store: ModelStore, tmp_path: Path, case: str) -> None:
    changes, error, said = BAD_SETS[case]
    parts = write_set(tmp_path, 3, changes=changes)
    with pytest.raises(error) as caught:
        import_gguf(store, parts[0])
    assert said in caught.value.message
    assert store.list().models == ()
    assert list((store.root / ".staging").iterdir()) == []


def test_a_renamed_part_is_refused_with_the_name_it_should_have(store: ModelStore, tmp_path: Path) -> None:
    parts = write_set(tmp_path, 2)
    for name, said in (("weights.gguf", "NAME-00002-of-00002.gguf"), ("Big-R1-00001-of-00003.gguf", "something else")):
        renamed = parts[1].rename(tmp_path / name)
        with pytest.raises(SplitSetInconsistent, match=said):
            import_gguf(store, renamed)
        parts[1] = renamed


def test_a_tensor_in_two_parts_is_refused(tmp_path: Path) -> None:
    parts = write_set(tmp_path, 2, changes={n: {"split.tensors.count": 16} for n in (1, 2)})
    parts[1].write_bytes(parts[0].read_bytes())
    metadata = {"split.no": 1, "split.count": 2, "split.tensors.count": 16}
    write_gguf(parts[1], metadata, small_tensors()[::2])
    with pytest.raises(CorruptHeader, match="two parts"):
        combine([read_header(p) for p in parts])


def test_a_cut_part_is_named(store: ModelStore, tmp_path: Path) -> None:
    parts = write_set(tmp_path, 3)
    parts[2].write_bytes(parts[2].read_bytes()[:-40])
    with pytest.raises(GgufTruncated, match="00003-of-00003"):
        import_gguf(store, parts[0])


def test_parts_that_are_links_are_refused(store: ModelStore, tmp_path: Path) -> None:
    parts = write_set(tmp_path / "set", 2)
    target = parts[1].rename(tmp_path / "elsewhere.gguf")
    parts[1].symlink_to(target)
    with pytest.raises(ImportSourceUnreadable, match="link"):
        import_gguf(store, parts[0])


def test_check_model_file_sees_the_whole_set(tmp_path: Path) -> None:
    parts = write_set(tmp_path, 3)
    assert check_model_file(parts[1]).parameters == read_header(write_small(tmp_path / "w.gguf")).parameters
    assert parts_of(parts[1], read_header(parts[1])) == tuple(parts)
    assert parts_of(tmp_path / "w.gguf", read_header(tmp_path / "w.gguf")) == (tmp_path / "w.gguf",)


def test_other_forms_are_not_for_llama_cpp(store: ModelStore, tmp_path: Path) -> None:
    model = import_path(store, write_hub_folder(tmp_path / "hub")).model
    with pytest.raises(NeedsOtherEngine, match="vLLM"):
        installed_header(model)


ANSWER = """
import sys
import llama_cpp

model = llama_cpp.Llama(sys.argv[1], n_ctx=64, n_threads=1, verbose=False, seed=1)
print(model.create_completion("2 + 2 =", max_tokens=8, temperature=0.0)["choices"][0]["text"].encode().hex())
"""


def test_llama_cpp_loads_the_stored_set_and_answers_as_the_whole_file(store: ModelStore, tmp_path: Path) -> None:
    model = import_path(store, split_gguf(TINY_R1, tmp_path / "stick", 3)[2]).model
    assert installed_header(model).parameters == read_header(TINY_R1).parameters

    def answer(path: Path) -> str:
        command = [sys.executable, "-c", ANSWER, str(path)]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout

    assert answer(model.path) == answer(TINY_R1) != ""
