"""minisign's formats: what the real tool made is read, and what is made here is what the tool's formats ask for.

tests/fixtures/minisign was made by minisign 0.11; its README has the commands.
"""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.bundle.errors import BundleSignatureInvalid, KeyFileInvalid, KeyPasswordWrong
from models.bundle.minisign import (
    MAX_FILE_BYTES,
    parse_public_key,
    parse_signature,
    verify,
    write_signature,
)
from models.bundle.secret_key import (
    ScryptLimits,
    SecretKey,
    generate,
    is_locked,
    parse_secret_key,
    read_key_text,
    write_secret_key,
)
from tests.models.bundle_samples import KEY, OTHER_KEY

FIXTURES = Path(__file__).parents[1] / "fixtures" / "minisign"
MESSAGE = (FIXTURES / "message.txt").read_bytes()
CHEAP = ScryptLimits(524_288, 16_777_216)


def text(name: str) -> str:
    return (FIXTURES / name).read_text()


def changed(raw: bytes, place: int) -> bytes:
    return raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]


@pytest.mark.parametrize(
    ("signature", "key", "prehashed", "comment"),
    [
        ("message.txt.minisig", "plain.pub", True, "made with minisign 0.11"),
        ("message.legacy.minisig", "plain.pub", False, "legacy"),
        ("message.locked.minisig", "locked.pub", True, "timestamp:1795317037\tfile:message.txt\thashed"),
    ],
)
def test_signatures_of_the_tool_hold(signature: str, key: str, prehashed: bool, comment: str) -> None:
    parsed = parse_signature((FIXTURES / signature).read_bytes())
    public = parse_public_key(text(key), key)
    verify(public, parsed, MESSAGE)
    assert parsed.prehashed is prehashed
    assert parsed.comment == comment
    assert public.owner == f"minisign public key {public.id}"  # the tool writes the id it prints into the comment
    assert parsed.id == public.id
    with pytest.raises(BundleSignatureInvalid, match="not what the key"):
        verify(public, parsed, MESSAGE + b"\n")


@pytest.mark.parametrize("name", ["message.txt.minisig", "message.legacy.minisig"])
def test_no_byte_of_a_signature_can_be_changed(name: str) -> None:
    raw = (FIXTURES / name).read_bytes()
    public = parse_public_key(text("plain.pub"), "plain.pub")
    first_line = raw.index(b"\n")
    accepted = []
    for place in range(len(raw) - 1):
        try:
            verify(public, parse_signature(changed(raw, place)), MESSAGE)
            accepted.append(place)
        except BundleSignatureInvalid:
            pass
    # The untrusted comment is what its name says; everything after it is bound.
    assert accepted == list(range(len("untrusted comment: "), first_line))


def test_signature_of_another_key() -> None:
    raw = write_signature(OTHER_KEY.sign, OTHER_KEY.key_id, MESSAGE, "message.txt")
    with pytest.raises(BundleSignatureInvalid, match=f"made with the key {OTHER_KEY.id}, not {KEY.id}"):
        verify(KEY.public("Lab"), parse_signature(raw), MESSAGE)
    forged = write_signature(OTHER_KEY.sign, KEY.key_id, MESSAGE, "message.txt")
    with pytest.raises(BundleSignatureInvalid, match="not what the key"):
        verify(KEY.public("Lab"), parse_signature(forged), MESSAGE)


def test_what_is_written_has_the_form_of_the_tool() -> None:
    """The tool's key signs here what it signed there: the same 64 bytes, for ed25519 is deterministic."""
    key = parse_secret_key(text("plain.key"), "plain.key")
    tools = parse_signature((FIXTURES / "message.txt.minisig").read_bytes())
    ours = parse_signature(write_signature(key.sign, key.key_id, MESSAGE, "message.txt", clock=lambda: 1_795_317_037.5))
    assert ours.raw == tools.raw
    assert ours.prehashed
    assert ours.comment == "timestamp:1795317037\tfile:message.txt\thashed"
    assert key.public("x").base64 == text("plain.pub").splitlines()[1]


def test_the_tools_locked_key_opens_with_its_password() -> None:
    """With the tool's own cost: 1 GiB of memory and some seconds."""
    key = parse_secret_key(text("locked.key"), "locked.key", "correct horse")
    assert key.public("x").base64 == text("locked.pub").splitlines()[1]
    assert is_locked(text("locked.key"), "locked.key")
    assert not is_locked(text("plain.key"), "plain.key")


def test_locked_keys_are_read_again() -> None:
    key = generate()
    locked = key.text("pass", CHEAP)
    assert parse_secret_key(locked, "k", "pass") == key
    for wrong in ("Pass", "", None):
        with pytest.raises(KeyPasswordWrong):
            parse_secret_key(locked, "k", wrong)


def test_open_keys_are_read_again_and_damage_is_found() -> None:
    key = generate()
    open_text = key.text(None)
    assert parse_secret_key(open_text, "k") == key
    comment, line = open_text.splitlines()
    packet = base64.b64decode(line)
    for place in range(54, len(packet)):
        damaged = f"{comment}\n{base64.b64encode(changed(packet, place)).decode()}\n"
        with pytest.raises(KeyFileInvalid, match="checksum"):
            parse_secret_key(damaged, "k")


def test_a_key_that_wants_all_memory_is_refused() -> None:
    comment, line = generate().text("pass", CHEAP).splitlines()
    packet = bytearray(base64.b64decode(line))
    packet[46:54] = (2**40).to_bytes(8, "little")
    with pytest.raises(KeyFileInvalid, match="more memory"):
        parse_secret_key(f"{comment}\n{base64.b64encode(packet).decode()}\n", "k", "pass")


def test_the_seed_is_never_shown() -> None:
    key = generate()
    assert repr(key.seed) not in repr(key)
    assert "seed" not in repr(key)


def test_secret_keys_are_their_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "k.key"
    write_secret_key(path, KEY.text(None))
    assert path.stat().st_mode & 0o777 == 0o600
    assert parse_secret_key(read_key_text(path), "k.key") == KEY
    with pytest.raises(FileExistsError):
        write_secret_key(path, OTHER_KEY.text(None))
    assert parse_secret_key(read_key_text(path), "k.key") == KEY


BAD_PUBLIC = {
    "empty": "",
    "three lines": "untrusted comment: a\nb\nc\n",
    "not base64": "untrusted comment: a\n!!!\n",
    "short": "untrusted comment: a\n" + base64.b64encode(b"Ed" + bytes(39)).decode(),
    "other algorithm": "untrusted comment: a\n" + base64.b64encode(b"Xx" + bytes(40)).decode(),
    "a secret key": (FIXTURES / "plain.key").read_text(),
    "long": "untrusted comment: " + "a" * MAX_FILE_BYTES + "\nRW",
}


@pytest.mark.parametrize("case", BAD_PUBLIC)
def test_what_is_no_public_key(case: str) -> None:
    with pytest.raises(KeyFileInvalid):
        parse_public_key(BAD_PUBLIC[case], "bad.pub")


def test_public_keys_of_one_line_and_strange_owners() -> None:
    line = text("plain.pub").splitlines()[1]
    assert parse_public_key(line, "x").base64 == line
    assert parse_public_key(f"untrusted comment: Lab\x1b[2J\u202e\n{line}\n", "x").owner == "Lab[2J"


@given(raw=st.binary(max_size=600))
def test_no_signature_file_breaks_the_reader(raw: bytes) -> None:
    with pytest.raises(BundleSignatureInvalid):
        parse_signature(raw)


@given(raw=st.text(max_size=600))
def test_no_key_file_breaks_the_reader(raw: str) -> None:
    for read in (lambda: parse_public_key(raw, "k"), lambda: parse_secret_key(raw, "k")):
        with pytest.raises(KeyFileInvalid):
            read()


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda p: None, "no such file"),
        (lambda p: p.write_bytes(b"x" * (MAX_FILE_BYTES + 1)), "too long"),
        (lambda p: p.write_bytes(b"\xff\xfe"), "not text"),
        (lambda p: p.mkdir(), "is a directory"),
    ],
)
def test_files_that_are_no_keys(tmp_path: Path, make: object, problem: str) -> None:
    make(tmp_path / "k")  # type: ignore[operator]
    with pytest.raises(KeyFileInvalid, match=problem):
        read_key_text(tmp_path / "k")


def test_keys_differ() -> None:
    assert generate() != generate()
    assert isinstance(generate(), SecretKey)
