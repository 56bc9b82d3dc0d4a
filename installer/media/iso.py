"""The steps of `make iso`. Needs root (live-build makes a chroot) and the package from `make deb`.

live-build's folder is made anew from `live-build/` each time; the mirrors go in there and nowhere else, and the
finished image is searched for them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from drivers.command import CommandFailed, minimal_environment, run
from installer.media.live_build import Flavour, config_argv, hybrid_argv
from installer.media.mirrors import Mirrors

CONFIGURATION = Path(__file__).with_name("live-build")
TOOLS = {"lb": "live-build", "xorriso": "xorriso", "mksquashfs": "squashfs-tools", "debootstrap": "debootstrap"}
_STEP_S = 600.0
_BUILD_S = 3 * 3600.0
_BLOCK_BYTES = 4 << 20
_MOST_LOG_BYTES = 64 << 20
KNOWN = "/usr/lib/r1box/update-ca.pem"
"""In every image's etc/rauc: a search that does not find it finds nothing."""


class IsoFailed(Exception):
    """A step failed. ``hint`` says what to do next."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Order:
    """``keys``: folder of public keys (*.pub) whose bundles the image accepts; ``update_authority``: certificate of
    those who may sign updates. None of either: the image accepts nobody's. ``names`` of this machine's network may not
    be in the image, beside those of the mirrors."""

    version: str
    flavour: Flavour
    package: Path
    work: Path
    out: Path
    keys: Path | None = None
    update_authority: Path | None = None
    names: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        return self.work / "live-build"

    @property
    def iso(self) -> Path:
        return self.out / f"r1box-{self.version}-{self.flavour.architecture}.iso"


def check_machine() -> None:
    """Raises IsoFailed with the packages to install."""
    missing = [package for tool, package in TOOLS.items() if shutil.which(tool, path=_environment()["PATH"]) is None]
    if missing:
        raise IsoFailed(
            f"{', '.join(missing)} not found", f"apt-get install --no-install-recommends {' '.join(missing)}"
        )
    if os.geteuid() != 0:
        raise IsoFailed("live-build needs root", "sudo make iso")


def make(order: Order, mirrors: Mirrors) -> Path:
    """The image. Raises IsoFailed, OSError."""
    prepare(order, mirrors)
    build(order)
    return finish(order, mirrors)


def build(order: Order) -> None:
    """live-build's work; what it prints is in ``live-build.log``, mirrors and all. Raises IsoFailed."""
    log = order.work / "live-build.log"
    try:
        argv = ("lb", "build")
        done = run(
            argv, timeout_s=_BUILD_S, environment=_environment(), cwd=order.folder, output_limit_bytes=_MOST_LOG_BYTES
        )
    except CommandFailed as error:
        log.write_text(f"{error.result.stdout}\n{error.result.stderr}", "utf-8")
        raise IsoFailed(
            f"lb build failed (exit code {error.result.exit_code})", f"The end of {log} says why."
        ) from error
    log.write_text(f"{done.stdout}\n{done.stderr}", "utf-8")


def prepare(order: Order, mirrors: Mirrors) -> None:
    """live-build's folder, ready to build. Raises IsoFailed, OSError."""
    if order.folder.exists():
        # A build that was cut off leaves /proc and others mounted in its chroot.
        unmount_below(order.folder)
        shutil.rmtree(order.folder)
    order.folder.mkdir(parents=True)
    _run(config_argv(mirrors, order.flavour), order.folder, _STEP_S, "see lb_config(1)")
    config = order.folder / "config"
    for source in sorted(CONFIGURATION.iterdir()):
        shutil.copytree(source, config / source.name, dirs_exist_ok=True)
    after = config / "includes.chroot_after_packages"
    shutil.copyfile(order.package, after / "r1box.deb")
    rauc = after / "etc/rauc/system.conf"
    rauc.write_text(rauc.read_text("utf-8").replace("@ARCHITECTURE@", order.flavour.machine), "utf-8")
    own = after / "usr/lib/r1box"
    (own / "trusted-keys").mkdir(parents=True)
    for key in sorted(order.keys.glob("*.pub")) if order.keys else ():
        shutil.copyfile(key, own / "trusted-keys" / key.name)
    if order.update_authority is not None:
        shutil.copyfile(order.update_authority, own / "update-ca.pem")
    else:
        nobodys_certificate(own / "update-ca.pem")
    (own / "image-version").write_text(f"{order.version}\n", "utf-8")


def nobodys_certificate(path: Path) -> None:
    """RAUC wants an authority to start at all: one whose key nobody has. Raises IsoFailed."""
    argv = ("openssl", "req", "-x509", "-newkey", "rsa:3072", "-nodes", "-keyout", "/dev/null", "-out", str(path))
    _run((*argv, "-subj", "/CN=no updates are accepted", "-days", "1"), path.parent, _STEP_S, "apt-get install openssl")


def finish(order: Order, mirrors: Mirrors) -> Path:
    """From live-build's ``binary`` folder to the image: fixed names for the kernel, the note that the installer reads,
    a hybrid image, no trace of the mirrors. Raises IsoFailed, OSError."""
    live = order.folder / "binary/live"
    _name(live, "vmlinuz")
    _name(live, "initrd.img")
    write_note(live, order.version)
    order.out.mkdir(parents=True, exist_ok=True)
    _run(hybrid_argv("binary", str(order.iso), order.flavour), order.folder, _STEP_S, "see xorriso's message")
    names = (*mirrors.private_hosts(), *order.names)
    refuse_leaks(order.folder / "chroot", order.iso, names)
    print(f"The image names none of {len(names)} names of this machine's network.", flush=True)
    return order.iso


def refuse_leaks(tree: Path, image: Path, hosts: Sequence[str]) -> None:
    """Nothing in the system's tree or the image's own files may name these hosts; an image that does is removed. The
    tree is what the squashfs was made from: compressed, no name would be found. Raises IsoFailed."""
    if next(naming(tree, KNOWN), None) is None:
        raise IsoFailed("the search for names of this machine finds nothing at all", f"Is {tree} the image's tree?")
    for host in hosts:
        found = next(naming(tree, host), None)
        if found is None and in_file(image, host):
            found = image
        if found is not None:
            image.unlink()
            raise IsoFailed(f"{found} names a mirror of this machine", "Take it out in live-build/hooks, build anew.")


def _name(live: Path, name: str) -> None:
    """live-build names a lone kernel after its version; GRUB's menu and the installer want one name."""
    found = sorted(path for path in live.glob(f"{name}*") if path.is_file())
    if len(found) != 1:
        raise IsoFailed(f"there are {len(found)} files {name}* in the image", "Build it anew.")
    if found[0].name != name:
        grub = live.parent / "boot/grub/grub.cfg"
        grub.write_text(grub.read_text("utf-8").replace(f"/live/{found[0].name}", f"/live/{name}"), "utf-8")
        found[0].rename(live / name)


def write_note(live: Path, version: str) -> None:
    """``r1box.json``: which file is the system, its size and hash (``installer.facts.read_image``)."""
    squashfs = live / "filesystem.squashfs"
    with squashfs.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    note = {
        "version": version,
        "squashfs": squashfs.name,
        "size_bytes": squashfs.stat().st_size,
        "sha256": sha256,
    }
    (live / "r1box.json").write_text(json.dumps(note, indent=2, sort_keys=True) + "\n", "utf-8")


def naming(folder: Path, host: str) -> Iterator[Path]:
    """Files below the folder that name the host; their own names count too."""
    for path in folder.rglob("*"):
        if host in path.name or (path.is_file() and not path.is_symlink() and in_file(path, host)):
            yield path


def in_file(path: Path, host: str) -> bool:
    """Whether the file names the host."""
    wanted = host.encode()
    before = b""
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            if wanted in before + block:
                return True
            before = block[-len(wanted) :]
    return False


def unmount_below(folder: Path) -> None:
    """Everything that is mounted below the folder goes, deepest first. Raises IsoFailed."""
    points = [line.split()[1] for line in Path("/proc/self/mounts").read_text("utf-8").splitlines()]
    for point in sorted((point for point in points if Path(point).is_relative_to(folder)), reverse=True):
        _run(("umount", point), folder, _STEP_S, "Unmount it by hand.")


def _environment() -> dict[str, str]:
    return minimal_environment(("HOME", "SOURCE_DATE_EPOCH"), DEBIAN_FRONTEND="noninteractive")


def _run(argv: Sequence[str], folder: Path, timeout_s: float, hint: str) -> None:
    try:
        run(argv, timeout_s=timeout_s, environment=_environment(), cwd=folder)
    except CommandFailed as error:
        # live-build prints the mirrors: its output stays in its log.
        raise IsoFailed(f"{argv[0]} failed (exit code {error.result.exit_code})", hint) from error
