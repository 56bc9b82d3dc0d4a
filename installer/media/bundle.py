"""`make bundle`: an update that RAUC installs, made from the same squashfs that the medium carries.

    rootfs.img (the squashfs) + hook + r1box.json + requirements.toml  ->  manifest  ->  signed bundle, verity format

The hook runs twice on the box that is updated: before anything is written it asks the *running* system whether the new
one would break the cards (`r1box-install update judge`), and after the slot is written it lays the slot's own kernel
and initrd on the EFI partition. Both files that it hands to the running system are in the payload, under the signature.

Test authorities are made by ``authority``: a CA that goes into an image (`make iso UPDATE_CA=...`) and a certificate
that it signed for bundles. A release's keys are made once, elsewhere, and kept off the build machine.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from drivers.command import CommandFailed, CommandResult, minimal_environment, run
from drivers.software import read_llama_cuda, read_python
from drivers.types import Software
from installer.media.iso import IsoFailed
from installer.update.facts import FACTS, RULES, BundleFacts, facts_text

TOOLS = {"rauc": "rauc", "mksquashfs": "squashfs-tools", "unsquashfs": "squashfs-tools", "openssl": "openssl"}
AUTHORITY, CERTIFICATE, KEY = "update-ca.pem", "update-signer.pem", "update-signer.key"
_STEP_S = 1800.0
_KERNEL = re.compile(r"/boot/vmlinuz-(\S+)$", re.MULTILINE)
_SIGNER = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=emailProtection\n"

HOOK = """\
#!/bin/sh
# Run by RAUC on the box that is updated, as root. Its /tmp may be read-only.
set -eu
refuse() { echo "$1" >&2; exit 10; }
bundle=$(dirname "$0")
case $1 in
install-check)
    # It replaces RAUC's own comparison.
    [ "$RAUC_MF_COMPATIBLE" = "$RAUC_SYSTEM_COMPATIBLE" ] ||
        refuse "it is for $RAUC_MF_COMPATIBLE and this box is $RAUC_SYSTEM_COMPATIBLE"
    exec r1box-install update judge "$bundle"
    ;;
slot-post-install)
    [ "$RAUC_SLOT_CLASS" = rootfs ] || exit 0
    mountpoint -q /efi || refuse "the EFI partition is not mounted"
    slot=$(echo "$RAUC_SLOT_BOOTNAME" | tr AB ab)
    to=/efi/slot-$slot
    root=$(mktemp -d -p /run)
    mount -t squashfs -o ro "$RAUC_SLOT_DEVICE" "$root"
    trap 'umount "$root"; rmdir "$root"' EXIT
    # Nothing starts from here meanwhile: the slot is marked bad.
    mkdir -p "$to"
    for name in vmlinuz initrd.img; do
        rm -f "$to/$name"
        cp "$root"/boot/"$name"-* "$to/$name.new"
        cmp "$root"/boot/"$name"-* "$to/$name.new"
        mv "$to/$name.new" "$to/$name"
    done
    sync -f /efi
    ;;
esac
"""


@dataclass(frozen=True, slots=True)
class BundleOrder:
    """``program``: the folder from ``make dist``, whose engines are told. ``certificate`` and ``key`` sign."""

    version: str
    machine: str
    squashfs: Path
    program: Path
    certificate: Path
    key: Path
    work: Path
    out: Path

    @property
    def file(self) -> Path:
        return self.out / f"r1box-{self.version}-{self.machine}.raucb"


def check_machine() -> None:
    """Raises IsoFailed with the packages to install."""
    path = minimal_environment()["PATH"]
    missing = sorted({package for tool, package in TOOLS.items() if shutil.which(tool, path=path) is None})
    if missing:
        raise IsoFailed(f"{', '.join(missing)} not found", f"apt-get install {' '.join(missing)}")


def make_bundle(order: BundleOrder) -> Path:
    """The signed bundle. Raises IsoFailed, OSError."""
    folder = order.work / "bundle"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        _link(order.squashfs, folder / "rootfs.img")
        (folder / "hook").write_text(HOOK, "utf-8")
        (folder / "hook").chmod(0o755)
        facts = BundleFacts(order.version, kernel_of(order.squashfs), engines_of(order.program))
        (folder / FACTS).write_text(facts_text(facts), "utf-8")
        rules = resources.files("drivers").joinpath("requirements.toml").read_text("utf-8")
        (folder / RULES).write_text(rules, "utf-8")
        (folder / "manifest.raucm").write_text(manifest_text(order.machine, order.version), "utf-8")
        order.out.mkdir(parents=True, exist_ok=True)
        order.file.unlink(missing_ok=True)
        _run(
            ("rauc", "bundle", f"--cert={order.certificate}", f"--key={order.key}", str(folder), str(order.file)),
            "Are certificate and key readable, and is there room?",
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return order.file


def manifest_text(machine: str, version: str) -> str:
    """RAUC's manifest."""
    return (
        f"[update]\ncompatible=r1box-{machine}\nversion={version}\n\n[bundle]\nformat=verity\n\n"
        "[hooks]\nfilename=hook\nhooks=install-check\n\n[image.rootfs]\nfilename=rootfs.img\nhooks=post-install\n"
    )


def kernel_of(squashfs: Path) -> str:
    """The release of the image's kernel. Raises IsoFailed."""
    listed = _run(("unsquashfs", "-l", str(squashfs), "boot"), "Is it the squashfs of make iso?").stdout
    found = _KERNEL.findall(listed)
    if len(found) != 1:
        raise IsoFailed(f"there are {len(found)} kernels in {squashfs}", "Build the image anew: make iso")
    return str(found[0])


def engines_of(program: Path) -> tuple[Software, ...]:
    """The engines in the folder from ``make dist``. Raises IsoFailed."""
    inside = program / "_internal"
    found = read_python(inside)
    if not any(one.name == "llama-cpp-python" for one in found):
        raise IsoFailed(f"{program} holds no R1 Box", "make dist")
    cuda = read_llama_cuda([inside / "llama_cpp/lib"])
    return (*found, *((cuda,) if cuda else ()))


def make_authority(folder: Path, name: str, days: int = 3650) -> tuple[Path, Path, Path]:
    """A new authority for updates and a certificate that it signed: paths of authority, certificate and key. Files that
    are there stay. Raises IsoFailed, OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = (folder / AUTHORITY, folder / CERTIFICATE, folder / KEY)
    if all(path.is_file() for path in paths):
        return paths
    root_key, request, wanted = folder / "update-ca.key", folder / "signer.csr", folder / "signer.ext"
    umask = os.umask(0o077)
    try:
        _run(
            ("openssl", "req", "-x509", "-newkey", "rsa:3072", "-nodes",
             "-keyout", str(root_key), "-out", str(paths[0]), "-subj", f"/O=R1 Box/CN={name} authority",
             "-days", str(days), "-addext", "basicConstraints=critical,CA:TRUE",
             "-addext", "keyUsage=critical,keyCertSign,cRLSign"),
            "apt-get install openssl",
        )  # fmt: skip
        _run(
            ("openssl", "req", "-newkey", "rsa:3072", "-nodes", "-keyout", str(paths[2]), "-out", str(request),
             "-subj", f"/O=R1 Box/CN={name} signer"),
            "apt-get install openssl",
        )  # fmt: skip
        wanted.write_text(_SIGNER, "utf-8")
        _run(
            ("openssl", "x509", "-req", "-in", str(request), "-CA", str(paths[0]), "-CAkey", str(root_key),
             "-CAcreateserial", "-out", str(paths[1]), "-days", str(days), "-extfile", str(wanted)),
            "apt-get install openssl",
        )  # fmt: skip
    finally:
        os.umask(umask)
        for scrap in (request, wanted):
            scrap.unlink(missing_ok=True)
    paths[0].chmod(0o644)
    return paths


def image_version(squashfs: Path) -> str:
    """The version that the image's note tells. Raises IsoFailed."""
    try:
        told = json.loads(squashfs.with_name("r1box.json").read_text("utf-8"))
        return str(told["version"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IsoFailed(f"there is no image beside {squashfs}", "make iso") from error


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def _run(argv: Sequence[str], hint: str) -> CommandResult:
    try:
        return run(argv, timeout_s=_STEP_S, environment=minimal_environment())
    except CommandFailed as error:
        said = (error.result.stderr.strip().splitlines() or [error.message])[-1]
        raise IsoFailed(f"{argv[0]} {argv[1]} failed: {said}", hint) from error
