"""Passwords of people: what is a usable one, and its argon2id hash.

Rules after NIST SP 800-63B-4, section 3.1.1: a least length, a list of common ones, nothing about kinds of characters
and no expiry. Text is put into NFKC first, so that an accent typed on another keyboard is the same accent.
"""

from __future__ import annotations

import base64
import itertools
import secrets
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

from appliance.security.errors import BadPassword

LEAST_LENGTH = 10
MOST_LENGTH = 512

# Of at least the least length, in lower case; the shorter ones are refused for their length.
_COMMON = frozenset(
    """
    1234567890 0123456789 0987654321 9876543210 1234567891 12345678910 123456789012 1234512345 1122334455 1111122222
    123123123123 123456123456 1q2w3e4r5t 1q2w3e4r5t6y 1qaz2wsx3edc 1qazxsw23edc q1w2e3r4t5 q1w2e3r4t5y6 qwertyuiop
    qwertyuiop123 qwerty12345 qwerty123456 qwerty1234 qwer1234asdf asdfghjkl1 asdfghjkl; asdfghjklzxcvbnm zxcvbnm123
    zaq12wsxcde3 abcdefghij abcdefghijk abcd123456 abc123456789 abc1234567 a123456789 a1234567890 aa12345678 woaini1314
    woaini520 woaini1314520 wodemima123 5201314520 1314520520 password01 password11 password12 password123 password1234
    password12345 password2024 password2025 password2026 passw0rd123 p@ssw0rd123 p@ssword123 p@ssw0rd1234 mypassword
    mypassword1 newpassword newpassword1 changeme123 changeme1234 changeme12 letmein123 letmein1234 welcome123
    welcome1234 welcome2024 welcome2025 welcome2026 administrator administrator1 admin12345 admin123456 admin1234567
    adminadmin admin@1234 admin@12345 administrador rootroot12 root123456 superadmin superadmin1 superuser1 test123456
    testtest12 testtest123 guest12345 user123456 default123 iloveyou12 iloveyou123 iloveyou1234 sunshine123 princess123
    football123 baseball123 superman123 computer123 internet123 deepseek123 deepseek-r1 deepseek2025 deepseekr1
    r1boxr1box r1box12345 r1box-admin huawei@123 huawei12#$ huawei12345 admin@9000 admin@huawei changeme_123
    summer2024! summer2025! winter2025! spring2026! correcthorse correcthorsebatterystaple
    """.split()  # noqa: SIM905 - a list in quotes of its own would be five times as long
)


def check_password(password: str, *, user_name: str) -> None:
    """Raise BadPassword, saying which rule it breaks."""
    normal = _normalize(password)
    if len(normal) < LEAST_LENGTH:
        raise BadPassword(reason=f"it has fewer than {LEAST_LENGTH} characters")
    if len(normal) > MOST_LENGTH:
        raise BadPassword(reason=f"it has more than {MOST_LENGTH} characters")
    folded = normal.casefold()
    name = _normalize(user_name).casefold()
    if name and (folded == name or folded.strip("0123456789!.-_@# ") == name):
        raise BadPassword(reason="it is the user's name")
    if folded in _COMMON or len(set(folded)) < 3 or _is_sequence(folded):
        raise BadPassword(reason="it is one of the first that are guessed")


class Passwords:
    """Makes and checks hashes. Both take tens of milliseconds and 64 MiB: call them where few run at once."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        # RFC 9106's second recommended option is the library's default: 3 passes over 64 MiB in 4 lanes.
        self._hasher = hasher or PasswordHasher()
        # Checked in place of the hash that an unknown user does not have, so that both cost the same work: random bytes
        # with the parameters of a hash. Making a real one would cost every command line a tenth of a second.
        parts = (secrets.token_bytes(self._hasher.salt_len), secrets.token_bytes(self._hasher.hash_len))
        salt, digest = (base64.b64encode(part).decode().rstrip("=") for part in parts)
        cost = f"m={self._hasher.memory_cost},t={self._hasher.time_cost},p={self._hasher.parallelism}"
        self._decoy = f"$argon2id$v=19${cost}${salt}${digest}"

    def hash(self, password: str) -> str:
        """The encoded hash, with its salt and parameters."""
        return self._hasher.hash(_normalize(password).encode("utf-8", "surrogatepass"))

    def verify(self, stored: str | None, password: str) -> bool:
        """Whether ``password`` belongs to ``stored``. ``None`` (no such user, or no password) is never right and costs
        as much as a wrong one."""
        encoded = self._decoy if stored is None else stored
        try:
            self._hasher.verify(encoded, _normalize(password[: MOST_LENGTH + 1]).encode("utf-8", "surrogatepass"))
        except (VerifyMismatchError, VerificationError, InvalidHashError):
            return False
        return stored is not None

    def is_outdated(self, stored: str) -> bool:
        """Whether the hash was made with other parameters than new ones are."""
        return self._hasher.check_needs_rehash(stored)


def _normalize(password: str) -> str:
    return unicodedata.normalize("NFKC", password)


def _is_sequence(text: str) -> bool:
    steps = {ord(after) - ord(before) for before, after in itertools.pairwise(text)}
    return len(steps) == 1
