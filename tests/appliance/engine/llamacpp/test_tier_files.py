"""Files of blocks: what is written is read back, and nothing that was touched, cut or made elsewhere is."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.engine.llamacpp.tier_blocks import block_key
from appliance.engine.llamacpp.tier_files import (
    MAGIC,
    SECRET_BYTES,
    BadBlockFile,
    BlockFiles,
    BlockHeader,
    load_secret,
)

TOKENS = [5, 6, 7, 2**31 - 1]
DATA = np.arange(3000, dtype=np.uint32).view(np.uint8)
HEADER = BlockHeader(b"", TOKENS, len(DATA))
KEY = block_key(b"", TOKENS)
SECRET = bytes(range(SECRET_BYTES))


def files(folder: Path, identity: bytes = b"model", secret: bytes = SECRET) -> BlockFiles:
    return BlockFiles(folder, identity, secret)


def written(folder: Path) -> Path:
    files(folder).write(KEY, HEADER, DATA)
    return files(folder).path(KEY)


def test_what_is_written_is_read_back_and_is_private(tmp_path: Path) -> None:
    path = written(tmp_path)
    assert bytes(files(tmp_path).read(KEY)) == bytes(DATA)
    assert files(tmp_path).read_header(path) == HEADER
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert bytes(DATA[:64]) not in path.read_bytes()
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_large_block_goes_in_pieces(tmp_path: Path) -> None:
    data = np.random.default_rng(1).integers(0, 255, 5 * 2**20 + 77, np.uint8)
    files(tmp_path).write(KEY, BlockHeader(b"", TOKENS, len(data)), data)
    assert bytes(files(tmp_path).read(KEY)) == bytes(data)


def test_the_same_block_is_sealed_differently_each_time(tmp_path: Path) -> None:
    assert written(tmp_path).read_bytes() != written(tmp_path).read_bytes()


@pytest.mark.parametrize("other", [{"identity": b"other"}, {"secret": bytes(SECRET_BYTES)}])
def test_another_model_or_key_opens_nothing(tmp_path: Path, other: dict[str, bytes]) -> None:
    path = written(tmp_path)
    with pytest.raises(BadBlockFile):
        files(tmp_path, **other).read_header(path)
    # Also under the name that it would have there.
    path.rename(files(tmp_path, **other).path(KEY))
    with pytest.raises(BadBlockFile):
        files(tmp_path, **other).read(KEY)


def test_a_renamed_file_does_not_open(tmp_path: Path) -> None:
    path = written(tmp_path)
    other = block_key(b"", [1])
    path.rename(files(tmp_path).path(other))
    with pytest.raises(BadBlockFile):
        files(tmp_path).read(other)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_done_to_a_file_it_is_refused(tmp_path: Path, data: st.DataObject) -> None:
    path = written(tmp_path)
    whole = bytearray(path.read_bytes())
    match data.draw(st.sampled_from(["flip", "cut", "grow", "zero", "noise"])):
        case "flip":
            whole[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        case "cut":
            del whole[data.draw(st.integers(0, len(whole) - 1)) :]
        case "grow":
            whole += data.draw(st.binary(min_size=1, max_size=50))
        case "zero":
            start = data.draw(st.integers(0, len(whole) - 1))
            whole[start:] = bytes(len(whole) - start)
        case _:
            whole = bytearray(data.draw(st.sampled_from([b"", MAGIC])) + data.draw(st.binary(max_size=200)))
    path.write_bytes(whole)
    with pytest.raises(BadBlockFile):
        files(tmp_path).read(KEY)


@pytest.mark.parametrize(
    "header",
    [
        BlockHeader(b"", [], len(DATA)),
        BlockHeader(b"", [-1], len(DATA)),
        BlockHeader(b"", [2**31], len(DATA)),
        BlockHeader(b"", [1] * 257, len(DATA)),
        BlockHeader(b"short", [1], len(DATA)),
        BlockHeader(b"", [1], len(DATA) + 1),
    ],
)
def test_a_header_that_contradicts_itself_is_refused_even_with_the_right_key(
    tmp_path: Path, header: BlockHeader
) -> None:
    files(tmp_path).write(KEY, header, DATA)
    with pytest.raises(BadBlockFile):
        files(tmp_path).read(KEY)


def test_links_are_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    written(tmp_path).rename(target)
    files(tmp_path).path(KEY).symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"):
        files(tmp_path).read(KEY)


def test_a_write_that_fails_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        files(tmp_path).write(KEY, HEADER, None)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_the_secret_is_made_once_and_for_this_user(tmp_path: Path) -> None:
    path = tmp_path / "state" / "key"
    secret = load_secret(path)
    assert (len(secret), load_secret(path)) == (SECRET_BYTES, secret)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]
    path.write_bytes(b"no key")
    assert load_secret(path) not in (secret, b"no key")
