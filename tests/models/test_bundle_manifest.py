"""The manifest: strict, bounded, and no name or number in it is believed before it was looked at."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.bundle.errors import BundleManifestInvalid
from models.bundle.manifest import (
    MAX_CHUNKS,
    MAX_MANIFEST_BYTES,
    BundleManifest,
    decode,
    encode,
    is_safe_path,
)
from tests.models.bundle_samples import CHUNK, KEY, make_bundle

MIB = 1024**2


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    made = make_bundle(tmp_path_factory.mktemp("b"), stick_bytes=900_000, max_file_bytes=4 * CHUNK)
    return encode(made.made.manifest)


def changed(raw: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    value = json.loads(raw)
    change(value)
    return json.dumps(value).encode()


def test_what_is_written_is_read_again(raw: bytes) -> None:
    manifest = decode(raw)
    assert encode(manifest) == raw
    assert manifest.schema == 1
    assert manifest.signer == KEY.id
    assert manifest.created_at == "2026-03-01T12:00:00+00:00"
    assert len(manifest.files[0].parts) > 2
    assert sum(s.size_bytes for s in manifest.sticks) == manifest.size_bytes
    assert manifest.stick_name(1) == f"stick 1 of {len(manifest.sticks)} ({manifest.id}-1)"


def test_content_is_what_is_carried_and_not_how(raw: bytes) -> None:
    manifest = decode(raw)
    other = decode(changed(raw, lambda m: m.update(signer=None, created_at="2027-01-01T00:00:00+00:00", name="X")))
    assert other.content_sha256 == manifest.content_sha256
    hashes = changed(raw, lambda m: m["files"][0]["chunks"].__setitem__(0, "0" * 64))
    assert decode(hashes).content_sha256 != manifest.content_sha256


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd", "../up", "a/../../b", "..", ".", "", "a//b", "a/", "/", "a/b/c/d", "a\\b", "c:evil", "a\0b",
        "a b", "a\nb", "~root", "-rf", ".hidden", "a/.hidden", "CON", "con.gguf", "nul", "a/Aux.txt", "COM1",
        "lpt9.gguf", "dot.", "a./b", "manifest.json", "MANIFEST.json", "manifest.json.minisig", "Manifest.JSON.minisig",
        "ü", "a*", "a?", 'a"', "a|b", "a<b", "x" * 129, "模型",
    ],
)  # fmt: skip
def test_paths_that_are_refused(raw: bytes, path: str) -> None:
    assert not is_safe_path(path)
    with pytest.raises(BundleManifestInvalid):
        decode(changed(raw, lambda m: m["files"][0]["parts"][0].update(path=path)))


@pytest.mark.parametrize("path", ["model.gguf", "a/b", "a/b/c.gguf", "model.gguf.part-001", "console", "com10", "_x"])
def test_paths_that_are_taken(raw: bytes, path: str) -> None:
    assert is_safe_path(path)
    assert decode(changed(raw, lambda m: m["files"][0]["parts"][0].update(path=path))).files[0].parts[0].path == path


@given(path=st.text(max_size=60))
def test_no_safe_path_leaves_its_folder(path: str) -> None:
    if is_safe_path(path):
        assert Path("/stick/bundle", path).resolve().is_relative_to("/stick/bundle")
        assert path.isascii()
        assert path.count("/") <= 2


WRONG: dict[str, Callable[[dict[str, Any]], object]] = {
    "schema 2": lambda m: m.update(schema=2),
    "no schema": lambda m: m.pop("schema"),
    "schema text": lambda m: m.update(schema="1"),
    "unknown field": lambda m: m.update(evil=1),
    "unknown field in a file": lambda m: m["files"][0].update(evil=1),
    "missing field": lambda m: m["files"][0].pop("sha256"),
    "no files": lambda m: m.update(files=[]),
    "id with a slash": lambda m: m.update(id="../x"),
    "id empty": lambda m: m.update(id=""),
    "name steers a terminal": lambda m: m.update(name="a\x1b[2J"),
    "name is blank": lambda m: m.update(name="  "),
    "name too long": lambda m: m.update(name="a" * 201),
    "time": lambda m: m.update(created_at="yesterday"),
    "signer": lambda m: m.update(signer="Lab"),
    "file name": lambda m: m["files"][0].update(name="../model.gguf"),
    "not named as a gguf": lambda m: m["files"][0].update(name="other.gguf"),
    "negative size": lambda m: m["files"][0].update(size_bytes=-1),
    "size beyond sense": lambda m: m["files"][0].update(size_bytes=2**60),
    "size is a float": lambda m: m["files"][0].update(size_bytes=1.5),
    "size does not agree": lambda m: m["files"][0].update(size_bytes=m["files"][0]["size_bytes"] + 1),
    "sha256 too short": lambda m: m["files"][0].update(sha256="ab"),
    "sha256 in capitals": lambda m: m["files"][0].update(sha256="A" * 64),
    "chunks missing": lambda m: m["files"][0]["chunks"].pop(),
    "chunks too many": lambda m: m["files"][0]["chunks"].append("0" * 64),
    "chunk size 0": lambda m: m["files"][0].update(chunk_bytes=0),
    "chunk size huge": lambda m: m["files"][0].update(chunk_bytes=2**40),
    "chunk size tiny": lambda m: m["files"][0].update(chunk_bytes=1),
    "no parts": lambda m: m["files"][0].update(parts=[]),
    "too many parts": lambda m: m["files"][0].update(
        parts=[{"path": f"p{n}", "size_bytes": 0, "stick": 1} for n in range(400)]
    ),
    "part within a chunk": lambda m: [
        m["files"][0]["parts"][n].update(size_bytes=m["files"][0]["parts"][n]["size_bytes"] + d)
        for n, d in ((0, 1), (1, -1))
    ],
    "part twice": lambda m: m["files"][0]["parts"][1].update(path=m["files"][0]["parts"][0]["path"]),
    "part twice in other letters": lambda m: m["files"][0]["parts"][1].update(
        path=m["files"][0]["parts"][0]["path"].upper()
    ),
    "file and folder": lambda m: m["files"][0]["parts"][1].update(path=m["files"][0]["parts"][0]["path"] + "/x"),
    "stick 0": lambda m: m["files"][0]["parts"][0].update(stick=0),
    "stick 99": lambda m: m["files"][0]["parts"][0].update(stick=99),
    "no sticks": lambda m: m.update(sticks=[]),
    "sticks renumbered": lambda m: m["sticks"][0].update(number=7),
    "stick sizes": lambda m: m["sticks"][0].update(size_bytes=1),
    "stick name": lambda m: m["sticks"][0].update(name="a\x1b[0m"),
    "engine": lambda m: m["hardware"].update(engines=["rm -rf"]),
    "no engine": lambda m: m["hardware"].update(engines=[]),
    "weights": lambda m: m["hardware"].update(weights_bytes=1),
    "layer larger than all": lambda m: m["hardware"].update(largest_layer_bytes=m["hardware"]["repeating_bytes"] + 1),
    "layer smaller than the mean": lambda m: m["hardware"].update(largest_layer_bytes=1),
    "too many layers": lambda m: m["hardware"]["shape"].update(layers=10**9),
    "no heads": lambda m: m["hardware"]["shape"].update(heads=0),
    "endless vocabulary": lambda m: m["hardware"]["shape"].update(vocab_size=2**40),
    "tensor type": lambda m: m["hardware"].update(matrix_types=["\x1b"]),
    "format": lambda m: m["model"].update(format="pickle"),
    "profile": lambda m: m["model"].update(profile="evil"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_manifests(raw: bytes, case: str) -> None:
    with pytest.raises(BundleManifestInvalid) as caught:
        decode(changed(raw, WRONG[case]))
    assert caught.value.hint
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"{}", b"\0" * 100, b'{"schema": 1}'])
def test_what_is_no_manifest(text: bytes) -> None:
    with pytest.raises(BundleManifestInvalid):
        decode(text)


def _nested(raw: bytes) -> bytes:
    return b'{"schema":1,"files":' + b"[" * 5_000_000


HUGE: dict[str, Callable[[bytes], bytes]] = {
    "too long": lambda raw: b" " * (MAX_MANIFEST_BYTES + 1),
    "nested": _nested,
    "nested before the schema": lambda raw: b'{"x":' + b"[" * 5_000_000,
    "many chunks": lambda raw: changed(raw, lambda m: m["files"][0].update(chunks=["0" * 64] * (MAX_CHUNKS + 1))),
    "many short chunks": lambda raw: changed(raw, lambda m: m["files"][0].update(chunks=["0"] * 5_000_000)),
    "many files": lambda raw: changed(raw, lambda m: m.update(files=m["files"][:1] * 5_000)),
    "many parts": lambda raw: changed(
        raw, lambda m: m["files"][0].update(parts=[{"path": "a", "size_bytes": 1, "stick": 1}] * 600_000)
    ),
    "many sticks": lambda raw: changed(
        raw, lambda m: m.update(sticks=[{"number": 1, "name": "a", "size_bytes": 1}] * 500_000)
    ),
    "long string": lambda raw: changed(raw, lambda m: m.update(name="a" * 20 * MIB)),
    "big number": lambda raw: b'{"schema":1' + b"0" * 20 * MIB + b"}",
}


@pytest.mark.parametrize("case", HUGE)
def test_hostile_manifests_cost_bounded_memory(raw: bytes, case: str) -> None:
    text = HUGE[case](raw)
    tracemalloc.start()
    try:
        with pytest.raises(BundleManifestInvalid):
            decode(text)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 200 * MIB


def test_the_largest_r1_has_a_small_manifest(raw: bytes) -> None:
    """713 GB of BF16 in chunks of 16 MiB."""
    chunk, size = 16 * MIB, 713_000_000_000
    count = -(-size // chunk)
    value = json.loads(raw)
    file = value["files"][0]
    file |= {"size_bytes": size, "chunk_bytes": chunk, "chunks": ["a" * 64] * count}
    file["parts"] = [{"path": "model.gguf", "size_bytes": size, "stick": 1}]
    value["sticks"] = [{"number": 1, "name": "one", "size_bytes": size}]
    manifest = decode(json.dumps(value).encode())
    assert len(encode(manifest)) < 4 * MIB


@given(data=st.data())
def test_no_change_breaks_the_reader(raw: bytes, data: st.DataObject) -> None:
    """Any value anywhere replaced by any other: read as something valid, or refused as typed."""
    value = json.loads(raw)
    places: list[tuple[Any, Any]] = []

    def walk(inside: Any) -> None:
        items = inside.items() if isinstance(inside, dict) else enumerate(inside) if isinstance(inside, list) else ()
        for key, child in items:
            places.append((inside, key))
            walk(child)

    walk(value)
    inside, key = data.draw(st.sampled_from(places))
    inside[key] = data.draw(
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(-(2**70), 2**70),
            st.floats(allow_nan=False, allow_infinity=False),
            st.text(max_size=80),
            st.just([]),
            st.just({}),
            st.sampled_from([inside[key]]),
        )
    )
    try:
        manifest = decode(json.dumps(value).encode())
    except BundleManifestInvalid:
        return
    assert isinstance(manifest, BundleManifest)
    assert decode(encode(manifest)) == manifest
    assert all(is_safe_path(p.path) for f in manifest.files for p in f.parts)


@given(text=st.binary(max_size=300))
def test_no_bytes_break_the_reader(text: bytes) -> None:
    with pytest.raises(BundleManifestInvalid):
        decode(text)


def test_a_manifest_that_nobody_would_read_is_not_written(raw: bytes) -> None:
    with pytest.raises(BundleManifestInvalid):
        encode(msgspec.structs.replace(decode(raw), id="../x"))
