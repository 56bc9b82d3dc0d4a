"""The folder of blocks and its thread: restarts, kills, full disks, strangers' files, a second worker."""

from __future__ import annotations

import os
import queue
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.engine.llamacpp.tier_blocks import block_key
from appliance.engine.llamacpp.tier_disk import (
    LOCK,
    BlockRead,
    BlocksFound,
    BlockWritten,
    DiskMessage,
    DiskTick,
    DiskTier,
    forget_chats,
)
from appliance.engine.llamacpp.tier_files import BlockHeader

WAIT_S = 30
BOUND = 10**6
DATA = np.arange(1000, dtype=np.uint8)


class Disk:
    """A disk tier, and what it posts."""

    def __init__(self, folder: Path, identity: bytes = b"model", **more: Any) -> None:
        self.posted: queue.SimpleQueue[DiskMessage] = queue.SimpleQueue()
        self.tier = DiskTier(
            folder / "chats",
            folder / "state" / "key",
            identity,
            BOUND,
            self.posted.put,
            **{"tick_s": 60.0, "keep_free_bytes": 0, **more},
        )
        self.tier.start()

    def next(self) -> DiskMessage:
        return self.posted.get(timeout=WAIT_S)

    def found(self) -> list[list[int]]:
        message = self.next()
        assert isinstance(message, BlocksFound)
        return [header.tokens for header in message.headers]

    def write(self, *chain: list[int]) -> bytes:
        """Write a chain of blocks; the result is the last one's name."""
        parent = b""
        for tokens in chain:
            key = block_key(parent, tokens)
            self.tier.write(key, BlockHeader(parent, tokens, len(DATA)), DATA)
            assert self.next() == BlockWritten(key, good=True)
            parent = key
        return parent

    def read(self, key: bytes) -> Any:
        self.tier.read(key)
        message = self.next()
        assert isinstance(message, BlockRead)
        assert message.key == key
        return message.data

    def close(self) -> None:
        assert self.tier.close(WAIT_S) == 0


def blocks(folder: Path) -> list[Path]:
    return sorted((folder / "chats").glob("*/*.block"))


def test_what_one_run_wrote_the_next_one_finds_in_the_order_of_its_chats(tmp_path: Path) -> None:
    first = Disk(tmp_path)
    assert first.found() == []
    first.write([1], [2], [3])
    last = first.write([1], [4])
    first.close()
    second = Disk(tmp_path)
    found = second.found()
    assert sorted(found) == [[1], [2], [3], [4]]
    assert found.index([1]) < found.index([2]) < found.index([3])
    assert bytes(second.read(last)) == bytes(DATA)
    second.close()


def test_a_killed_writer_leaves_a_part_that_is_cleaned(tmp_path: Path) -> None:
    first = Disk(tmp_path)
    first.found()
    first.write([1])
    first.close()
    whole = blocks(tmp_path)[0]
    (whole.parent / "0123.part").write_bytes(whole.read_bytes()[:500])
    second = Disk(tmp_path)
    assert second.found() == [[1]]
    assert sorted(file.name for file in whole.parent.iterdir()) == sorted([whole.name, LOCK])
    second.close()


@pytest.mark.parametrize("harm", ["flip", "cut", "foreign"])
def test_files_that_do_not_open_are_dropped_and_so_is_what_follows_them(
    tmp_path: Path, harm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first = Disk(tmp_path)
    first.found()
    first.write([1])
    bad = blocks(tmp_path)[0]
    first.write([1], [2], [3])
    first.write([9])
    first.close()
    content = bytearray(bad.read_bytes())
    content[40] ^= 1
    bad.write_bytes({"flip": content, "cut": content[:200], "foreign": b"GGUF" * 100}[harm])
    second = Disk(tmp_path)
    assert second.found() == [[9]]
    assert len(blocks(tmp_path)) == 1
    assert f"{bad.name} is dropped" in capsys.readouterr().err
    second.close()


def test_a_body_that_was_changed_is_found_out_when_it_is_read(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    disk.found()
    key = disk.write([1])
    file = blocks(tmp_path)[0]
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)
    assert disk.read(key) is None
    assert blocks(tmp_path) == []
    disk.close()


def test_another_models_blocks_are_not_used_and_go_at_last(tmp_path: Path) -> None:
    for identity in (b"one", b"two", b"three"):
        disk = Disk(tmp_path, identity)
        assert disk.found() == []
        disk.write([1], [2])
        disk.close()
    # Their folders hold more than half of a bound of 6,000 bytes: the one unused for longest is emptied.
    oldest = min((tmp_path / "chats").iterdir(), key=lambda folder: max(f.stat().st_mtime for f in folder.iterdir()))
    posted: queue.SimpleQueue[DiskMessage] = queue.SimpleQueue()
    small = DiskTier(tmp_path / "chats", tmp_path / "state" / "key", b"four", 10_000, posted.put)
    small.start()
    message = posted.get(timeout=WAIT_S)
    assert isinstance(message, BlocksFound)
    assert (message.headers, list(oldest.glob("*.block"))) == ([], [])
    assert 5_000 <= message.bound_bytes < 10_000
    small.close(WAIT_S)


def test_a_second_worker_with_the_same_folder_does_without(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = Disk(tmp_path)
    first.found()
    key = first.write([1])
    second = Disk(tmp_path)
    second.tier.write(key, BlockHeader(b"", [1], len(DATA)), DATA)
    assert second.next() == BlockWritten(key, good=False)
    assert second.read(key) is None
    assert "used by another worker" in capsys.readouterr().err
    assert bytes(first.read(key)) == bytes(DATA)
    first.close()
    third = Disk(tmp_path)
    assert third.found() == [[1]]
    third.close()


def _no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)


def _little_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 500, 500))  # type: ignore[attr-defined]


@pytest.mark.parametrize("harm", [_no_room, _little_free])
def test_a_full_disk_is_told_and_nothing_is_left_of_the_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: Callable[[pytest.MonkeyPatch], None]
) -> None:
    disk = Disk(tmp_path)
    disk.found()
    with monkeypatch.context() as patch:
        harm(patch)
        disk.tier.write(b"k" * 16, BlockHeader(b"", [1], len(DATA)), DATA)
        assert disk.next() == BlockWritten(b"k" * 16, good=False)
    assert [entry.name for entry in blocks(tmp_path)] == []
    disk.write([1])
    disk.close()


def test_a_folder_that_cannot_be_made_is_no_reason_to_end(tmp_path: Path) -> None:
    (tmp_path / "chats").write_text("in the way")
    disk = Disk(tmp_path)
    disk.tier.write(b"k" * 16, BlockHeader(b"", [1], len(DATA)), DATA)
    assert disk.next() == BlockWritten(b"k" * 16, good=False)


def test_clearing_deletes_key_and_files_and_a_running_worker_notices(tmp_path: Path) -> None:
    disk = Disk(tmp_path, tick_s=0.01)
    disk.found()
    while not isinstance(disk.next(), DiskTick):
        pass
    key = block_key(b"", [1])
    disk.tier.write(key, BlockHeader(b"", [1], len(DATA)), DATA)
    while disk.next() != BlockWritten(key, good=True):
        pass
    size = blocks(tmp_path)[0].stat().st_size
    assert forget_chats(tmp_path / "chats", tmp_path / "state" / "key") == (1, size)
    while disk.next() != DiskTick(wiped=True):
        pass
    assert not (tmp_path / "state" / "key").exists()
    assert forget_chats(tmp_path / "nothing", tmp_path / "key") == (0, 0)


def test_deleting_waits_for_the_write_before_it(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    disk.found()
    key = block_key(b"", [1])
    disk.tier.write(key, BlockHeader(b"", [1], len(DATA)), DATA)
    disk.tier.delete(key)
    disk.close()
    assert blocks(tmp_path) == []
