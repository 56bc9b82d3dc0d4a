"""Bundles are made whole or not at all, resumed, divided over sticks, signed; and read back range by range."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.bundle.create import (
    CreateOptions,
    Sticks,
    create_bundle,
    source_of_model,
    source_of_path,
)
from models.bundle.errors import (
    BundleSourceChanged,
    BundleStickMissing,
    BundleTargetTooSmall,
    BundleTargetUnusable,
)
from models.bundle.layout import StickSpace
from models.bundle.manifest import BundleManifest, decode
from models.bundle.verify import verify_bundle
from models.bundle.writing import StickWriter, sign_bundle
from models.errors import ModelDamaged
from models.importer import import_gguf, import_path
from models.model_store import ModelStore
from models.types import Catalogue, EngineName
from tests.models.bundle_samples import CHUNK, KEY, KEYS, NOBODY, OTHER_KEY, flip, make_bundle, now
from tests.models.store_samples import write_dense, write_hub_folder, write_set

ROOT = Path(__file__).parents[2]
OPTIONS = CreateOptions(key=KEY, chunk_bytes=CHUNK, now=now)


def into(folder: Path) -> Sticks:
    return Sticks((StickSpace(),), lambda _number, _manifest: folder)


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def test_a_bundle_is_plain_files(tmp_path: Path) -> None:
    made = make_bundle(tmp_path)
    assert names(made.folder) == ["manifest.json", "manifest.json.minisig", "model.gguf"]
    assert made.payload.read_bytes() == made.source.read_bytes()
    manifest = decode((made.folder / "manifest.json").read_bytes())
    assert manifest == made.made.manifest
    assert manifest.id == "big-r1-q8_0"
    assert manifest.model.quantization == "Q8_0"
    assert manifest.hardware.engines == (EngineName.LLAMA_CPP,)
    assert manifest.hardware.weights_bytes < manifest.size_bytes < manifest.hardware.minimum_memory_bytes
    report = verify_bundle([made.folder], KEYS)
    assert report.is_whole
    assert report.signer.owner == "Lab"
    assert {p.name for p in tmp_path.iterdir()} == {"bundle", made.source.name}


def test_a_stored_model_and_its_path_make_the_same_bundle(tmp_path: Path, store: ModelStore) -> None:
    file = write_dense(tmp_path / "Big-R1-Q8_0.gguf", 300_000)
    model = import_gguf(store, file).model
    one = create_bundle(source_of_model(model), into(tmp_path / "one"), options=OPTIONS)
    other = create_bundle(source_of_path(file), into(tmp_path / "other"), options=OPTIONS)
    assert one.manifest == other.manifest


def test_split_gguf_and_safetensors(tmp_path: Path) -> None:
    parts = write_set(tmp_path / "set", 3)
    made = create_bundle(source_of_path(parts[1]), into(tmp_path / "one"), options=OPTIONS)
    assert [f.name for f in made.manifest.files] == [f"model-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    hub = write_hub_folder(tmp_path / "R1-Hub")
    made = create_bundle(source_of_path(hub), into(tmp_path / "other"), options=OPTIONS)
    assert made.manifest.files[0].name == "config.json"
    assert made.manifest.model.format == "safetensors"
    assert EngineName.LLAMA_CPP not in made.manifest.hardware.engines
    assert verify_bundle([tmp_path / "other"], KEYS).is_whole


def test_sticks(tmp_path: Path) -> None:
    made = make_bundle(tmp_path, stick_bytes=600_000)
    assert len(made.made.folders) == 3
    manifests = {(folder / "manifest.json").read_bytes() for folder in made.made.folders}
    assert len(manifests) == 1
    joined = b"".join(
        (f / p.path).read_bytes() for f, p in zip(made.made.folders, parts(made.made.manifest), strict=True)
    )
    assert joined == made.source.read_bytes()
    assert verify_bundle([tmp_path], KEYS).is_whole
    for folder, stick in zip(made.made.folders, made.made.manifest.sticks, strict=True):
        assert sum(p.stat().st_size for p in folder.iterdir()) <= 600_000
        assert stick.size_bytes == sum(p.stat().st_size for p in folder.glob("model*"))


def parts(manifest: BundleManifest) -> list[Any]:
    return [p for f in manifest.files for p in f.parts]


def test_missing_and_mixed_up_sticks_are_named(tmp_path: Path) -> None:
    made = make_bundle(tmp_path, stick_bytes=600_000)
    report = verify_bundle([made.made.folders[2], made.made.folders[0]], KEYS)
    assert [p.path for p in report.missing] == ["model.gguf.part-002"]
    assert not report.is_whole
    assert report.bad == ()


def test_all_sticks_in_one_folder(tmp_path: Path) -> None:
    made = make_bundle(tmp_path, stick_bytes=600_000)
    for folder in made.made.folders[1:]:
        for file in folder.glob("model*"):
            shutil.copy(file, made.folder / file.name)
    assert verify_bundle([made.folder], KEYS).is_whole


def test_every_bad_range_is_named(tmp_path: Path) -> None:
    made = make_bundle(tmp_path)
    size = made.payload.stat().st_size
    flip(made.payload, 0)
    flip(made.payload, 3 * CHUNK + 5)
    flip(made.payload, 4 * CHUNK)
    os.truncate(made.payload, size - 10)
    report = verify_bundle([made.folder], KEYS)
    last = size // CHUNK * CHUNK
    assert [(b.start, b.end) for b in report.bad] == [(0, CHUNK), (3 * CHUNK, 5 * CHUNK), (last, size)]
    assert str(report.bad[0]) == f"model.gguf (stick 1) bytes 0 to {CHUNK:,}: they are not those of the manifest"


def test_a_part_that_is_too_long_is_named(tmp_path: Path) -> None:
    made = make_bundle(tmp_path)
    size = made.payload.stat().st_size
    with made.payload.open("ab") as file:
        file.write(b"more")
    (bad,) = verify_bundle([made.folder], KEYS).bad
    assert (bad.start, bad.end) == (size, size + 4)


def test_a_copy_helps(tmp_path: Path) -> None:
    made = make_bundle(tmp_path)
    other = tmp_path / "copy"
    shutil.copytree(made.folder, other)
    flip(made.payload, 5)
    flip(other / "model.gguf", 2 * CHUNK)
    assert verify_bundle([made.folder, other], KEYS).is_whole
    assert not verify_bundle([made.folder], KEYS).is_whole


def test_signing_later_and_with_another_key(tmp_path: Path) -> None:
    made = make_bundle(tmp_path, key=None, stick_bytes=600_000)
    assert not verify_bundle([tmp_path], KEYS).signer.is_trusted
    with pytest.raises(BundleStickMissing):
        sign_bundle(made.made.folders[:2], KEY, now)
    assert not (made.folder / "manifest.json.minisig").exists()
    assert sign_bundle([tmp_path], KEY, now).signer == KEY.id
    report = verify_bundle([tmp_path], KEYS)
    assert report.is_whole
    assert report.signer.owner == "Lab"
    assert report.manifest.signer == KEY.id
    sign_bundle([tmp_path], OTHER_KEY, now)
    report = verify_bundle([tmp_path], KEYS)
    assert report.signer.key_id == OTHER_KEY.id
    assert not report.signer.is_trusted


def test_what_is_there_is_never_overwritten(tmp_path: Path) -> None:
    file = write_dense(tmp_path / "Big.gguf", 100_000)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.doc").write_text("mine")
    with pytest.raises(BundleTargetUnusable, match="something else is there"):
        create_bundle(source_of_path(file), into(tmp_path / "out"), options=OPTIONS)
    assert names(tmp_path / "out") == ["thesis.doc"]
    with pytest.raises(BundleTargetUnusable):
        create_bundle(source_of_path(file), into(file / "x"), options=OPTIONS)
    (tmp_path / "empty").mkdir()
    create_bundle(source_of_path(file), into(tmp_path / "empty"), options=OPTIONS)


def test_a_bundle_is_no_source(tmp_path: Path) -> None:
    made = make_bundle(tmp_path)
    with pytest.raises(BundleTargetUnusable, match="a bundle already"):
        source_of_path(made.folder)


class Stop(Exception):
    pass


def test_an_interrupted_export_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_dense(tmp_path / "Big-R1-Q8_0.gguf", 600_000)
    size = file.stat().st_size
    target = tmp_path / "usb" / "big"

    def stop(done: int, _total: int) -> None:
        if done > size + size // 2:
            raise Stop

    with pytest.raises(Stop):
        create_bundle(source_of_path(file), into(target), stop, OPTIONS)
    assert not target.exists()
    assert StickWriter.partial_of(target).is_dir()
    written: list[int] = []
    real = os.pwrite

    def count(descriptor: int, data: Any, offset: int) -> int:
        written.append(offset)
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", count)
    later = CreateOptions(key=KEY, chunk_bytes=CHUNK)  # another time of making: the first one's stays
    made = create_bundle(source_of_path(file), into(target), options=later)
    assert made.manifest.created_at == now().isoformat()
    assert 0 < len(written) < 7
    assert verify_bundle([target], KEYS).is_whole
    assert [p.name for p in target.parent.iterdir()] == ["big"]
    written.clear()
    flip(target / "model.gguf", 3 * CHUNK)
    create_bundle(source_of_path(file), into(target), options=later)  # once more repairs what is there
    assert written == [3 * CHUNK]
    assert verify_bundle([target], KEYS).is_whole


def test_half_a_bundle_of_another_model_is_thrown_away(tmp_path: Path) -> None:
    target = tmp_path / "usb" / "big"
    for seed in (1, 2):
        file = write_dense(tmp_path / f"Big{seed}.gguf", 300_000, seed)
        if seed == 1:
            with pytest.raises(Stop):
                create_bundle(source_of_path(file), into(target), stop_at(1_000_000 // 2), OPTIONS)
    create_bundle(source_of_path(file), into(target), options=OPTIONS)
    assert verify_bundle([target], KEYS).is_whole
    assert [p.name for p in target.parent.iterdir()] == ["big"]


def stop_at(size_bytes: int) -> Callable[[int, int], None]:
    def stop(done: int, _total: int) -> None:
        if done > size_bytes:
            raise Stop

    return stop


def test_a_source_that_changes_is_refused(tmp_path: Path) -> None:
    file = write_dense(tmp_path / "Big.gguf", 600_000)
    size = file.stat().st_size
    changed = False

    def meddle(done: int, _total: int) -> None:
        nonlocal changed
        if done >= size and not changed:
            changed = True
            flip(file, size - 1)

    with pytest.raises(BundleSourceChanged):
        create_bundle(source_of_path(file), into(tmp_path / "out"), meddle, OPTIONS)
    assert not (tmp_path / "out").exists()


def test_a_damaged_model_is_not_passed_on(tmp_path: Path, store: ModelStore) -> None:
    model = import_gguf(store, write_dense(tmp_path / "Big.gguf", 300_000)).model
    flip(model.path, 200_000)
    with pytest.raises(ModelDamaged):
        create_bundle(source_of_model(model), into(tmp_path / "out"), options=OPTIONS)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("error", "said"),
    [(errno.ENOSPC, "--stick-size"), (errno.EFBIG, "--fat32"), (errno.EROFS, "switch"), (errno.EIO, "Start it again")],
)
def test_failed_writes_are_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int, said: str) -> None:
    def fail(*_: object) -> int:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "pwrite", fail)
    with pytest.raises(BundleTargetUnusable) as caught:
        make_bundle(tmp_path)
    assert said in str(caught.value.hint)
    assert not (tmp_path / "bundle").exists()


def test_too_small_sticks_are_told_before_anything_is_written(tmp_path: Path) -> None:
    file = write_dense(tmp_path / "Big.gguf", 600_000)
    sticks = Sticks((StickSpace(500_000),), lambda *_: tmp_path / "out")
    with pytest.raises(BundleTargetTooSmall):
        create_bundle(source_of_path(file), sticks, options=OPTIONS)
    assert not (tmp_path / "out").exists()


LIMITED = """
import resource, sys
from pathlib import Path
from models.bundle.create import CreateOptions, Sticks, create_bundle, source_of_path
from models.bundle.errors import BundleTargetUnusable
from models.bundle.layout import StickSpace
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    create_bundle(
        source_of_path(Path(sys.argv[1])), Sticks((StickSpace(),), lambda *_: Path(sys.argv[2])),
        options=CreateOptions(chunk_bytes=65536),
    )
except BundleTargetUnusable as error:
    print(error.hint)
"""


def test_a_file_system_that_takes_no_long_files(tmp_path: Path) -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] != 0
    file = write_dense(tmp_path / "Big.gguf", 600_000)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(file), str(tmp_path / "out")],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "--fat32" in done.stdout
    assert not (tmp_path / "out").exists()


def test_bundles_of_safetensors_carry_the_catalogues_numbers(tmp_path: Path, catalogue: Catalogue) -> None:
    """An 'R1' that no variant is: it stays unnamed, and its own shape counts."""
    hub = write_hub_folder(tmp_path / "DeepSeek-R1-Small")
    made = create_bundle(
        source_of_path(hub), into(tmp_path / "o"), options=CreateOptions(chunk_bytes=CHUNK, catalogue=catalogue)
    )
    assert made.manifest.model.variant is None
    assert made.manifest.hardware.shape.layers == 2
    assert not verify_bundle([tmp_path / "o"], NOBODY).signer.is_trusted


def test_a_bundle_in_the_way_of_a_plain_import_says_what_to_do(tmp_path: Path, store: ModelStore) -> None:
    made = make_bundle(tmp_path)
    seen: list[Path] = []

    def take(_store: ModelStore, path: Path, _progress: object) -> Any:
        seen.append(path)
        return "taken"

    assert import_path(store, made.folder, import_bundle=take) == "taken"  # type: ignore[comparison-overlap]
    assert seen == [made.folder]
