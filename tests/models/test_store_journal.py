"""The chunk journal: whatever is cut off or torn, every line that is believed is true."""

from __future__ import annotations

import os
import random
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.store_journal import ChunkJournal, ChunkMismatch
from tests.models.killed_imports import CHUNK_BYTES, kill_resumes

CHUNK = 100
DATA = random.Random(7).randbytes(950)


def piece(number: int) -> bytes:
    return DATA[number * CHUNK : (number + 1) * CHUNK]


def journal(folder: Path, size: int = len(DATA), chunk: int = CHUNK) -> ChunkJournal:
    return ChunkJournal(folder / "data", folder / "journal", size, chunk)


def fill(folder: Path, numbers: list[int]) -> None:
    with journal(folder) as chunks:
        for number in numbers:
            chunks.write(number, piece(number))


def test_chunks_in_any_order_make_the_file(tmp_path: Path) -> None:
    fill(tmp_path, [9, 0, 4])
    with journal(tmp_path) as chunks:
        assert chunks.missing() == [1, 2, 3, 5, 6, 7, 8]
        assert chunks.done_bytes == 250
        assert chunks.span(9) == (900, 50)
        with pytest.raises(ValueError, match="7 chunks"):
            chunks.hashes()
        for number in chunks.missing():
            chunks.write(number, piece(number), sha256(piece(number)).hexdigest())
        assert chunks.hashes() == tuple(sha256(piece(n)).hexdigest() for n in range(10))
        assert chunks.recheck() == []
    assert (tmp_path / "data").read_bytes() == DATA


def test_what_is_not_as_promised_is_not_written(tmp_path: Path) -> None:
    with journal(tmp_path) as chunks:
        with pytest.raises(ChunkMismatch, match="chunk 3"):
            chunks.write(3, piece(4), sha256(piece(3)).hexdigest())
        for number, data in ((0, b"short"), (9, piece(0)), (0, b"")):
            with pytest.raises(ValueError, match="bytes"):
                chunks.write(number, data)
        for number in (-1, 10):
            with pytest.raises(IndexError):
                chunks.write(number, piece(0))
        assert chunks.missing() == list(range(10))
    assert (tmp_path / "data").read_bytes() == bytes(950)


def test_a_dropped_chunk_is_missing_after_a_restart_too(tmp_path: Path) -> None:
    fill(tmp_path, [1, 2])
    with journal(tmp_path) as chunks:
        chunks.drop(1)
        assert chunks.missing() == [0, 1, *range(3, 10)]
    with journal(tmp_path) as chunks:
        assert chunks.missing() == [0, 1, *range(3, 10)]
        chunks.write(1, piece(1))
    with journal(tmp_path) as chunks:
        assert chunks.missing() == [0, *range(3, 10)]


def test_recheck_drops_what_the_disk_lost(tmp_path: Path) -> None:
    fill(tmp_path, list(range(10)))
    with (tmp_path / "data").open("r+b") as file:
        file.seek(420)
        file.write(b"\0" * 200)
    with journal(tmp_path) as chunks:
        assert chunks.recheck() == [4, 5, 6]
    with journal(tmp_path) as chunks:
        assert chunks.missing() == [4, 5, 6]


@pytest.mark.parametrize(("size", "chunk"), [(951, CHUNK), (len(DATA), 99), (10, CHUNK), (0, CHUNK)])
def test_another_size_begins_anew(tmp_path: Path, size: int, chunk: int) -> None:
    fill(tmp_path, list(range(10)))
    with journal(tmp_path, size, chunk) as chunks:
        assert chunks.done_bytes == 0
        assert (tmp_path / "data").stat().st_size == size
    fill(tmp_path, [0])
    with journal(tmp_path) as chunks:
        assert chunks.missing() == list(range(1, 10))


@pytest.mark.parametrize("lost", ["data", "journal"])
def test_half_of_the_pair_is_nothing(tmp_path: Path, lost: str) -> None:
    fill(tmp_path, [0, 1])
    (tmp_path / lost).unlink()
    with journal(tmp_path) as chunks:
        assert chunks.missing() == list(range(10))


def believed_is_true(folder: Path) -> None:
    with journal(folder) as chunks:
        assert chunks.recheck() == []
        for number in chunks.missing():
            chunks.write(number, piece(number))
    assert (folder / "data").read_bytes() == DATA


@given(cut=st.integers(0, 900), noise=st.binary(max_size=100))
def test_a_torn_journal_never_lies(tmp_path_factory: pytest.TempPathFactory, cut: int, noise: bytes) -> None:
    """The end is lost and something else stands there: zeros, other lines, anything."""
    folder = tmp_path_factory.mktemp("torn")
    fill(folder, [3, 1, 4, 5, 9, 2, 6])
    with (folder / "journal").open("r+b") as file:
        file.truncate(min(cut, os.fstat(file.fileno()).st_size))
        file.seek(0, os.SEEK_END)
        file.write(noise)
    believed_is_true(folder)


@given(place=st.integers(0, 600), byte=st.integers(0, 255))
def test_one_wrong_byte_in_the_journal_never_lies(
    tmp_path_factory: pytest.TempPathFactory, place: int, byte: int
) -> None:
    folder = tmp_path_factory.mktemp("flipped")
    fill(folder, [3, 1, 4, 5, 9, 2, 6])
    with (folder / "journal").open("r+b") as file:
        file.seek(min(place, os.fstat(file.fileno()).st_size - 1))
        file.write(bytes([byte]))
    believed_is_true(folder)


def test_the_data_reach_the_disk_before_their_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    with journal(tmp_path) as chunks:
        names = {(tmp_path / n).stat().st_ino: n for n in ("data", "journal")}
        real_sync, real_write = os.fdatasync, os.pwrite

        def sync(descriptor: int) -> None:
            events.append(f"sync {names[os.fstat(descriptor).st_ino]}")
            real_sync(descriptor)

        def write(descriptor: int, data: bytes, offset: int) -> int:
            events.append(f"write {names[os.fstat(descriptor).st_ino]}")
            return real_write(descriptor, data, offset)

        monkeypatch.setattr(os, "fdatasync", sync)
        monkeypatch.setattr(os, "pwrite", write)
        chunks.write(0, piece(0))
        chunks.write(1, piece(1))
        assert chunks.missing() == list(range(2, 10))
        assert events == ["write data", "write data"]
        chunks.commit()
    assert events[2:] == ["sync data", "write journal", "sync journal"]


def test_a_disk_that_fails_loses_work_but_not_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    chunks = journal(tmp_path)
    chunks.write(0, piece(0))
    monkeypatch.setattr(os, "fdatasync", broken)
    with pytest.raises(OSError, match="Input/output"):
        chunks.close()
    chunks.close()
    monkeypatch.undo()
    with journal(tmp_path) as again:
        assert again.missing() == list(range(10))


def test_kill_9_while_chunks_are_written_loses_work_but_not_truth(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(random.Random(1).randbytes(20 * CHUNK_BYTES + 17))
    root = tmp_path / "store"
    assert kill_resumes(root, source, rounds=12, most_steps=25, seed=1) >= 1
