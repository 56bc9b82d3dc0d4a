"""`python -m installer.pack dist|deb`: what `make dist` and `make deb` run.

Exit codes: 0 done, 1 a step failed.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from installer.pack import deb, dist


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m installer.pack", description="Make what is shipped.")
    parser.add_argument("what", choices=("dist", "deb"))
    parser.add_argument("--work", type=Path, default=Path("build/pack"), help="for what is only needed meanwhile")
    parser.add_argument("--out", type=Path, default=Path("dist"), help="where the result goes")
    options = parser.parse_args(arguments)
    tree = Path(__file__).resolve().parents[2]
    places = dist.Places(tree, options.work.absolute(), options.out.absolute())
    try:
        if options.what == "dist":
            folder = dist.make(places, version_of(tree))
            print(f"{folder}: {dist.size_bytes(folder) / 1e6:.0f} MB", flush=True)
        else:
            made = deb.build(deb.Source(tree, places.folder, places.work / "deb"), places.out)
            print(f"{made}: {made.stat().st_size / 1e6:.0f} MB", flush=True)
    except dist.PackFailed as error:
        print(f"{error}\nNext: {error.hint}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{error.filename}: {error.strerror}\nNext: make room or rights there, run it again.", file=sys.stderr)
        return 1
    return 0


def version_of(tree: Path) -> str:
    """The project's version."""
    return str(tomllib.loads((tree / "pyproject.toml").read_text("utf-8"))["project"]["version"])


if __name__ == "__main__":
    sys.exit(main())
