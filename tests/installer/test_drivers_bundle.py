"""A drivers bundle: signed by a key the medium knows, whole, and nothing but system extensions; then in the plan."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from installer.actions import CopyFile, Run
from installer.drivers_bundle import MANIFEST, SIGNATURE, read_drivers_bundle
from installer.errors import InstallRefused
from installer.plan import make_plan
from models.bundle.minisign import write_signature
from models.bundle.secret_key import SecretKey
from models.bundle.trust import add_key
from tests.installer.boxes import LEAST, answers, facts
from tests.models.bundle_samples import KEY, OTHER_KEY

IMAGE = b"squashfs of driver, firmware and CANN"


def manifest(**changes: object) -> str:
    """The signed file; ``changes`` replace a value of the only file's, or of the whole."""
    file = {"path": "ascend.raw", "size_bytes": len(IMAGE), "sha256": hashlib.sha256(IMAGE).hexdigest()}
    whole = {"schema": 1, "name": "Ascend 25.3 with CANN 8.5", "vendor": "ascend"}
    file.update({name: value for name, value in changes.items() if name in file})
    whole.update({name: value for name, value in changes.items() if name in whole})
    lines = [f"{name} = {json.dumps(value)}" for name, value in whole.items()]
    return "\n".join([*lines, "[[files]]", *(f"{name} = {json.dumps(value)}" for name, value in file.items())]) + "\n"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    add_key(tmp_path / "keys", KEY.public("R1 Box"))
    return tmp_path / "keys"


def bundle(folder: Path, text: str | None = None, key: SecretKey = KEY) -> Path:
    folder.mkdir()
    content = (text if text is not None else manifest()).encode()
    (folder / MANIFEST).write_bytes(content)
    (folder / SIGNATURE).write_bytes(write_signature(key.sign, key.key_id, content, MANIFEST, clock=lambda: 1.0))
    (folder / "ascend.raw").write_bytes(IMAGE)
    return folder


def refusal(folder: Path, keys: Path) -> str:
    with pytest.raises(InstallRefused) as caught:
        read_drivers_bundle(folder, keys)
    assert caught.value.code == "payload_missing"
    return caught.value.message


def test_a_signed_bundle_is_copied_and_switched_on(tmp_path: Path, keys: Path) -> None:
    folder = bundle(tmp_path / "stick")
    read = read_drivers_bundle(folder, keys)
    assert (read.name, read.vendor) == ("Ascend 25.3 with CANN 8.5", "ascend")
    wanted = answers(LEAST + '\n[accelerator]\nbundle = "drivers"\n')
    given = facts(stick=tmp_path, carried=frozenset({"drivers"})).with_drivers(read)
    actions = [step.action for step in make_plan(given, wanted).steps if step.stage == "vendor-stack"]
    (copy,) = [action for action in actions if isinstance(action, CopyFile)]
    assert copy.source == str(folder / "ascend.raw")
    assert copy.target.endswith("/var/lib/extensions/ascend.raw")
    assert copy.sha256 == hashlib.sha256(IMAGE).hexdigest()
    assert any(isinstance(action, Run) and "systemd-sysext.service" in action.argv for action in actions)


def test_a_stranger_has_signed(tmp_path: Path, keys: Path) -> None:
    assert OTHER_KEY.id in refusal(bundle(tmp_path / "stick", key=OTHER_KEY), keys)


def test_a_changed_list_is_refused(tmp_path: Path, keys: Path) -> None:
    folder = bundle(tmp_path / "stick")
    (folder / MANIFEST).write_text(manifest(vendor="nvidia"))
    refusal(folder, keys)


def test_without_a_signature(tmp_path: Path, keys: Path) -> None:
    folder = bundle(tmp_path / "stick")
    (folder / SIGNATURE).unlink()
    assert SIGNATURE in refusal(folder, keys)


def test_no_trusted_keys_at_all(tmp_path: Path) -> None:
    refusal(bundle(tmp_path / "stick"), tmp_path / "none")


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": 2}, {"vendor": "intel"}, {"path": "../etc/shadow"}, {"path": "a/b.raw"}, {"path": "driver.run"},
        {"sha256": "AB"}, {"size_bytes": "many"},
    ],
)  # fmt: skip
def test_lists_that_are_none(tmp_path: Path, keys: Path, changes: dict[str, object]) -> None:
    assert "no list of drivers" in refusal(bundle(tmp_path / "stick", manifest(**changes)), keys)


def test_no_toml(tmp_path: Path, keys: Path) -> None:
    refusal(bundle(tmp_path / "stick", "schema = "), keys)


def test_a_file_that_is_not_whole(tmp_path: Path, keys: Path) -> None:
    folder = bundle(tmp_path / "stick")
    (folder / "ascend.raw").write_bytes(IMAGE[:-1])
    assert "another size" in refusal(folder, keys)
    (folder / "ascend.raw").unlink()
    assert "missing" in refusal(folder, keys)


def test_cards_of_another_vendor(tmp_path: Path, keys: Path) -> None:
    read = read_drivers_bundle(bundle(tmp_path / "stick"), keys)
    wanted = answers(LEAST + '\n[accelerator]\nbundle = "drivers"\nvendor = "nvidia"\n')
    with pytest.raises(InstallRefused, match="ascend"):
        make_plan(facts(stick=tmp_path, carried=frozenset({"drivers"})).with_drivers(read), wanted)
