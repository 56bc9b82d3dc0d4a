"""Broken headers of every kind: only typed errors come out, in bounded memory and time."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from models.errors import ModelError
from models.gguf import read_header, read_token_types, read_tokens
from models.importer import check_usable
from models.memory import header_weights
from tests.fakes import gguf_writer as gw

HEAD, DATA_BYTES = gw.header(gw.small_metadata(tokens=1100), gw.small_tensors(tokens=1100))
WHOLE = HEAD + bytes(DATA_BYTES)
MAX_PEAK_BYTES = 8 * 1024 * 1024

BIG = st.sampled_from([0, 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63, 2**64 - 1])


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "x.gguf"


def read_all(path: Path) -> None:
    """Everything an import and a fit ask of a header; a ModelError is the only thing that may come out."""
    with contextlib.suppress(ModelError):
        header = read_header(path)
        read_tokens(header)
        read_token_types(header)
        check_usable(header)
        header_weights(header)
        _ = (header.quantization, header.parameters, header.chat_templates, header.matrix_types)
        _ = (header.is_legacy_mla, header.name, header.add_bos_token, header.token_text("bos"))


def check(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    tracemalloc.start()
    try:
        read_all(path)
        assert tracemalloc.get_traced_memory()[1] < MAX_PEAK_BYTES + 4 * len(content)
    finally:
        tracemalloc.stop()


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, len(HEAD) - 1), st.integers(0, 255)), min_size=1, max_size=12))
def test_changed_bytes(scratch: Path, changes: list[tuple[int, int]]) -> None:
    content = bytearray(WHOLE)
    for position, value in changes:
        content[position] = value
    check(scratch, bytes(content))


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(4, len(HEAD) - 8), value=BIG, cut=st.integers(0, 300))
@example(position=8, value=2**64 - 1, cut=0)
@example(position=16, value=2**64 - 1, cut=0)
def test_huge_numbers_anywhere(scratch: Path, position: int, value: int, cut: int) -> None:
    content = WHOLE[:position] + struct.pack("<Q", value) + WHOLE[position + 8 :]
    check(scratch, content[: len(content) - cut])


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.integers(0, len(HEAD)), size=st.integers(1, 400), filler=st.binary(max_size=64))
def test_pieces_cut_out_and_put_in(scratch: Path, start: int, size: int, filler: bytes) -> None:
    check(scratch, WHOLE[:start] + filler + WHOLE[start + size :])


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rest=st.binary(max_size=600), version=st.sampled_from([2, 3]), counts=st.tuples(BIG, BIG))
def test_noise_behind_the_magic(scratch: Path, rest: bytes, version: int, counts: tuple[int, int]) -> None:
    check(scratch, b"GGUF" + struct.pack("<IQQ", version, counts[0] % 2**64, counts[1] % 2**64) + rest)
