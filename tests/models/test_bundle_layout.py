"""Files divided over sticks: nothing lost, nothing cut within a chunk, no stick too full, no file too long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.bundle.errors import BundleTargetTooSmall
from models.bundle.layout import FAT32_MAX_FILE_BYTES, StickSpace, lay_out, stick_space

MIB = 1024**2
GIB = 1024**3
CHUNK = 16 * MIB
OVERHEAD = MIB


def test_one_stick_with_room_is_one_part_each() -> None:
    parts = lay_out([("a", 5), ("b", 10 * GIB), ("c", 0)], CHUNK, [StickSpace()], OVERHEAD)
    assert [[(p.path, p.size_bytes, p.stick) for p in file] for file in parts] == [
        [("a", 5, 1)],
        [("b", 10 * GIB, 1)],
        [("c", 0, 1)],
    ]


def test_fat32() -> None:
    space = stick_space(None, "vfat")
    assert space.max_file_bytes == 4_294_967_295 == FAT32_MAX_FILE_BYTES
    (parts,) = lay_out([("model.gguf", 9 * GIB)], CHUNK, [space], OVERHEAD)
    assert [p.path for p in parts] == [f"model.gguf.part-00{n}" for n in (1, 2, 3)]
    assert [p.size_bytes for p in parts] == [4 * GIB - CHUNK, 4 * GIB - CHUNK, GIB + 2 * CHUNK]


@pytest.mark.parametrize(
    ("filesystem", "fat32", "limited"),
    [("vfat", False, True), ("msdos", False, True), ("exfat", False, False), ("ext4", False, False),
     (None, False, False), ("ext4", True, True)],
)  # fmt: skip
def test_which_file_systems_are_limited(filesystem: str | None, fat32: bool, limited: bool) -> None:
    assert (stick_space(1, filesystem, fat32=fat32).max_file_bytes is not None) is limited


def test_exactly_the_limit_is_one_file() -> None:
    (parts,) = lay_out([("a", FAT32_MAX_FILE_BYTES)], CHUNK, [stick_space(None, "vfat")], OVERHEAD)
    assert len(parts) == 1


def test_sticks_repeat_when_asked() -> None:
    (parts,) = lay_out([("a", 10 * GIB)], CHUNK, [StickSpace(4 * GIB)], OVERHEAD, repeat_last=True)
    assert [p.stick for p in parts] == [1, 2, 3]
    with pytest.raises(BundleTargetTooSmall) as caught:
        lay_out([("a", 10 * GIB)], CHUNK, [StickSpace(4 * GIB), StickSpace(4 * GIB)], OVERHEAD)
    assert caught.value.details["sticks"] == 2
    assert caught.value.details["needed_bytes"] == 10 * GIB + OVERHEAD


def test_sticks_that_hold_nothing_are_refused() -> None:
    for repeat in (False, True):
        with pytest.raises(BundleTargetTooSmall):
            lay_out([("a", 10 * GIB)], CHUNK, [StickSpace(CHUNK)], OVERHEAD, repeat_last=repeat)


def test_an_endless_number_of_sticks_is_refused() -> None:
    with pytest.raises(BundleTargetTooSmall):
        lay_out([("a", 700 * GIB)], CHUNK, [StickSpace(GIB)], OVERHEAD, repeat_last=True)


@given(
    sizes=st.lists(st.integers(0, 40_000_000), min_size=1, max_size=8),
    sticks=st.lists(st.integers(300_000, 30_000_000), min_size=1, max_size=6),
    longest=st.one_of(st.none(), st.integers(65_536, 5_000_000)),
    repeat=st.booleans(),
)
def test_whatever_the_sizes(sizes: list[int], sticks: list[int], longest: int | None, repeat: bool) -> None:
    chunk, overhead = 65_536, 100_000
    spaces = [StickSpace(size, longest) for size in sticks]
    files = [(f"f{n}", size) for n, size in enumerate(sizes)]
    try:
        divided = lay_out(files, chunk, spaces, overhead, repeat_last=repeat)
    except BundleTargetTooSmall:
        waste = (chunk + 65_536) * (len(sizes) + 1)  # per stick at most: a chunk not begun, clusters not filled
        assert repeat or sum(sizes) > sum(max(s - overhead - waste, 0) for s in sticks)
        return
    used: dict[int, int] = {}
    for (name, size), parts in zip(files, divided, strict=True):
        assert sum(p.size_bytes for p in parts) == size
        assert all(p.size_bytes % chunk == 0 and p.size_bytes for p in parts[:-1])
        assert len(parts) == 1 or parts[-1].size_bytes
        assert {p.path.split(".part-")[0] for p in parts} == {name}
        assert all(longest is None or p.size_bytes <= longest for p in parts)
        for part in parts:
            used[part.stick] = used.get(part.stick, 0) + part.size_bytes
    order = [p.stick for parts in divided for p in parts]
    assert order == sorted(order)
    assert set(order) <= set(range(1, max(order) + 1))
    for stick, size in used.items():
        assert size + overhead <= sticks[min(stick, len(sticks)) - 1]
