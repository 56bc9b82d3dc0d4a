"""`python -m installer.media iso|bundle|authority`: what `make iso`, `make bundle` and `make authority` run.

``iso`` needs root and the package from `make deb`; ``bundle`` the system image that ``iso`` made. Exit codes: 0 done,
1 a step failed, 2 this machine lacks something.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from drivers.command import minimal_environment, run
from installer.media import bundle, iso
from installer.media.live_build import FLAVOURS
from installer.media.mirrors import OVERRIDE, SOURCES, NoMirror, network_names, read_mirrors
from installer.pack.__main__ import version_of

FAILED, LACKING = 1, 2
SQUASHFS = "live-build/binary/live/filesystem.squashfs"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        made = {"iso": _iso, "bundle": _bundle, "authority": _authority}[options.what](options)
    except (NoMirror, FileNotFoundError) as error:
        return _say(str(error), LACKING)
    except iso.IsoFailed as error:
        return _say(f"{error}\nNext: {error.hint}", FAILED)
    except OSError as error:
        return _say(f"{error.filename}: {error.strerror}", FAILED)
    print(f"{made}: {made.stat().st_size / 1e6:.0f} MB" if made.is_file() else made, flush=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m installer.media", description="Make the medium, or an update.")
    # Folders that every command knows.
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--architecture", choices=sorted(FLAVOURS), default="amd64")
    common.add_argument("--work", type=Path, default=Path("build/iso"))
    common.add_argument("--out", type=Path, default=Path("dist"))
    commands = parser.add_subparsers(dest="what", required=True)
    medium = commands.add_parser("iso", parents=[common], help="the installer's medium")
    medium.add_argument("--package", type=Path, help="the .deb; default: the newest in --out")
    medium.add_argument("--keys", type=Path, help="folder of public keys (*.pub) whose bundles the image accepts")
    medium.add_argument("--update-authority", type=Path, help="certificate (PEM) of those who may sign updates")
    update = commands.add_parser("bundle", parents=[common], help="an update of the same system, signed")
    update.add_argument("--squashfs", type=Path, help="the system image; default: the one that iso made last")
    update.add_argument("--program", type=Path, default=Path("dist/r1box"), help="the folder from make dist")
    update.add_argument("--release", help="the update's version; default: the image's")
    update.add_argument("--signer", type=Path, required=True, help=f"folder with {bundle.CERTIFICATE} and {bundle.KEY}")
    authority = commands.add_parser("authority", help="an authority for updates of one's own, and a signer")
    authority.add_argument("folder", type=Path)
    authority.add_argument("--name", default="R1 Box test")
    return parser


def _iso(options: argparse.Namespace) -> Path:
    tree = Path(__file__).resolve().parents[2]
    package = options.package or newest_package(options.out, options.architecture)
    if package is None:
        raise FileNotFoundError(f"There is no r1box_*_{options.architecture}.deb in {options.out}. Next: make deb")
    order = iso.Order(
        version_of(tree), FLAVOURS[options.architecture], package.absolute(), options.work.absolute(),
        options.out.absolute(), options.keys, options.update_authority, _names(),
    )  # fmt: skip
    iso.check_machine()
    named = os.environ.get(OVERRIDE)
    mirrors = read_mirrors([Path(named)] if named else [SOURCES, Path("/etc/apt/sources.list")])
    return iso.make(order, mirrors)


def _names() -> tuple[str, ...]:
    """Names of this machine's network. Raises OSError."""
    resolver = Path("/etc/resolv.conf")
    told = resolver.read_text("utf-8") if resolver.is_file() else ""
    apt = run(("apt-config", "dump"), timeout_s=60.0, environment=minimal_environment()).stdout
    return network_names(os.environ, told, apt, platform.node())


def _bundle(options: argparse.Namespace) -> Path:
    squashfs = (options.squashfs or options.work / SQUASHFS).absolute()
    release = options.release or bundle.image_version(squashfs)
    bundle.check_machine()
    return bundle.make_bundle(
        bundle.BundleOrder(
            release,
            FLAVOURS[options.architecture].machine,
            squashfs,
            options.program.absolute(),
            (options.signer / bundle.CERTIFICATE).absolute(),
            (options.signer / bundle.KEY).absolute(),
            options.work.absolute(),
            options.out.absolute(),
        )
    )


def _authority(options: argparse.Namespace) -> Path:
    return bundle.make_authority(options.folder, options.name)[0].parent


def newest_package(folder: Path, architecture: str) -> Path | None:
    """The package that was made last."""
    found = sorted(folder.glob(f"r1box_*_{architecture}.deb"), key=lambda path: path.stat().st_mtime)
    return found[-1] if found else None


def _say(text: str, code: int) -> int:
    print(text, file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
