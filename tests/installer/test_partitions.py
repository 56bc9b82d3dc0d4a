"""The partition table: its arithmetic for every size, and what sgdisk makes of it on a plain file."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.command import minimal_environment, run
from installer.errors import InstallRefused
from installer.partitions import GIB, LEAST_MODELS_BYTES, MIB, layout, sgdisk_arguments


@given(
    disk_bytes=st.integers(min_value=0, max_value=1 << 48),
    slot_gib=st.integers(min_value=1, max_value=64),
    state_gib=st.integers(min_value=1, max_value=1024),
    sector=st.sampled_from([512, 4096]),
)
def test_aligned_apart_and_inside_the_disk(disk_bytes: int, slot_gib: int, state_gib: int, sector: int) -> None:
    disk_bytes -= disk_bytes % sector
    try:
        parts = layout(disk_bytes, slot_gib * GIB, state_gib * GIB)
    except InstallRefused:
        assert disk_bytes < MIB + MIB + GIB + (2 * slot_gib + state_gib) * GIB + LEAST_MODELS_BYTES + 2 * MIB
        return
    assert [part.number for part in parts] == [1, 2, 3, 4, 5, 6]
    assert parts[0].start_bytes >= MIB
    assert all(part.start_bytes % MIB == 0 and part.size_bytes % MIB == 0 and part.size_bytes > 0 for part in parts)
    assert all(before.end_bytes == after.start_bytes for before, after in itertools.pairwise(parts))
    # The table's copy: 33 sectors at the end, 128 entries of 128 bytes and the header.
    assert parts[-1].end_bytes <= disk_bytes - (sector + 16384)
    assert disk_bytes - parts[-1].end_bytes < 2 * MIB
    assert (parts[2].size_bytes, parts[3].size_bytes) == (slot_gib * GIB, slot_gib * GIB)


def test_sgdisk_takes_it_as_it_is(tmp_path: Path) -> None:
    """With a table of before on the file. Needs gdisk, as docs/development.md says; .ci/run installs it."""
    disk = tmp_path / "disk"
    disk.touch()

    os.truncate(disk, 40 * GIB + 12345 * 512)
    parts = layout(disk.stat().st_size, GIB, 2 * GIB)
    for arguments in (["--new=1:0:0"], ["--zap-all"], sgdisk_arguments(parts, 512), ["--verify"]):
        said = run(["sgdisk", *arguments, str(disk)], timeout_s=30, environment=minimal_environment()).stdout
    assert "No problems found" in said
    shown = run(["sgdisk", "--print", str(disk)], timeout_s=30, environment=minimal_environment()).stdout
    rows = re.findall(r"^ +(\d+) +(\d+) +(\d+) +\S+ \S+ +(\w+) +(\S+)$", shown, re.MULTILINE)
    assert [(int(n), int(a) * 512, (int(b) + 1) * 512, code.lower(), label) for n, a, b, code, label in rows] == [
        (part.number, part.start_bytes, part.end_bytes, part.type_code, part.label) for part in parts
    ]


def test_too_small_says_what_is_needed() -> None:
    needs = 35 * GIB + 4 * GIB  # more than enough
    assert layout(needs, 8 * GIB, 16 * GIB)[-1].size_bytes >= LEAST_MODELS_BYTES
    with pytest.raises(InstallRefused) as caught:
        layout(20 * GIB, 8 * GIB, 16 * GIB)

    assert caught.value.code == "disk_too_small"
    assert "20.0 GiB" in str(caught.value)
