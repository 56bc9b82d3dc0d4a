"""`python -m installer.media iso`: what `make iso` runs, as root, after `make deb`.

Exit codes: 0 done, 1 a step failed, 2 this machine lacks something.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from installer.media import iso
from installer.media.live_build import FLAVOURS
from installer.media.mirrors import OVERRIDE, SOURCES, NoMirror, read_mirrors
from installer.pack.__main__ import version_of

FAILED, LACKING = 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m installer.media", description="Make the installer's medium.")
    parser.add_argument("what", choices=("iso",))
    parser.add_argument("--architecture", choices=sorted(FLAVOURS), default="amd64")
    parser.add_argument("--package", type=Path, help="the .deb; default: the newest in --out")
    parser.add_argument("--keys", type=Path, help="folder of public keys (*.pub) whose bundles the image accepts")
    parser.add_argument("--update-authority", type=Path, help="certificate (PEM) of those who may sign updates")
    parser.add_argument("--work", type=Path, default=Path("build/iso"))
    parser.add_argument("--out", type=Path, default=Path("dist"))
    options = parser.parse_args(arguments)
    tree = Path(__file__).resolve().parents[2]
    package = options.package or newest_package(options.out, options.architecture)
    if package is None:
        return _say(f"There is no r1box_*_{options.architecture}.deb in {options.out}. Next: make deb", LACKING)
    order = iso.Order(
        version_of(tree), FLAVOURS[options.architecture], package.absolute(), options.work.absolute(),
        options.out.absolute(), options.keys, options.update_authority,
    )  # fmt: skip
    try:
        iso.check_machine()
        named = os.environ.get(OVERRIDE)
        mirrors = read_mirrors([Path(named)] if named else [SOURCES, Path("/etc/apt/sources.list")])
        made = iso.make(order, mirrors)
    except NoMirror as error:
        return _say(str(error), LACKING)
    except iso.IsoFailed as error:
        return _say(f"{error}\nNext: {error.hint}", FAILED)
    except OSError as error:
        return _say(f"{error.filename}: {error.strerror}", FAILED)
    print(f"{made}: {made.stat().st_size / 1e6:.0f} MB", flush=True)
    return 0


def newest_package(folder: Path, architecture: str) -> Path | None:
    """The package that was made last."""
    found = sorted(folder.glob(f"r1box_*_{architecture}.deb"), key=lambda path: path.stat().st_mtime)
    return found[-1] if found else None


def _say(text: str, code: int) -> int:
    print(text, file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
