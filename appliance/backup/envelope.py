"""The sealed file: a header that anybody may read and nobody may change, then content in chunks that are each sealed.

    magic (13 bytes) | format u16 | header length u16 | header, JSON | seal of the header, 32 bytes | chunks

The key comes from the passphrase (``key.py``), this file's own keys from it by HKDF with 16 random bytes and everything
before the seal, so no part of one file fits into another. A chunk is 1 MiB sealed by AES-256-GCM; its nonce is its
number and whether it is the last (the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár, 2015, as age
has it): chunks cannot be left out, doubled or moved, and a file that was cut short at a chunk's end is noticed too.
Nothing is given out before its chunk was checked.
"""

from __future__ import annotations

import hmac
import json
import secrets
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from appliance.backup.errors import BackupDamaged, BackupTooNew, BackupUnreadable, WrongPassphrase
from appliance.backup.key import KEY_BYTES, LEAST_LOG2_N, MOST_LOG2_N, SALT_BYTES, BackupKey

MAGIC = b"r1box-backup\n"
FORMAT = 1
CHUNK_BYTES = 1024 * 1024
TAG_BYTES = 16
SEAL_BYTES = 32
NONCE_BYTES = 16
MOST_HEADER_BYTES = 4096
_PREFIX = struct.Struct(f">{len(MAGIC)}sHH")
_FACTS = ("created_at", "version", "host", "label")
_MOST_FACT = 256


@dataclass(frozen=True, slots=True)
class Envelope:
    """A file's header. ``facts`` are for people: created_at (RFC 3339), version, host, label. Until a key has opened
    the file they are what the file says of itself, no more."""

    salt: bytes
    log2_n: int
    nonce: bytes
    facts: Mapping[str, str]
    sealed: bytes
    """Prefix and header as they are in the file."""
    seal: bytes

    @property
    def length(self) -> int:
        """Bytes before the first chunk."""
        return len(self.sealed) + SEAL_BYTES


class SealedWriter:
    """Writes a file's header at once, and chunks as they fill. ``finish`` writes the last one; without it the file is
    not whole, and readers say so."""

    def __init__(self, raw: BinaryIO, key: BackupKey, facts: Mapping[str, str]) -> None:
        self._raw = raw
        nonce = secrets.token_bytes(NONCE_BYTES)
        header = {"log2_n": key.log2_n, "salt": key.salt.hex(), "nonce": nonce.hex()}
        header |= {"facts": {name: facts.get(name, "")[:_MOST_FACT] for name in _FACTS}}
        text = json.dumps(header, ensure_ascii=True, separators=(",", ":"), sort_keys=True).encode()
        sealed = _PREFIX.pack(MAGIC, FORMAT, len(text)) + text
        seal_key, chunk_key = _keys(key, nonce, sealed)
        raw.write(sealed + _seal(seal_key, sealed))
        self._cipher = AESGCM(chunk_key)
        self._number = 0
        self._waiting = bytearray()

    def write(self, data: bytes) -> None:
        """Take content of any length."""
        self._waiting += data
        # One byte more than a chunk shows that the chunk is not the last.
        while len(self._waiting) > CHUNK_BYTES:
            self._put(bytes(self._waiting[:CHUNK_BYTES]), last=False)
            del self._waiting[:CHUNK_BYTES]

    def finish(self) -> None:
        """Write what is left as the last chunk. The caller flushes and syncs."""
        self._put(bytes(self._waiting), last=True)
        self._waiting.clear()

    def _put(self, chunk: bytes, *, last: bool) -> None:
        self._raw.write(self._cipher.encrypt(_chunk_nonce(self._number, last), chunk, None))
        self._number += 1


class SealedReader:
    """Gives the content of a file whose header was read and whose key is right. ``path`` is for messages, ``report``
    is called with the bytes of the file that were read."""

    def __init__(
        self,
        raw: BinaryIO,
        envelope: Envelope,
        key: BackupKey,
        *,
        path: str,
        report: Callable[[int], None] = lambda _done: None,
    ) -> None:
        """Raises WrongPassphrase."""
        seal_key, chunk_key = _keys(key, envelope.nonce, envelope.sealed)
        if not hmac.compare_digest(_seal(seal_key, envelope.sealed), envelope.seal):
            raise WrongPassphrase(path=path)
        self._raw = raw
        self._cipher = AESGCM(chunk_key)
        self._path = path
        self._report = report
        self._read = envelope.length
        self._number = 0
        self._ahead = raw.read(CHUNK_BYTES + TAG_BYTES)
        self._open = bytearray()
        self._ended = False

    def read(self, size: int) -> bytes:
        """The next ``size`` bytes, fewer only at the end. Raises BackupDamaged."""
        while len(self._open) < size and not self._ended:
            self._next()
        given = bytes(self._open[:size])
        del self._open[:size]
        return given

    def _next(self) -> None:
        chunk, self._ahead = self._ahead, self._raw.read(CHUNK_BYTES + TAG_BYTES)
        last = not self._ahead
        try:
            self._open += self._cipher.decrypt(_chunk_nonce(self._number, last), chunk, None)
        except (InvalidTag, ValueError) as error:
            reason = "it ends too early or its end was changed" if last else f"its part {self._number + 1} was changed"
            raise BackupDamaged(path=self._path, reason=reason) from error
        self._number += 1
        self._ended = last
        self._read += len(chunk)
        self._report(self._read)


def read_envelope(raw: BinaryIO, *, path: str) -> Envelope:
    """The header of a file; ``raw`` stands at the first chunk then. Raises BackupUnreadable, BackupTooNew."""
    prefix = raw.read(_PREFIX.size)
    if len(prefix) < _PREFIX.size or not prefix.startswith(MAGIC):
        raise BackupUnreadable(path=path, reason="it does not begin as one")
    _, found, length = _PREFIX.unpack(prefix)
    if found > FORMAT:
        raise BackupTooNew(path=path, found=f"form {found}", known=f"form {FORMAT}")
    if found < 1 or length > MOST_HEADER_BYTES:
        raise BackupUnreadable(path=path, reason="its header makes no sense")
    text, seal = raw.read(length), raw.read(SEAL_BYTES)
    if len(text) < length or len(seal) < SEAL_BYTES:
        raise BackupUnreadable(path=path, reason="it ends in its header")
    try:
        salt, log2_n, nonce, facts = _parsed(json.loads(text))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BackupUnreadable(path=path, reason="its header makes no sense") from error
    return Envelope(salt, log2_n, nonce, facts, prefix + text, seal)


def _parsed(values: Any) -> tuple[bytes, int, bytes, dict[str, str]]:
    salt, nonce, log2_n = bytes.fromhex(values["salt"]), bytes.fromhex(values["nonce"]), values["log2_n"]
    facts = values["facts"]
    if len(salt) != SALT_BYTES or len(nonce) != NONCE_BYTES:
        raise ValueError("salt or nonce")
    if type(log2_n) is not int or not LEAST_LOG2_N <= log2_n <= MOST_LOG2_N:
        raise ValueError("log2_n")
    if not isinstance(facts, dict) or not all(isinstance(facts.get(name), str) for name in _FACTS):
        raise ValueError("facts")
    # They are shown before anybody vouches for them: nothing in them moves a terminal's cursor.
    return salt, log2_n, nonce, {name: _printable(facts[name][:_MOST_FACT]) for name in _FACTS}


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def _keys(key: BackupKey, nonce: bytes, sealed: bytes) -> tuple[bytes, bytes]:
    """The key of the header's seal, and that of the chunks."""
    info = b"r1box backup 1 " + sha256(sealed).digest()
    both = HKDF(SHA256(), 2 * KEY_BYTES, salt=nonce, info=info).derive(key.secret)
    return both[:KEY_BYTES], both[KEY_BYTES:]


def _seal(key: bytes, sealed: bytes) -> bytes:
    return hmac.digest(key, sealed, "sha256")


def _chunk_nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + (b"\1" if last else b"\0")
