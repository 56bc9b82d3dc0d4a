"""minisign's public keys and signatures: read, verified and written exactly as the tool does.

    untrusted comment: <any text>
    base64( "ED" | key id (8 bytes) | ed25519 signature of the blake2b-512 of the file (64 bytes) )
    trusted comment: <text>
    base64( ed25519 signature of the 64 bytes above and the trusted comment )

``Ed`` instead of ``ED`` is the older form, which signs the file itself; it is verified, never written. A public key is
base64("Ed" | key id | key). Source: minisign's own description of its formats; tests/fixtures/minisign was made by it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from models.bundle.errors import BundleSignatureInvalid, KeyFileInvalid
from models.errors import printable

MAX_FILE_BYTES = 16 * 1024
"""No file of a key or signature is longer: comments have at most 1,024 and 8,192 bytes."""

UNTRUSTED = "untrusted comment: "
TRUSTED = "trusted comment: "
LEGACY = b"Ed"
PREHASHED = b"ED"
KEY_ID_BYTES = 8
_PUBLIC_BYTES = 2 + KEY_ID_BYTES + 32
_SIGNATURE_BYTES = 64


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key; ``owner`` is its comment, the name people know it by."""

    key_id: bytes
    raw: bytes
    owner: str

    @property
    def id(self) -> str:
        """As minisign prints it: 16 hexadecimal digits."""
        return key_id_text(self.key_id)

    @property
    def base64(self) -> str:
        """The key in one line, as ``minisign -P`` takes it."""
        return base64.b64encode(LEGACY + self.key_id + self.raw).decode("ascii")

    def text(self) -> str:
        """The file of the key."""
        return f"{UNTRUSTED}{self.owner}\n{self.base64}\n"


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature file. ``comment`` is the trusted comment: it is signed too."""

    key_id: bytes
    prehashed: bool
    raw: bytes
    comment: str
    comment_signature: bytes

    @property
    def id(self) -> str:
        return key_id_text(self.key_id)


def key_id_text(key_id: bytes) -> str:
    """minisign reads the eight bytes as a little-endian number."""
    return f"{int.from_bytes(key_id, 'little'):016X}"


def parse_public_key(text: str, name: str) -> PublicKey:
    """Reads a ``.pub`` file, or the key's line alone. Raises ``KeyFileInvalid``."""
    lines = [line.strip() for line in text.strip().splitlines()]
    owner = ""
    if lines and lines[0].startswith(UNTRUSTED):
        owner = printable(lines.pop(0).removeprefix(UNTRUSTED)).strip()
    if len(lines) != 1 or len(text) > MAX_FILE_BYTES:
        raise KeyFileInvalid(name, "a public key has a comment and one more line")
    raw = _decode(lines[0])
    if raw is None or len(raw) != _PUBLIC_BYTES or raw[:2] != LEGACY:
        raise KeyFileInvalid(name, "its second line is no ed25519 public key of minisign")
    key_id = raw[2 : 2 + KEY_ID_BYTES]
    return PublicKey(key_id, raw[2 + KEY_ID_BYTES :], owner[:200] or f"minisign public key {key_id_text(key_id)}")


def parse_signature(raw: bytes) -> Signature:
    """Reads a ``.minisig`` file. Raises ``BundleSignatureInvalid``."""
    try:
        text = raw.decode("utf-8") if len(raw) <= MAX_FILE_BYTES else ""
    except UnicodeDecodeError as error:
        raise BundleSignatureInvalid("its file is not text") from error
    lines = text.replace("\r\n", "\n").rstrip("\n").split("\n")
    if len(lines) != 4 or not lines[0].startswith(UNTRUSTED) or not lines[2].startswith(TRUSTED):
        raise BundleSignatureInvalid("its file does not have minisign's four lines")
    packet, over_comment = _decode(lines[1]), _decode(lines[3])
    if packet is None or len(packet) != 2 + KEY_ID_BYTES + _SIGNATURE_BYTES or packet[:2] not in (LEGACY, PREHASHED):
        raise BundleSignatureInvalid("its second line is no ed25519 signature of minisign")
    if over_comment is None or len(over_comment) != _SIGNATURE_BYTES:
        raise BundleSignatureInvalid("its fourth line is no ed25519 signature")
    return Signature(
        key_id=packet[2 : 2 + KEY_ID_BYTES],
        prehashed=packet[:2] == PREHASHED,
        raw=packet[2 + KEY_ID_BYTES :],
        comment=lines[2].removeprefix(TRUSTED),
        comment_signature=over_comment,
    )


def verify(key: PublicKey, signature: Signature, content: bytes) -> None:
    """Returns when ``signature`` is that of ``content`` by ``key``. Raises ``BundleSignatureInvalid``."""
    if key.key_id != signature.key_id:
        raise BundleSignatureInvalid(f"it was made with the key {signature.id}, not {key.id}")
    signed = hashlib.blake2b(content).digest() if signature.prehashed else content
    public = Ed25519PublicKey.from_public_bytes(key.raw)
    try:
        public.verify(signature.raw, signed)
    except InvalidSignature as error:
        raise BundleSignatureInvalid(f"the file is not what the key {key.id} has signed") from error
    try:
        public.verify(signature.comment_signature, signature.raw + signature.comment.encode())
    except InvalidSignature as error:
        raise BundleSignatureInvalid("its trusted comment was changed") from error


def write_signature(
    sign: Callable[[bytes], bytes],
    key_id: bytes,
    content: bytes,
    file_name: str,
    *,
    clock: Callable[[], float] = time.time,
) -> bytes:
    """The text of ``file_name``'s ``.minisig``, prehashed; ``sign`` is the secret key's signature of some bytes."""
    raw = sign(hashlib.blake2b(content).digest())
    comment = f"timestamp:{int(clock())}\tfile:{file_name}\thashed"
    over_comment = sign(raw + comment.encode())
    packet = base64.b64encode(PREHASHED + key_id + raw).decode("ascii")
    lines = (
        f"{UNTRUSTED}signature from r1box, key {key_id_text(key_id)}",
        packet,
        f"{TRUSTED}{comment}",
        base64.b64encode(over_comment).decode("ascii"),
    )
    return ("\n".join(lines) + "\n").encode()


def _decode(line: str) -> bytes | None:
    """base64 in its one proper form: stray bits in the last letter would make two texts of the same bytes."""
    try:
        raw = base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if base64.b64encode(raw).decode("ascii") == line else None
