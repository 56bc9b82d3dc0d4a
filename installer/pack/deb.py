"""The Debian package of a finished folder: the program in /usr/lib/r1box, its commands, units, user and folders.

Settings (`/etc/r1box/config.toml`) are a conffile; `apt remove` leaves them and all data, `apt purge` takes both. Made
with dpkg-deb alone: there is nothing to compile and nothing that debhelper would find out better.
"""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

from drivers.command import CommandFailed, minimal_environment, run
from installer.pack.build_info import files_below
from installer.pack.dist import BUILD_INFO, PackFailed, size_bytes
from installer.pack.frozen import PROGRAMS
from installer.system.layout import DEFAULT_PREFIX, UNITS

PACKAGE = "r1box"
PROGRAM = Path("usr/lib/r1box")
DOCUMENTS = Path("usr/share/doc/r1box")
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
MAINTAINER = "The R1 Box developers <developers@r1box.invalid>"
_SCRIPTS = ("preinst", "postinst", "prerm", "postrm")
_BUILD_S = 1800.0
_TEXT = """\
 One daemon finds the machine's Huawei Ascend or NVIDIA cards, works out which
 R1 variant fits and proves that it runs on them, and serves chat and the APIs
 that people's programs already speak. It comes with the operator's console and
 the installer, with all the libraries it needs; no Python is asked for.
"""


@dataclass(frozen=True, slots=True)
class Source:
    """The source tree, a folder from make dist, and where the package's tree is put together."""

    tree: Path
    folder: Path
    staging: Path


def version_of(build: Mapping[str, Any]) -> str:
    """The package's version: files beyond a commit make an older one than the release that they may become."""
    version = str(build["version"])
    commit = build.get("commit")
    return f"{version}~{str(commit)[:8]}" if commit and build.get("changed_files") else version


def build(source: Source, out: Path) -> Path:
    """The package file in ``out``. Raises PackFailed, OSError."""
    try:
        told: dict[str, Any] = json.loads((source.folder / BUILD_INFO).read_text("utf-8"))
    except OSError as error:
        raise PackFailed(f"{source.folder} is no finished folder", "make dist") from error
    version, architecture = version_of(told), ARCHITECTURES[told["architecture"]]
    stage(source, told, version, architecture)
    target = out / f"{PACKAGE}_{version}_{architecture}.deb"
    threads = ("--threads-max=1",) if _knows_threads() else ()
    argv = ("dpkg-deb", "--root-owner-group", "-Zxz", "-z6", *threads, "--build", str(source.staging), str(target))
    environment = minimal_environment(SOURCE_DATE_EPOCH=str(told["source_date_epoch"]))
    try:
        run(argv, timeout_s=_BUILD_S, environment=environment)
    except CommandFailed as error:
        raise PackFailed(f"{error}\n{error.result.stderr[-2000:]}", "apt-get install dpkg-dev") from error
    return target


def _knows_threads() -> bool:
    """dpkg-deb 1.21.9 and newer."""
    try:
        return "--threads-max" in run(("dpkg-deb", "--help"), timeout_s=30, environment=minimal_environment()).stdout
    except CommandFailed as error:
        raise PackFailed("there is no dpkg-deb", "make deb runs on Debian and Ubuntu.") from error


def stage(source: Source, told: Mapping[str, Any], version: str, architecture: str) -> None:
    """The package's tree. Raises OSError."""
    root = source.staging
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(source.folder, root / PROGRAM, symlinks=True)
    for name in PROGRAMS:
        link = root / "usr/bin" / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(Path("../lib/r1box") / name)
    shipped = source.tree / "systemd"
    units = root / "usr/lib/systemd/system"
    for name in UNITS:
        _write(units / name, unit_text((shipped / name).read_text("utf-8")))
    scripts = source.tree / "installer/pack/debian"
    users = (shipped / "r1box.sysusers.conf").read_text("utf-8") + (scripts / "sysusers-groups").read_text("utf-8")
    _write(root / "usr/lib/sysusers.d/r1box.conf", users)
    _write(root / "usr/lib/tmpfiles.d/r1box.conf", (shipped / "r1box.tmpfiles.conf").read_text("utf-8"))
    _write(root / "usr/lib/systemd/system-preset/80-r1box.preset", (shipped / "r1box.preset").read_text("utf-8"))
    _write(root / "etc/r1box/config.toml", (shipped / "config.toml").read_text("utf-8"))
    _write(root / "usr/share/lintian/overrides/r1box", (scripts / "lintian-overrides").read_text("utf-8"))
    _documents(source, root / DOCUMENTS, version, int(told["source_date_epoch"]))
    _control(source, told, version, architecture, scripts)
    # The folder's hashes count its own files; the package manager keeps its own list.
    for path in files_below(root):
        if not path.is_symlink():
            runs = path.stat().st_mode & 0o100 and ".so" not in path.suffixes
            path.chmod(0o755 if runs else 0o644)


def unit_text(shipped: str) -> str:
    """The unit with the places of a package."""
    text = shipped.replace(f"{DEFAULT_PREFIX}/.venv/bin/", "/usr/bin/")
    return text.replace(f"{DEFAULT_PREFIX}/docs/", f"/{DOCUMENTS}/").replace("make install puts", "The package puts")


def _documents(source: Source, folder: Path, version: str, epoch_s: int) -> None:
    for page in sorted((source.tree / "docs").glob("*.md")):
        _write(folder / page.name, page.read_text("utf-8"))
    when = format_datetime(datetime.fromtimestamp(epoch_s, UTC))
    heading = f"{PACKAGE} ({version}) unstable; urgency=medium"
    log = f"{heading}\n\n  * What is new: CHANGELOG.md.\n\n -- {MAINTAINER}  {when}\n"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "changelog.gz").write_bytes(gzip.compress(log.encode(), 9, mtime=0))
    _write(folder / "CHANGELOG.md", (source.tree / "CHANGELOG.md").read_text("utf-8"))
    _write(
        folder / "copyright",
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"
        "Upstream-Name: R1 Box\n"
        "Comment: Parts of others are listed in /usr/lib/r1box/sbom.cdx.json, their licences in\n"
        " /usr/lib/r1box/licences.\n\n"
        "Files: *\nCopyright: 2026 The R1 Box developers\nLicense: Apache-2.0\n"
        " On Debian systems the full text is in /usr/share/common-licenses/Apache-2.0.\n",
    )


def _control(source: Source, told: Mapping[str, Any], version: str, architecture: str, scripts: Path) -> None:
    control = source.staging / "DEBIAN"
    needs = told["needs"]
    fields = {
        "Package": PACKAGE,
        "Version": version,
        "Architecture": architecture,
        "Maintainer": MAINTAINER,
        "Installed-Size": str(size_bytes(source.staging) // 1024),
        # systemd-sysusers and -tmpfiles, and what the unit asks for.
        "Depends": f"libc6 (>= {needs['glibc']}), libgcc-s1, libstdc++6, passwd, systemd (>= 249)",
        "Suggests": "nvidia-smi",
        "Section": "net",
        "Priority": "optional",
        "Description": f"serves DeepSeek-R1 to a network without the internet\n{_TEXT.rstrip()}",
    }
    _write(control / "control", "".join(f"{name}: {value}\n" for name, value in fields.items()))
    _write(control / "conffiles", "/etc/r1box/config.toml\n")
    for name in _SCRIPTS:
        _write(control / name, (scripts / name).read_text("utf-8"))
        (control / name).chmod(0o755)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
