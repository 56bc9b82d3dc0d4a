"""The one-time token with which the first administrator is made: there is no default password to forget about.

It lies in a file of the state folder that only the service's user can read, so it is shown where one is on the box
already: by ``r1box serve`` in its terminal, and by ``r1box users setup-token``. It is gone when there is an
administrator. All methods block on the disk.
"""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path

_ALPHABET = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"  # without I, L, O, 0 and 1: it is read from a screen and typed
_GROUPS = 4
_GROUP_LENGTH = 5


class SetupToken:
    """The token's file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def ensure(self) -> str:
        """The token, made if there is none yet: 99 random bits in four groups."""
        found = self.read()
        if found is not None:
            return found
        groups = ("".join(secrets.choice(_ALPHABET) for _ in range(_GROUP_LENGTH)) for _ in range(_GROUPS))
        token = "-".join(groups)
        temporary = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, token.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(self._file)
        return token

    def read(self) -> str | None:
        """The token, None when there is none."""
        try:
            text = self._file.read_text(encoding="ascii").strip()
        except (FileNotFoundError, UnicodeDecodeError):
            return None
        return text or None

    def matches(self, given: str) -> bool:
        """Whether ``given`` is the token; case, spaces and hyphens do not count."""
        token = self.read()
        return token is not None and hmac.compare_digest(_plain(token).encode(), _plain(given).encode())

    def remove(self) -> None:
        """The token is of no more use."""
        self._file.unlink(missing_ok=True)


def _plain(text: str) -> str:
    return "".join(char for char in text.upper() if char.isascii() and char.isalnum())
