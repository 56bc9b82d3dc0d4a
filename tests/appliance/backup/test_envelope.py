"""The sealed file: what goes in comes out, and nothing that was changed does."""

from __future__ import annotations

import io
import json
import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from appliance.backup.envelope import CHUNK_BYTES, MAGIC, SEAL_BYTES, SealedReader, SealedWriter, read_envelope
from appliance.backup.errors import BackupDamaged, BackupTooNew, BackupUnreadable, WrongPassphrase
from appliance.backup.key import BackupKey, derive
from appliance.errors import AppError
from tests.appliance.backup.states import KEY, PASSPHRASE

FACTS = {"created_at": "2026-11-22T02:30:00+00:00", "version": "0.1.0", "host": "ward-3", "label": "manual"}
REFUSED = (BackupDamaged, BackupUnreadable, BackupTooNew, WrongPassphrase)


def seal(content: bytes, *, key: BackupKey = KEY, pieces: int = 65_536) -> bytes:
    raw = io.BytesIO()
    writer = SealedWriter(raw, key, FACTS)
    for at in range(0, len(content), pieces):
        writer.write(content[at : at + pieces])
    writer.finish()
    return raw.getvalue()


def unseal(data: bytes, *, key: BackupKey = KEY, piece: int = 100_000) -> bytes:
    raw = io.BytesIO(data)
    reader = SealedReader(raw, read_envelope(raw, path="f"), key, path="f")
    found = b""
    while block := reader.read(piece):
        found += block
    return found


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES])
def test_what_goes_in_comes_out(size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    assert unseal(seal(content[:size])) == content[:size]


def test_every_flipped_byte_is_refused() -> None:
    data = seal(b"secret " * 20)
    assert unseal(data) == b"secret " * 20
    for place in range(len(data)):
        for bit in (1, 128):
            changed = bytearray(data)
            changed[place] ^= bit
            with pytest.raises(REFUSED):
                unseal(bytes(changed))


def test_every_truncation_and_every_addition_is_refused() -> None:
    data = seal(b"secret")
    for length in range(len(data)):
        with pytest.raises(REFUSED):
            unseal(data[:length])
    for more in (b"\0", b"x" * 40, data):
        with pytest.raises(REFUSED):
            unseal(data + more)


@given(st.integers(0, 3 * CHUNK_BYTES + 4_000), st.integers(1, 255))
@example(0, 1)
@settings(max_examples=25, deadline=None)
def test_a_flipped_byte_of_many_chunks_is_refused(place: int, change: int) -> None:
    data = bytearray(_LONG)
    data[place % len(data)] ^= change
    with pytest.raises(REFUSED):
        unseal(bytes(data), piece=CHUNK_BYTES)


def test_chunks_cannot_be_moved_left_out_or_come_from_another_file() -> None:
    start, whole = _first_chunk(_LONG), CHUNK_BYTES + 16
    parts = [_LONG[start + n * whole : start + (n + 1) * whole] for n in range(4)]
    assert b"".join(parts) == _LONG[start:]
    other = seal(b"\2" * (3 * CHUNK_BYTES + 100))
    foreign = other[_first_chunk(other) :][:whole]
    for order in (parts[1:], parts[:3], [parts[1], parts[0], *parts[2:]], [parts[0], *parts], [foreign, *parts[1:]]):
        with pytest.raises(BackupDamaged):
            unseal(_LONG[:start] + b"".join(order))
    with pytest.raises(REFUSED):
        unseal(other[: _first_chunk(other)] + _LONG[start:])


def test_a_wrong_passphrase_opens_nothing() -> None:
    with pytest.raises(WrongPassphrase):
        unseal(seal(b"x"), key=derive("another passphrase", salt=KEY.salt, log2_n=14))
    # The same letters in another form, as another keyboard may send them.
    accents = derive("Caf\u00e9 au lait", salt=KEY.salt, log2_n=14)
    assert unseal(seal(b"x", key=accents), key=derive(" Cafe\u0301 au lait ", salt=KEY.salt, log2_n=14)) == b"x"
    for short in ("", "short", "  nine ch "):
        with pytest.raises(AppError, match="10 characters"):
            derive(short)
    assert PASSPHRASE not in repr(KEY)
    assert KEY.secret.hex() not in repr(KEY)


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"log2_n": 40},
        {"log2_n": True},
        {"log2_n": "17"},
        {"salt": "00"},
        {"nonce": "zz"},
        {"facts": {}},
        {"facts": {**FACTS, "host": 7}},
        {"facts": []},
    ],
)
def test_a_header_that_asks_for_too_much_is_refused_before_any_work(header: dict[str, object]) -> None:
    whole = {"log2_n": 14, "salt": "00" * 16, "nonce": "00" * 16, "facts": FACTS}
    text = json.dumps(header if not header else whole | header).encode()
    data = struct.pack(">13sHH", MAGIC, 1, len(text)) + text + b"\0" * SEAL_BYTES
    with pytest.raises(BackupUnreadable):
        read_envelope(io.BytesIO(data), path="f")


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_refused_in_words(data: bytes) -> None:
    for start in (b"", MAGIC, struct.pack(">13sHH", MAGIC, 1, len(data))):
        with pytest.raises((BackupUnreadable, BackupTooNew)):
            read_envelope(io.BytesIO(start + data), path="f")


def test_what_it_says_of_itself_moves_no_cursor() -> None:
    raw = io.BytesIO()
    SealedWriter(raw, KEY, {**FACTS, "host": "box\x1b[2J\nfree"}).finish()
    raw.seek(0)
    assert read_envelope(raw, path="f").facts["host"] == "box\ufffd[2J\ufffdfree"


def _first_chunk(data: bytes) -> int:
    return read_envelope(io.BytesIO(data), path="f").length


_LONG = seal(b"\1" * (3 * CHUNK_BYTES + 100))
