"""Where Debian comes from, and that the image does not say so."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from installer.media.iso import KNOWN, IsoFailed, in_file, refuse_leaks
from installer.media.live_build import AMD64, ARM64, config_argv, hybrid_argv
from installer.media.mirrors import PUBLIC_HOSTS, Mirrors, NoMirror, network_names, read_mirrors
from tests.architecture.tree import ROOT

DEB822 = """\
# a comment with http://hidden.example/
Types: deb
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main

Types: deb deb-src
URIs: http://mirror.example:8081/security
Suites: bookworm-security
Components: main
"""
ONE_LINE = """\
deb-src http://src.example/debian bookworm main
deb [signed-by=/a/b.gpg arch=amd64] http://old.example/debian bookworm main contrib
deb http://old.example/security bookworm-security main
"""
CONFIGURATION = ROOT / "installer/media/live-build"


def test_both_forms_of_apts_sources(tmp_path: Path) -> None:
    new, old = tmp_path / "debian.sources", tmp_path / "sources.list"
    new.write_text(DEB822)
    old.write_text(ONE_LINE)
    found = read_mirrors([tmp_path / "none", new, old])
    assert found == Mirrors("http://mirror.example/debian", "http://mirror.example:8081/security")
    assert found.private_hosts() == ("mirror.example",)
    assert read_mirrors([old]).main == "http://old.example/debian"


def test_a_suite_that_nobody_has(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text(ONE_LINE)
    with pytest.raises(NoMirror, match="trixie"):
        read_mirrors([tmp_path / "sources.list"], "trixie")


def test_public_hosts_tell_nothing() -> None:
    public = sorted(PUBLIC_HOSTS)[0]
    assert Mirrors(f"http://{public}/debian", "http://inner.example/s").private_hosts() == ("inner.example",)


def test_a_host_is_found_across_blocks(tmp_path: Path) -> None:
    file = tmp_path / "big"
    host = "mirror.example"
    file.write_bytes(b"\0" * ((4 << 20) - 5) + host.encode() + b"\0" * 100)
    assert in_file(file, host)
    assert not in_file(file, "other.example")


def test_an_image_that_names_a_mirror_is_refused_and_removed(tmp_path: Path) -> None:
    tree, image, host = tmp_path / "chroot", tmp_path / "x.iso", "mirror.example"
    (tree / "etc/apt").mkdir(parents=True)
    (tree / "etc/hosts").write_text("127.0.0.1 localhost\n")
    (tree / "etc/link").symlink_to("/nowhere")
    image.write_bytes(b"\0" * 1000)
    with pytest.raises(IsoFailed, match="finds nothing at all"):
        refuse_leaks(tree, image, [])
    (tree / "etc/rauc.conf").write_text(f"path={KNOWN}\n")
    refuse_leaks(tree, image, [host])
    assert image.is_file()
    planted = {
        "content": lambda: (tree / "etc/apt/x.list").write_text(f"deb http://{host}/debian bookworm main\n"),
        "binary": lambda: (tree / "etc/apt/x.list").write_bytes(b"\0" * (5 << 20) + host.encode()),
        "name": lambda: (tree / f"etc/apt/{host}_debian_InRelease").write_text(""),
        "image": lambda: image.write_bytes(b"\0" * 100 + host.encode()),
    }
    for plant in planted.values():
        for left in (tree / "etc/apt").iterdir():
            left.unlink()
        image.write_bytes(b"\0" * 1000)
        plant()
        with pytest.raises(IsoFailed, match="names a mirror"):
            refuse_leaks(tree, image, ["other.example", host])
        assert not image.exists()


def test_names_of_the_build_machines_network() -> None:
    apt = 'Acquire::http::Proxy "http://u:word@cache.example:3142/";\nAcquire::https::Proxy::a "DIRECT";\n'
    resolver = "nameserver 192.0.2.1\nsearch corp.example lan .\noptions edns0\n"
    given = {"http_proxy": "proxy.example:8080", "PATH": "/bin"}
    assert set(network_names(given, resolver, apt, "build7")) == {
        "cache.example", "proxy.example", "corp.example", "build7",
    }  # fmt: skip
    assert network_names({}, "", "", "debian") == ()


def test_the_configuration_has_what_the_search_must_find() -> None:
    files = [path for path in CONFIGURATION.rglob("*") if path.is_file()]
    assert any(in_file(path, KNOWN) for path in files)


def test_the_mirrors_are_options_and_nothing_else() -> None:
    mirrors = Mirrors("http://mirror.example/debian", "http://mirror.example/security")
    argv = config_argv(mirrors, AMD64)
    given = {argv[i]: argv[i + 1] for i in range(2, len(argv) - 1, 2)}
    assert given["--mirror-chroot"] == mirrors.main
    assert "--mirror-binary" not in given
    assert urlsplit(given["--mirror-binary-security"]).hostname in PUBLIC_HOSTS
    assert given["--bootloaders"] == "grub-pc grub-efi"
    assert given["--uefi-secure-boot"] == "enable"
    for path in CONFIGURATION.rglob("*"):
        if path.is_file():
            assert "://" not in path.read_text().replace("file://", ""), path


def test_arm64_has_no_old_firmware() -> None:
    argv = config_argv(Mirrors("http://a.example/d", "http://a.example/s"), ARM64)
    assert argv[argv.index("--bootloaders") + 1] == "grub-efi"
    assert "--grub2-mbr" not in hybrid_argv("binary", "x.iso", ARM64)
    assert "--grub2-mbr" in hybrid_argv("binary", "x.iso", AMD64)


def test_what_is_enabled_is_there() -> None:
    hook = (CONFIGURATION / "hooks/normal/9000-r1box.hook.chroot").read_text()
    units = {path.name for kind in ("service", "socket") for path in CONFIGURATION.rglob(f"*.{kind}")}
    # Templates are started by udev and by their socket.
    units = {name for name in units if "@." not in name}
    enabled = {word for line in hook.splitlines() if line.startswith("systemctl enable") for word in line.split()[2:]}
    assert units <= enabled
    assert {name for name in enabled - units if not name.startswith("systemd-")} == {"tmp.mount"}


def test_scripts_may_be_run() -> None:
    folders = [CONFIGURATION / "hooks", CONFIGURATION / "includes.chroot_before_packages/etc/initramfs-tools"]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    scripts = [path for path in files if path.read_text().startswith("#!")]
    assert len(scripts) >= 3
    assert [path.name for path in scripts if not path.stat().st_mode & 0o100] == []
