"""What is inside: hostile lists of contents do nothing."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest

from appliance.backup.container import (
    BackedUpFile,
    Manifest,
    describe_file,
    read_files,
    read_manifest,
    write_container,
)
from appliance.backup.errors import BackupDamaged, BackupTooNew
from appliance.backup.parts import found_in, part_of


def manifest(*files: BackedUpFile) -> Manifest:
    return Manifest(created_at="2026-11-22", version="0.1.0", host="ward-3", revision="0007", files=files)


def raw(values: Any, content: bytes = b"") -> io.BytesIO:
    text = values if isinstance(values, bytes) else json.dumps(values).encode()
    return io.BytesIO(len(text).to_bytes(4, "big") + text + content)


def listed(*names: str, size: int = 1) -> dict[str, Any]:
    digest = hashlib.sha256(b"x").hexdigest()
    files = [{"name": name, "size_bytes": size, "sha256": digest} for name in names]
    base = {"schema": 1, "created_at": "", "version": "", "host": "", "revision": "", "models": [], "counts": {}}
    return {**base, "files": files}


@pytest.mark.parametrize(
    "name",
    [
        "../r1box.db", "/etc/passwd", "tls/../../x", "tls/", "tls", "tls/server.crt/x", "tls//server.crt", "./r1box.db",
        "r1box.db\0", "r1box.db/x", "R1BOX.DB", "backup-key.json", "admin.sock", ".in-use", "trusted-keys/.pub",
        "trusted-keys/a/b.pub", "trusted-keys/../x.pub", "trusted-keys/x.pub\n", "restore-staged", "",
        "tls\\server.crt",
    ],
)  # fmt: skip
def test_a_hostile_name_is_refused(name: str, tmp_path: Path) -> None:
    assert part_of(name) is None
    with pytest.raises(BackupDamaged, match="that no box makes"):
        read_manifest(raw(listed("r1box.db", name)), path="f")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "values",
    [
        b"", b"[]", b"{}", b"null", b"\xff", b"[" * 100_000, b'{"schema": 1}',
        listed(), listed("settings.toml"), listed("r1box.db", "r1box.db"),
        listed("r1box.db", size=-1), listed("r1box.db", size=2**50), listed("r1box.db", size=True),
        {**listed("r1box.db"), "files": {}}, {**listed("r1box.db"), "host": 7}, {**listed("r1box.db"), "models": [1]},
        {**listed("r1box.db"), "counts": {"users": "many"}},
        {**listed("r1box.db"), "files": [{"name": "r1box.db", "size_bytes": 1, "sha256": "AB"}]},
        {**listed(*[f"trusted-keys/{number}.pub" for number in range(1_001)], "r1box.db")},
    ],
)  # fmt: skip
def test_a_list_that_makes_no_sense_is_refused(values: Any) -> None:
    with pytest.raises(BackupDamaged):
        read_manifest(raw(values), path="f")


def test_a_list_that_is_too_long_is_not_read() -> None:
    with pytest.raises(BackupDamaged, match="too long"):
        read_manifest(io.BytesIO(b"\xff\xff\xff\xff"), path="f")


def test_contents_of_a_newer_box_are_refused_as_that() -> None:
    with pytest.raises(BackupTooNew):
        read_manifest(raw({**listed("r1box.db"), "schema": 2}), path="f")


@pytest.mark.parametrize("content", [b"", b"y", b"xx"])
def test_content_that_is_not_as_listed_is_refused(content: bytes, tmp_path: Path) -> None:
    source = raw(listed("r1box.db"), content)
    found = read_manifest(source, path="f")
    with pytest.raises(BackupDamaged):
        read_files(source, found, tmp_path, path="f")


def test_what_is_there_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "r1box.db").symlink_to(tmp_path / "elsewhere")
    source = raw(listed("r1box.db"), b"x")
    with pytest.raises(FileExistsError):
        read_files(source, read_manifest(source, path="f"), tmp_path, path="f")
    assert not (tmp_path / "elsewhere").exists()


def test_files_go_in_and_come_out(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new, old / "tls"):
        folder.mkdir()
    (old / "r1box.db").write_bytes(b"d" * 3_000_000)
    (old / "tls" / "server.key").write_bytes(b"")
    made = manifest(describe_file(old, "r1box.db"), describe_file(old, "tls/server.key"))

    class Sink(io.BytesIO):
        def write(self, data: Any) -> Any:
            return super().write(data)

    sink, told = Sink(), []
    write_container(sink, made, old, lambda done, total: told.append((done, total)))
    assert told[-1] == (3_000_000, 3_000_000)
    sink.seek(0)
    found = read_manifest(sink, path="f")
    assert found == Manifest(**{**{name: getattr(made, name) for name in made.__slots__}, "counts": {}})
    read_files(sink, found, new, path="f")
    assert (new / "r1box.db").read_bytes() == b"d" * 3_000_000
    assert ((new / "tls" / "server.key").stat().st_mode & 0o777, (new / "tls").stat().st_mode & 0o777) == (0o600, 0o700)


def test_links_of_the_state_folder_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").symlink_to("/etc/hostname")
    (tmp_path / "trusted-keys").mkdir()
    (tmp_path / "trusted-keys" / "a.pub").write_text("")
    (tmp_path / "trusted-keys" / "b.pub").symlink_to("/etc/hostname")
    (tmp_path / "trusted-keys" / "notes.txt").write_text("")
    (tmp_path / "tls").symlink_to(tmp_path / "trusted-keys")
    assert found_in(tmp_path) == ("trusted-keys/a.pub",)
