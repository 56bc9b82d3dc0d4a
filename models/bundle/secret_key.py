"""minisign's secret keys: made, read and written, with a password or without.

    untrusted comment: <any text>
    base64( "Ed" | "Sc" or 00 00 | "B2" | salt (32) | opslimit (8) | memlimit (8) | body (104) )

The body is key id | ed25519 seed | public key | blake2b-256 of "Ed", key id, seed and public key. With a password it is
XORed with as many bytes of scrypt, whose parameters follow from the two limits as libsodium's
``crypto_pwhash_scryptsalsa208sha256`` derives them (pickparams in pwhash_scryptsalsa208sha256.c).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from models.bundle.errors import KeyFileInvalid, KeyPasswordWrong
from models.bundle.minisign import KEY_ID_BYTES, LEGACY, MAX_FILE_BYTES, UNTRUSTED, PublicKey, key_id_text

_SCRYPT = b"Sc"
_NO_KDF = b"\0\0"
_BLAKE2B = b"B2"
_SALT_BYTES = 32
_BODY_BYTES = KEY_ID_BYTES + 32 + 32 + 32
_HEAD_BYTES = 6 + _SALT_BYTES + 16
_BLOCK = 8
_MAX_MEMORY_BYTES = 1024**3
_FILE_MODE = 0o600


@dataclass(frozen=True, slots=True)
class ScryptLimits:
    """Cost of opening a locked key. The default is minisign's own: 1 GiB of memory and some seconds."""

    ops: int = 33_554_432
    memory_bytes: int = _MAX_MEMORY_BYTES


@dataclass(frozen=True, slots=True)
class SecretKey:
    """A secret key, open. Never shown: the seed stays out of ``repr``."""

    key_id: bytes
    seed: bytes = field(repr=False)

    @property
    def id(self) -> str:
        return key_id_text(self.key_id)

    def sign(self, content: bytes) -> bytes:
        """The 64 bytes of ed25519's signature of ``content``."""
        return Ed25519PrivateKey.from_private_bytes(self.seed).sign(content)

    def public(self, owner: str) -> PublicKey:
        """The public key that belongs to it."""
        return PublicKey(self.key_id, self._public_bytes(), owner)

    def text(self, password: str | None, limits: ScryptLimits | None = None) -> str:
        """The file of the key, locked with ``password``; ``None`` or empty leaves it open, as ``minisign -W``."""
        body = self.body()
        salt, cost, kdf = bytes(_SALT_BYTES), bytes(16), _NO_KDF
        if password:
            limits = limits or ScryptLimits()
            salt, kdf = secrets.token_bytes(_SALT_BYTES), _SCRYPT
            cost = limits.ops.to_bytes(8, "little") + limits.memory_bytes.to_bytes(8, "little")
            body = _xor(body, _derive(password, salt, limits))
        packet = base64.b64encode(LEGACY + kdf + _BLAKE2B + salt + cost + body).decode("ascii")
        said = "encrypted" if password else "unencrypted"
        return f"{UNTRUSTED}minisign {said} secret key\n{packet}\n"

    def body(self, *, checksum: bool = True) -> bytes:
        """The 104 bytes of the key's file, unlocked. minisign 0.11 leaves the checksum of open keys zero."""
        checked = LEGACY + self.key_id + self.seed + self._public_bytes()
        return checked[2:] + (hashlib.blake2b(checked, digest_size=32).digest() if checksum else bytes(32))

    def _public_bytes(self) -> bytes:
        key = Ed25519PrivateKey.from_private_bytes(self.seed).public_key()
        return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def generate() -> SecretKey:
    """A new key with a random id."""
    return SecretKey(secrets.token_bytes(KEY_ID_BYTES), secrets.token_bytes(32))


def is_locked(text: str, name: str) -> bool:
    """Whether the key needs a password. Raises ``KeyFileInvalid``."""
    return _packet(text, name)[2:4] == _SCRYPT


def parse_secret_key(text: str, name: str, password: str | None = None) -> SecretKey:
    """Opens the file of a secret key. Raises ``KeyFileInvalid`` or ``KeyPasswordWrong``."""
    packet = _packet(text, name)
    body = packet[_HEAD_BYTES:]
    locked = packet[2:4] == _SCRYPT
    if locked:
        if not password:
            raise KeyPasswordWrong(name)
        salt = packet[6 : 6 + _SALT_BYTES]
        cost = packet[6 + _SALT_BYTES : _HEAD_BYTES]
        limits = ScryptLimits(int.from_bytes(cost[:8], "little"), int.from_bytes(cost[8:], "little"))
        if limits.memory_bytes > _MAX_MEMORY_BYTES or limits.ops > ScryptLimits().ops:
            raise KeyFileInvalid(name, "it asks for more memory or time than minisign ever does")
        body = _xor(body, _derive(password, salt, limits))
    key = SecretKey(body[:KEY_ID_BYTES], body[KEY_ID_BYTES : KEY_ID_BYTES + 32])
    if hmac.compare_digest(body, key.body()) or (not locked and hmac.compare_digest(body, key.body(checksum=False))):
        return key
    if locked:
        raise KeyPasswordWrong(name)
    raise KeyFileInvalid(name, "its checksum does not agree: it is damaged")


def read_key_text(path: Path) -> str:
    """The text of a key's file. Raises ``KeyFileInvalid``."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
        if len(raw) > MAX_FILE_BYTES:
            raise KeyFileInvalid(path.name, "it is far too long")
        return raw.decode("utf-8")
    except OSError as error:
        raise KeyFileInvalid(path.name, (error.strerror or str(error)).lower()) from error
    except UnicodeDecodeError as error:
        raise KeyFileInvalid(path.name, "it is not text") from error


def write_secret_key(path: Path, text: str) -> None:
    """Writes the key's file for its owner alone (0600); one that is there is left alone. Raises ``OSError``."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, _FILE_MODE)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _packet(text: str, name: str) -> bytes:
    lines = [line.strip() for line in text.strip().splitlines()]
    if len(lines) != 2 or not lines[0].startswith(UNTRUSTED):
        raise KeyFileInvalid(name, "a secret key has a comment and one more line")
    try:
        packet = base64.b64decode(lines[1], validate=True)
    except (binascii.Error, ValueError) as error:
        raise KeyFileInvalid(name, "its second line is not base64") from error
    if len(packet) != _HEAD_BYTES + _BODY_BYTES or packet[:2] != LEGACY or packet[4:6] != _BLAKE2B:
        raise KeyFileInvalid(name, "it is no ed25519 secret key of minisign")
    if packet[2:4] not in (_SCRYPT, _NO_KDF):
        raise KeyFileInvalid(name, "it is locked in a way this software does not know")
    return packet


def _derive(password: str, salt: bytes, limits: ScryptLimits) -> bytes:
    n, p = _parameters(limits)
    memory = 128 * _BLOCK * (n + p + 2)
    return hashlib.scrypt(
        password.encode(), salt=salt, n=n, r=_BLOCK, p=p, maxmem=memory + 1024 * 1024, dklen=_BODY_BYTES
    )


def _parameters(limits: ScryptLimits) -> tuple[int, int]:
    """scrypt's N and p, as libsodium's pickparams finds them."""
    ops = max(limits.ops, 32_768)
    if ops < limits.memory_bytes // 32:
        return _power_above(ops // (_BLOCK * 4)), 1
    n = _power_above(limits.memory_bytes // (_BLOCK * 128))
    return n, max(min(ops // 4 // n, 0x3FFFFFFF) // _BLOCK, 1)


def _power_above(largest: int) -> int:
    """The smallest power of two above half of ``largest``, at least 2."""
    n = 2
    while n <= largest // 2:
        n *= 2
    return n


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))
