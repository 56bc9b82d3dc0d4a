"""The folder of trusted keys: any number, rotation, files that are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.bundle.errors import (
    BundleKeyUnknown,
    BundleSignatureInvalid,
    BundleTargetUnusable,
    BundleUnsigned,
    KeyFileInvalid,
    KeyNotTrusted,
)
from models.bundle.minisign import PublicKey, write_signature
from models.bundle.secret_key import SecretKey
from models.bundle.trust import MAX_KEYS, TrustedKeys, add_key, read_trusted_keys, remove_key
from tests.models.bundle_samples import KEY, OTHER_KEY

CONTENT = b"what is signed"


def signed(key: SecretKey) -> bytes:
    return write_signature(key.sign, key.key_id, CONTENT, "manifest.json", clock=lambda: 1.0)


def test_no_folder_is_no_keys(tmp_path: Path) -> None:
    assert read_trusted_keys(tmp_path / "none") == TrustedKeys()


def test_two_keys_for_rotation(tmp_path: Path) -> None:
    folder = tmp_path / "keys.d"
    add_key(folder, KEY.public("Lab 2025"))
    path = add_key(folder, OTHER_KEY.public("Lab 2026"))
    assert path.name == f"{OTHER_KEY.id}.pub"
    assert path.read_text() == OTHER_KEY.public("Lab 2026").text()
    keys = read_trusted_keys(folder)
    assert {key.owner for _, key in keys.keys} == {"Lab 2025", "Lab 2026"}
    for key, owner in ((KEY, "Lab 2025"), (OTHER_KEY, "Lab 2026")):
        signer = keys.identify(CONTENT, signed(key))
        assert (signer.owner, signer.key_id, signer.is_trusted) == (owner, key.id, True)
        assert signer.comment == "timestamp:1 file:manifest.json hashed"
        keys.demand("b", signer)
    assert remove_key(folder, KEY.id.lower()).owner == "Lab 2025"
    keys = read_trusted_keys(folder)
    with pytest.raises(BundleKeyUnknown, match=KEY.id):
        keys.demand("b", keys.identify(CONTENT, signed(KEY)))
    keys.demand("b", keys.identify(CONTENT, signed(OTHER_KEY)))
    assert sorted(p.name for p in folder.iterdir()) == [path.name]


def test_adding_again_changes_the_owner_alone(tmp_path: Path) -> None:
    add_key(tmp_path, KEY.public("Lab"))
    add_key(tmp_path, KEY.public("The lab"))
    assert [key.owner for _, key in read_trusted_keys(tmp_path).keys] == ["The lab"]


def test_another_key_with_the_same_id_is_refused(tmp_path: Path) -> None:
    add_key(tmp_path, KEY.public("Lab"))
    with pytest.raises(KeyFileInvalid, match="same id"):
        add_key(tmp_path, SecretKey(KEY.key_id, OTHER_KEY.seed).public("Evil"))
    assert read_trusted_keys(tmp_path).keys[0][1].raw == KEY.public("Lab").raw


def test_two_keys_under_one_id_are_both_tried() -> None:
    twin = SecretKey(KEY.key_id, OTHER_KEY.seed)
    keys = TrustedKeys((("a", KEY.public("A")), ("b", twin.public("B"))))
    assert keys.identify(CONTENT, signed(twin)).owner == "B"
    assert keys.identify(CONTENT, signed(KEY)).owner == "A"


def test_unsigned_and_forged() -> None:
    keys = TrustedKeys((("a", KEY.public("A")),))
    with pytest.raises(BundleUnsigned):
        keys.demand("b", keys.identify(CONTENT, None))
    with pytest.raises(BundleSignatureInvalid):
        keys.identify(CONTENT + b"!", signed(KEY))
    with pytest.raises(BundleSignatureInvalid):
        keys.identify(CONTENT, b"no signature")


def test_files_that_are_no_keys_are_told_and_block_nobody(tmp_path: Path) -> None:
    add_key(tmp_path, KEY.public("Lab"))
    (tmp_path / "bad.pub").write_text("hello\n")
    (tmp_path / "README").write_text("not looked at")
    (tmp_path / "folder.pub").mkdir()
    keys = read_trusted_keys(tmp_path)
    assert [key.owner for _, key in keys.keys] == ["Lab"]
    assert len(keys.problems) == 2
    assert keys.problems[0].startswith("bad.pub")


def test_a_flood_of_keys_is_bounded(tmp_path: Path) -> None:
    for number in range(MAX_KEYS + 3):
        key = PublicKey(number.to_bytes(8, "little"), KEY.public("x").raw, "x")
        (tmp_path / f"{number:04d}.pub").write_text(key.text())
    keys = read_trusted_keys(tmp_path)
    assert len(keys.keys) == MAX_KEYS
    assert "3 more keys" in keys.problems[0]


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(KeyNotTrusted):
        remove_key(tmp_path, "0" * 16)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BundleTargetUnusable):
        add_key(tmp_path / "file" / "keys", KEY.public("x"))
    with pytest.raises(KeyFileInvalid):
        read_trusted_keys(tmp_path / "file")
