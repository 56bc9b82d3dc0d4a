"""The form of a block's file: sealed with AES-256-GCM, so that it is private, and whole or refused.

    magic (8) | header's nonce (12) | header's bytes (u32) | body's bytes (u64) | header | body's nonce (12) | body

Header and body end with their tags of 16 bytes and bind what is in the clear before them, the model's identity and the
file's own name: a file that was cut, changed, renamed or made for another model does not open. The header has the
tokens and the name of the block before; it can be read without the body. A file is hostile until its tag was checked:
sizes are bounded first, and llama.cpp sees no byte of it before.
"""

from __future__ import annotations

import hashlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.engine.llamacpp.tier_blocks import KEY_BYTES, MOST_BLOCK_TOKENS

MAGIC = b"R1BXKV01"
SECRET_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
MOST_HEADER_BYTES = 64 * 1024
MOST_BODY_BYTES = 256 * 1024 * 1024
SUFFIX = ".block"
TEMPORARY = ".part"

_LENGTHS = struct.Struct(">IQ")
_CLEAR_BYTES = len(MAGIC) + NONCE_BYTES + _LENGTHS.size
_PIECE_BYTES = 1024 * 1024
"""Sealed and opened in pieces of this size: the interpreter's lock is held for one of them at most."""


class BadBlockFile(Exception):
    """The file is no block of this model under this key; why, in a few words."""


class BlockHeader(msgspec.Struct, frozen=True, array_like=True):
    """``parent`` is the name of the block before, empty at the beginning of a chat; the body has ``size_bytes``."""

    parent: bytes
    tokens: list[int]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class BlockFiles:
    """Writes and reads the files of one model in ``folder``. ``identity`` must be equal for bytes to be of use."""

    folder: Path
    identity: bytes
    secret: bytes

    def path(self, key: bytes) -> Path:
        """Where a block lies. The name tells nothing to who has not the secret."""
        name = hashlib.blake2b(key, key=self.secret, person=b"block name", digest_size=16).hexdigest()
        return self.folder / f"{name}{SUFFIX}"

    def write(self, key: bytes, header: BlockHeader, data: np.ndarray[Any, Any]) -> None:
        """Seal a block into its file, which is there whole or not at all. Raises OSError."""
        path = self.path(key)
        temporary = path.with_suffix(TEMPORARY)
        packed = msgspec.msgpack.encode(header)
        nonce, body_nonce = os.urandom(NONCE_BYTES), os.urandom(NONCE_BYTES)
        clear = MAGIC + nonce + _LENGTHS.pack(len(packed) + TAG_BYTES, len(data) + TAG_BYTES)
        bound = self._bound(clear, path)
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(clear + AESGCM(self.secret).encrypt(nonce, packed, bound) + body_nonce)
                seal = Cipher(algorithms.AES(self.secret), modes.GCM(body_nonce)).encryptor()
                seal.authenticate_additional_data(bound)
                view = data.data
                for start in range(0, len(data), _PIECE_BYTES):
                    file.write(seal.update(view[start : start + _PIECE_BYTES]))
                file.write(seal.finalize() + seal.tag)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def read_header(self, path: Path) -> BlockHeader:
        """What a file holds, without its body. Raises BadBlockFile or OSError."""
        with _open(path) as file:
            return self._header(file, path)[0]

    def read(self, key: bytes) -> np.ndarray[Any, Any]:
        """A block's bytes. Raises BadBlockFile or OSError."""
        path = self.path(key)
        with _open(path) as file:
            header, bound = self._header(file, path)
            nonce = _exactly(file, NONCE_BYTES)
            # A piece may come out of the cipher with a few bytes more room than it needs.
            data = np.empty(header.size_bytes + TAG_BYTES, np.uint8)
            view = data.data
            unseal = Cipher(algorithms.AES(self.secret), modes.GCM(nonce)).decryptor()
            unseal.authenticate_additional_data(bound)
            for start in range(0, header.size_bytes, _PIECE_BYTES):
                piece = _exactly(file, min(_PIECE_BYTES, header.size_bytes - start))
                unseal.update_into(piece, view[start : start + len(piece) + TAG_BYTES - 1])
            try:
                unseal.finalize_with_tag(_exactly(file, TAG_BYTES))
            except InvalidTag:
                raise BadBlockFile("its content was changed") from None
        return data[: header.size_bytes]

    def _header(self, file: IO[bytes], path: Path) -> tuple[BlockHeader, bytes]:
        clear = _exactly(file, _CLEAR_BYTES)
        if clear[: len(MAGIC)] != MAGIC:
            raise BadBlockFile("it is no file of this version")
        header_bytes, body_bytes = _LENGTHS.unpack(clear[-_LENGTHS.size :])
        if not (TAG_BYTES < header_bytes <= MOST_HEADER_BYTES and TAG_BYTES < body_bytes <= MOST_BODY_BYTES):
            raise BadBlockFile("it says that it is longer than a block is")
        if os.fstat(file.fileno()).st_size != _CLEAR_BYTES + header_bytes + NONCE_BYTES + body_bytes:
            raise BadBlockFile("it has not the length that it says")
        bound = self._bound(clear, path)
        nonce = clear[len(MAGIC) : len(MAGIC) + NONCE_BYTES]
        try:
            packed = AESGCM(self.secret).decrypt(nonce, _exactly(file, header_bytes), bound)
            header = msgspec.msgpack.decode(packed, type=BlockHeader)
        except (InvalidTag, msgspec.DecodeError):
            raise BadBlockFile("it was changed, or sealed with another key or for another model") from None
        # Who has the key wrote this; still nothing outside of these bounds goes on.
        if header.size_bytes != body_bytes - TAG_BYTES or len(header.parent) not in (0, KEY_BYTES):
            raise BadBlockFile("its header contradicts itself")
        if not 0 < len(header.tokens) <= MOST_BLOCK_TOKENS or not all(0 <= t < 2**31 for t in header.tokens):
            raise BadBlockFile("its header has tokens that cannot be")
        return header, bound

    def _bound(self, clear: bytes, path: Path) -> bytes:
        return clear + self.identity + path.stem.encode()


def _open(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb")


def _exactly(file: IO[bytes], count: int) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise BadBlockFile("it is cut short")
    return data


def load_secret(path: Path) -> bytes:
    """The key of this box's files, made when there is none. Raises OSError.

    A file that is no key is replaced: what was sealed with it is lost then, and dropped.
    """
    try:
        with _open(path) as file:
            secret = file.read(SECRET_BYTES + 1)
        if len(secret) == SECRET_BYTES:
            return secret
        path.unlink()
    except FileNotFoundError:
        pass
    secret = os.urandom(SECRET_BYTES)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secret)
            file.flush()
            os.fsync(file.fileno())
        # Of two workers that make one at the same time the first wins.
        os.link(temporary, path)
    except FileExistsError:
        return load_secret(path)
    finally:
        temporary.unlink(missing_ok=True)
    return secret
