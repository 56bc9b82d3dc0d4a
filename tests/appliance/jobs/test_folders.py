"""Which files a caller over the network reaches."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.jobs.errors import PathNotAllowed, PathNotThere
from appliance.jobs.folders import AllowedFolders
from drivers.mounts import Mount


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    folder = tmp_path / "stick"
    folder.mkdir()
    (folder / "model.gguf").write_bytes(b"GGUF")
    (tmp_path / "secret").write_text("s")
    (folder / "out").symlink_to(tmp_path / "secret")
    (folder / "up").symlink_to(tmp_path)
    return folder


def test_what_is_on_the_stick(stick: Path) -> None:
    folders = AllowedFolders((stick,), mounts=tuple)
    assert folders.resolve(str(stick / "model.gguf")) == stick / "model.gguf"
    assert folders.resolve(str(stick)) == stick
    with pytest.raises(PathNotThere):
        folders.resolve(str(stick / "none.gguf"))


@pytest.mark.parametrize(
    "path",
    ["{s}/out", "{s}/up/secret", "{s}/../secret", "/etc/shadow", "stick", "", "{s}/a\0b", "{s}x", "/proc/self/root"],
)
def test_what_is_not(stick: Path, path: str) -> None:
    folders = AllowedFolders((stick,), mounts=tuple)
    with pytest.raises(PathNotAllowed) as refused:
        folders.resolve(path.format(s=stick))
    assert refused.value.message.isprintable()


def test_refusals_do_not_tell_what_is_there(stick: Path) -> None:
    folders = AllowedFolders((stick,), mounts=tuple)
    told = set()
    for path in ("/etc/passwd", "/etc/passwx"):
        with pytest.raises(PathNotAllowed) as refused:
            folders.resolve(path)
        told.add(refused.value.message.replace(path, ""))
    assert len(told) == 1


def test_mounted_media_are_allowed_as_long_as_they_are_mounted() -> None:
    mounts = [
        Mount("8:17", "/", "/media/mei/STICK", "vfat", frozenset()),
        Mount("8:1", "/", "/", "ext4", frozenset()),
        Mount("0:5", "/", "/mnt/proc", "proc", frozenset()),
        Mount("8:18", "/", "/mediathek", "ext4", frozenset()),
    ]
    folders = AllowedFolders((), mounts=lambda: mounts)
    assert folders.now() == (Path("/media/mei/STICK"),)
    mounts.clear()
    assert folders.now() == ()
