"""The token that lets one box join: short-lived, used once. Pure.

    r1c1_<base64url of: 32 bytes of the authority's SHA-256, 8 bytes of the invitation's id, 24 random bytes,
          2 bytes of port, the leader's IP address as text>

With the fingerprint the joining box knows the leader before it sends anything; the random part is its own right to
join, of which the leader keeps a hash alone.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import secrets
from dataclasses import dataclass, field

from appliance.cluster.errors import BadInvitation

PREFIX = "r1c1_"
_FINGERPRINT_BYTES = 32
_ID_BYTES = 8
_SECRET_BYTES = 24
_PORT_BYTES = 2
_FIXED_BYTES = _FINGERPRINT_BYTES + _ID_BYTES + _SECRET_BYTES + _PORT_BYTES
_MOST_CHARACTERS = 256


@dataclass(frozen=True, slots=True)
class Invitation:
    """What a token says. ``fingerprint`` is the SHA-256 of the authority's certificate (DER)."""

    address: str
    port: int
    fingerprint: bytes
    id: str
    secret: bytes = field(repr=False)

    @property
    def token(self) -> str:
        """As people carry it to the other box."""
        raw = b"".join(
            (
                self.fingerprint,
                bytes.fromhex(self.id),
                self.secret,
                self.port.to_bytes(_PORT_BYTES, "big"),
                self.address.encode("ascii"),
            )
        )
        return PREFIX + base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def new_invitation(address: str, port: int, fingerprint: bytes) -> Invitation:
    """A fresh one."""
    return Invitation(address, port, fingerprint, secrets.token_hex(_ID_BYTES), secrets.token_bytes(_SECRET_BYTES))


def read_token(token: str) -> Invitation:
    """What a person typed or pasted. Raises BadInvitation."""
    text = "".join(token.split())
    if not text.startswith(PREFIX) or len(text) > _MOST_CHARACTERS:
        raise BadInvitation(reason=f"it does not begin with {PREFIX}")
    body = text.removeprefix(PREFIX)
    try:
        raw = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise BadInvitation(reason="a character in it is wrong") from None
    fixed, address = raw[:_FIXED_BYTES], raw[_FIXED_BYTES:]
    if len(fixed) < _FIXED_BYTES or not address:
        raise BadInvitation(reason="a part of it is missing")
    try:
        shown = str(ipaddress.ip_address(address.decode("ascii")))
    except ValueError:
        raise BadInvitation(reason="the address in it is none") from None
    rest = fixed[_FINGERPRINT_BYTES:]
    port = int.from_bytes(fixed[-_PORT_BYTES:], "big")
    if port == 0:
        raise BadInvitation(reason="the port in it is none")
    return Invitation(
        shown, port, fixed[:_FINGERPRINT_BYTES], rest[:_ID_BYTES].hex(), rest[_ID_BYTES : _ID_BYTES + _SECRET_BYTES]
    )


def hash_of(secret: bytes) -> str:
    """What the leader keeps. The secret is 192 random bits: nothing slower than SHA-256 would make it safer."""
    return hashlib.sha256(b"r1box cluster invitation\0" + secret).hexdigest()


def fits(secret: bytes, kept: str) -> bool:
    """Whether a secret is the one of a kept hash, in the same time for every answer."""
    return hmac.compare_digest(hash_of(secret), kept)
