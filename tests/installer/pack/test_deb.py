"""The package: made with the real dpkg-deb from a small folder, unpacked again and looked at."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from installer.pack import deb
from installer.pack.dist import PackFailed
from tests.architecture.tree import ROOT

BUILD = {
    "version": "0.1.0",
    "commit": "abcdef0123456789",
    "changed_files": False,
    "source_date_epoch": 1_700_000_000,
    "architecture": "x86_64",
    "needs": {"glibc": "2.36", "glibcxx": "3.4.30"},
}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pack")
    program = folder / "r1box"
    (program / "_internal").mkdir(parents=True)
    (program / "r1box").write_bytes(Path("/bin/true").read_bytes())
    (program / "r1box").chmod(0o755)
    for name in ("r1box-console", "r1box-install"):
        (program / name).symlink_to("r1box")
    (program / "_internal/secret-mode").write_text("x")
    (program / "_internal/secret-mode").chmod(0o600)
    (program / "build-info.json").write_text(json.dumps(BUILD))
    return deb.build(deb.Source(ROOT, program, folder / "staging"), folder)


def ask(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=120).stdout


def test_the_control_fields(package: Path) -> None:
    fields = ask("dpkg-deb", "--field", str(package))
    assert "Version: 0.1.0\n" in fields
    assert "Architecture: amd64\n" in fields
    assert "libc6 (>= 2.36)" in fields
    assert package.name == "r1box_0.1.0_amd64.deb"


def test_files_owners_and_modes(package: Path, tmp_path: Path) -> None:
    listed = ask("dpkg-deb", "--contents", str(package))
    assert {line.split()[1] for line in listed.splitlines()} == {"root/root"}
    subprocess.run(["dpkg-deb", "--extract", str(package), str(tmp_path)], check=True, timeout=120)
    for name in ("r1box", "r1box-console", "r1box-install"):
        assert (tmp_path / "usr/bin" / name).resolve() == tmp_path / "usr/lib/r1box/r1box"
    assert (tmp_path / "usr/lib/r1box/_internal/secret-mode").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "usr/lib/r1box/r1box").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "usr/share/doc/r1box/install.md").is_file()
    for name in ("r1box.service", "r1box.target", "r1box-devices.service"):
        text = (tmp_path / "usr/lib/systemd/system" / name).read_text()
        assert "/opt/r1box" not in text
    unit = (tmp_path / "usr/lib/systemd/system/r1box.service").read_text()
    assert "ExecStart=/usr/bin/r1box serve\n" in unit
    users = (tmp_path / "usr/lib/sysusers.d/r1box.conf").read_text()
    assert "u r1box " in users
    assert "m r1box render" in users


def test_settings_are_kept_by_the_package_manager(package: Path, tmp_path: Path) -> None:
    subprocess.run(["dpkg-deb", "--control", str(package), str(tmp_path)], check=True, timeout=120)
    assert (tmp_path / "conffiles").read_text() == "/etc/r1box/config.toml\n"
    for name in ("preinst", "postinst", "prerm", "postrm"):
        assert (tmp_path / name).stat().st_mode & 0o111
        subprocess.run(["sh", "-n", str(tmp_path / name)], check=True, timeout=30)


def test_the_same_folder_gives_the_same_package(package: Path, tmp_path: Path) -> None:
    source = deb.Source(ROOT, package.parent / "r1box", tmp_path / "staging")
    assert deb.build(source, tmp_path).read_bytes() == package.read_bytes()


def test_purging_takes_all_and_removing_nothing() -> None:
    script = (ROOT / "installer/pack/debian/postrm").read_text()
    removing, _, purging = script.partition("purge)")
    assert "/var/lib/r1box" not in removing
    assert "/etc/r1box" not in removing
    assert "rm -rf --one-file-system /etc/r1box" in purging
    assert "/var/lib/r1box" in purging


def test_changed_files_make_an_older_version() -> None:
    assert deb.version_of({**BUILD, "changed_files": True}) == "0.1.0~abcdef01"
    assert deb.version_of({**BUILD, "commit": None, "changed_files": True}) == "0.1.0"


def test_without_a_folder(tmp_path: Path) -> None:
    with pytest.raises(PackFailed) as caught:
        deb.build(deb.Source(ROOT, tmp_path / "none", tmp_path / "staging"), tmp_path)
    assert caught.value.hint == "make dist"
