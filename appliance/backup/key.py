"""The key of backups: made of a passphrase by scrypt, kept on the box for the nightly ones.

The box keeps the derived key and not the passphrase (mode 0600, beside the database it protects the copies of): whoever
reads that file could read the database too. A symmetric key and no public one, so that only who knows the passphrase,
or has the box, can make a file that restores.
"""

from __future__ import annotations

import json
import secrets
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from appliance.backup.disk import write_private
from appliance.backup.errors import BadPassphrase

KEY_FILE = "backup-key.json"
LEAST_CHARACTERS = 10
MOST_CHARACTERS = 1024
DEFAULT_LOG2_N = 17
"""128 MiB and some tenths of a second for each guess (OWASP's first choice for scrypt: N=2^17, r=8, p=1)."""
LEAST_LOG2_N, MOST_LOG2_N = 14, 18
"""What a file may ask for: a forged header must not take the machine's memory."""
SALT_BYTES = 16
KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class BackupKey:
    """A derived key with what it was derived by. ``log2_n``: scrypt's N as a power of two."""

    salt: bytes
    log2_n: int
    secret: bytes = field(repr=False)


def derive(passphrase: str, *, salt: bytes | None = None, log2_n: int | None = None) -> BackupKey:
    """The key of ``passphrase``; blocks for some tenths of a second. Raises BadPassphrase."""
    # The same letters from another keyboard or system: one form of accents, no blanks around.
    text = unicodedata.normalize("NFKC", passphrase).strip()
    if not LEAST_CHARACTERS <= len(text) <= MOST_CHARACTERS:
        raise BadPassphrase(least=LEAST_CHARACTERS, most=MOST_CHARACTERS)
    chosen = secrets.token_bytes(SALT_BYTES) if salt is None else salt
    power = DEFAULT_LOG2_N if log2_n is None else log2_n
    kdf = Scrypt(salt=chosen, length=KEY_BYTES, n=1 << power, r=8, p=1)
    return BackupKey(chosen, power, kdf.derive(text.encode("utf-8", "surrogatepass")))


def save_key(state_dir: Path, key: BackupKey) -> None:
    """Keep the key for backups that nobody types a passphrase for. Raises OSError."""
    values = {"schema": 1, "kdf": "scrypt", "log2_n": key.log2_n, "salt": key.salt.hex(), "key": key.secret.hex()}
    write_private(state_dir / KEY_FILE, json.dumps(values).encode())


def load_key(state_dir: Path) -> BackupKey | None:
    """The box's key, ``None`` when no passphrase was set (or the file cannot be used). Raises OSError."""
    try:
        values = json.loads((state_dir / KEY_FILE).read_bytes())
        key = BackupKey(bytes.fromhex(values["salt"]), int(values["log2_n"]), bytes.fromhex(values["key"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return None
    return key if len(key.secret) == KEY_BYTES else None


def forget_key(state_dir: Path) -> bool:
    """Make no more backups by itself; whether there was a key."""
    try:
        (state_dir / KEY_FILE).unlink()
    except FileNotFoundError:
        return False
    return True
