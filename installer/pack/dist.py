"""The steps of `make dist`: an environment with llama.cpp built for every processor, PyInstaller, and what a folder
that is handed on must carry: licences, the list of parts, build information, hashes.

The same commit with the same compiler gives the same files: no time, no path and no random number goes in.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drivers.command import CommandFailed, minimal_environment, run
from installer.bootstrap import __main__ as bootstrap
from installer.pack import build_info, native, trim
from installer.pack.frozen import PROGRAMS
from installer.pack.parts import Part, interpreter_part, llama_part, page_parts, python_parts, system_parts
from installer.pack.sbom import bill

MAIN = "r1box"
INSIDE = "_internal"
LICENCES, BILL, BUILD_INFO = "licences", "sbom.cdx.json", "build-info.json"
_FREEZE_S = 3600.0
_STEP_S = 600.0
_PASSED_ON = (
    "HOME",
    "PIP_INDEX_URL",
    "PIP_CERT",
    "PIP_CONFIG_FILE",
    "SSL_CERT_FILE",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "CC",
)


class PackFailed(Exception):
    """A step failed. ``hint`` says what to do next."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Places:
    """Where things are: the source tree, what is only needed while building, and the result."""

    tree: Path
    work: Path
    out: Path

    @property
    def environment(self) -> Path:
        return self.work / "env"

    @property
    def python(self) -> Path:
        return self.environment / "bin" / "python"

    @property
    def folder(self) -> Path:
        """The finished folder."""
        return self.out / MAIN

    @property
    def binaries(self) -> Path:
        return self.work / "binaries.json"

    @property
    def requirements(self) -> dict[str, Path]:
        return {name: self.tree / "requirements" / f"{name}.txt" for name in ("run", "build", "pack")}


def make(places: Places, version: str) -> Path:
    """The folder, made anew. Raises PackFailed, OSError."""
    places.work.mkdir(parents=True, exist_ok=True)
    os.environ.update(native.build_environment(os.environ))
    if bootstrap.main(["run", "--venv", str(places.environment), "--wheel"]) != 0:
        raise PackFailed("the environment is not finished", "Mend what is named above, run make dist again.")
    _, _, epoch_s = build_info.source_state(places.tree)
    pip = (str(places.python), "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet")
    _step(
        (*pip, "--require-hashes", "--only-binary=:all:", "--requirement", str(places.requirements["pack"])),
        _STEP_S,
        places,
        {},
    )
    freeze = (str(places.python), "-m", "PyInstaller", "--noconfirm", "--log-level=WARN")
    spec = places.tree / "installer" / "pack" / "r1box.spec"
    _step(
        (*freeze, f"--distpath={places.out}", f"--workpath={places.work / 'pyinstaller'}", str(spec)),
        _FREEZE_S,
        places,
        {
            "PYTHONHASHSEED": "1",
            "SOURCE_DATE_EPOCH": str(epoch_s),
            "R1BOX_PACK_TREE": str(places.tree),
            "R1BOX_PACK_BINARIES": str(places.binaries),
        },
    )
    finish(places, version, epoch_s)
    return places.folder


def finish(places: Places, version: str, epoch_s: int) -> None:
    """Names, stripped libraries and the papers, in a folder fresh from PyInstaller. Raises PackFailed, OSError."""
    folder = places.folder
    for name in PROGRAMS:
        if name != MAIN:
            (folder / name).unlink(missing_ok=True)
            (folder / name).symlink_to(MAIN)
    strip(folder / INSIDE)
    collected: list[list[str]] = json.loads(places.binaries.read_text("utf-8"))
    parts = parts_of(places, collected)
    write_papers(places, version, parts, collected, epoch_s)


def strip(folder: Path) -> None:
    """Take symbols that only debuggers read from the libraries, where that is safe. Raises PackFailed."""
    for path in sorted(folder.rglob("*.so*")):
        if path.is_symlink() or not trim.may_be_stripped(path.relative_to(folder).as_posix()):
            continue
        # 1: not an ELF file of this machine.
        _run(("strip", "--strip-unneeded", str(path)), (0, 1))


def parts_of(places: Places, collected: list[list[str]]) -> list[Part]:
    """All parts but ours. Raises PackFailed."""
    inside = places.folder / INSIDE
    site = [path for path in places.environment.glob("lib/python3*/site-packages") if path.is_dir()]
    python = python_parts(inside)
    wrapper = next((part.version for part in python if part.name == "llama-cpp-python"), "unknown")
    outside = [Path(source) for _, source in collected if not any(Path(source).is_relative_to(one) for one in site)]
    try:
        system = system_parts(outside)
    except CommandFailed as error:
        raise PackFailed(str(error), "make dist runs on Debian and Ubuntu.") from error
    page = places.tree / "appliance/api/web/licenses.txt"
    llama = llama_part(_llama_source(places), wrapper, _ggml_version(site))
    return [interpreter_part(places.python), *python, *system, *page_parts(page), llama]


def _ggml_version(site: list[Path]) -> str | None:
    """From the name of the wheel's file ``libggml.so.0.25.3``."""
    names = [path.name for folder in site for path in (folder / "llama_cpp/lib").glob("libggml.so.*.*")]
    return max(names, key=len).removeprefix("libggml.so.") if names else None


def _llama_source(places: Places) -> Path | None:
    """llama-cpp-python's wheel has its own licence alone; llama.cpp's stands beside its sources in our tree."""
    folder = places.tree / "installer/pack/llama_cpp"
    return folder if folder.is_dir() else None


def write_papers(
    places: Places, version: str, parts: list[Part], collected: list[list[str]], epoch_s: int
) -> dict[str, Any]:
    """Licences, list of parts, build information, hashes; returns the build information. Raises PackFailed, OSError."""
    folder = places.folder
    shutil.rmtree(folder / LICENCES, ignore_errors=True)
    (folder / LICENCES).mkdir()
    shutil.copyfile(places.tree / "LICENSE", folder / LICENCES / "LICENSE.r1box")
    for part in parts:
        # One file holds the texts of all packages of the page.
        below = "" if part.kind == "page" else part.name.replace("/", "_")
        for number, text in enumerate(dict.fromkeys(part.texts)):
            target = folder / LICENCES / part.kind / below
            if below == "" and (target / text.name).exists():
                continue
            target.mkdir(parents=True, exist_ok=True)
            name = text.name if not (target / text.name).exists() else f"{number}-{text.name}"
            shutil.copyfile(text, target / name)
    _write_json(folder / BILL, bill(version, parts, epoch_s))
    inside = {target: folder / INSIDE / target for target, _ in collected if (folder / INSIDE / target).is_file()}
    modules = sorted(Path(target).name for target in inside if "libggml-cpu" in target)
    try:
        least = build_info.least_libraries({MAIN: folder / MAIN, **inside})
    except CommandFailed as error:
        raise PackFailed(str(error), "apt-get install binutils") from error
    cmake = os.environ.get("CMAKE_ARGS", " ".join(native.CMAKE_ARGS))
    told = build_info.describe(version, places.tree, places.requirements, cmake, modules, least)
    _write_json(folder / BUILD_INFO, told)
    (folder / build_info.HASHES).write_text(build_info.hash_lines(folder), "utf-8")
    return told


def size_bytes(folder: Path) -> int:
    """Of every file, links not counted twice."""
    return sum(path.lstat().st_size for path in build_info.files_below(folder) if not path.is_symlink())


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", "utf-8")


def _step(argv: tuple[str, ...], timeout_s: float, places: Places, extra: Mapping[str, str]) -> None:
    environment = {**minimal_environment(_PASSED_ON), **extra}
    try:
        run(argv, timeout_s=timeout_s, environment=environment, cwd=places.work)
    except CommandFailed as error:
        raise PackFailed(f"{error}\n{error.result.stderr[-3000:]}", "Mend it, run make dist again.") from error


def _run(argv: tuple[str, ...], ok_codes: tuple[int, ...]) -> None:
    try:
        run(argv, timeout_s=_STEP_S, environment=minimal_environment(), ok_codes=ok_codes)
    except CommandFailed as error:
        raise PackFailed(str(error), "apt-get install binutils") from error
