"""Every part of the folder that is not ours, with version, licence and the texts of its licence, from what is there.

Python packages say it in their metadata, system libraries in Debian's package list and copyright files, the page's
packages in `licenses.txt`, which its build wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path, PurePosixPath

from drivers.command import CommandFailed, minimal_environment, run

_ASK_S = 60.0
_LICENCE_FILE = re.compile(r"(licen[cs]e|copying|notice|copyright|authors|unlicense)", re.IGNORECASE)
_PAGE_HEADING = re.compile(r"(?P<name>@?[a-z0-9][\w./-]*) (?P<version>\d[\w.+-]*) \((?P<licence>[^)]+)\)")
_DEBIAN_LICENCE = re.compile(r"^License: *(\S.*)$", re.MULTILINE)
_SPDX = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*( (AND|OR|WITH) [A-Za-z0-9][A-Za-z0-9.+-]*)*")
_KNOWN_WORDS = {
    "Apache 2.0": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "MIT License": "MIT",
    "ISC License": "ISC",
}
_KNOWN_CLASSIFIERS = {
    "MIT License": "MIT",
    "BSD License": "BSD-3-Clause",
    "Apache Software License": "Apache-2.0",
    "ISC License (ISCL)": "ISC",
}


@dataclass(frozen=True, slots=True)
class Part:
    """``licence`` is an SPDX expression, or words when ``is_spdx`` is false; None: the part does not say. ``texts``
    are files with its licence; ``note`` a text that stands in no file of its own."""

    kind: str
    name: str
    version: str
    purl: str
    licence: str | None
    is_spdx: bool
    texts: tuple[Path, ...] = ()
    note: str | None = None


def python_parts(folder: Path, own: str = "r1box") -> list[Part]:
    """The packages whose metadata lies in ``folder``, without ours, by name."""
    found = [_python_part(one) for one in distributions(path=[str(folder)])]
    return sorted((part for part in found if part.name != own), key=lambda part: part.name)


def _python_part(distribution: Distribution) -> Part:
    name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()
    told = distribution.metadata.get_all
    expressions, words = told("License-Expression") or [None], told("License") or [None]
    licence, is_spdx = licence_of(expressions[0], words[0], told("Classifier") or [])
    texts = [
        Path(str(distribution.locate_file(file)))
        for file in distribution.files or ()
        if ".dist-info" in str(file) and _LICENCE_FILE.search(PurePosixPath(str(file)).name)
    ]
    version = distribution.version
    purl = f"pkg:pypi/{name}@{version}"
    return Part("python", name, version, purl, licence, is_spdx, tuple(path for path in texts if path.is_file()))


def licence_of(expression: str | None, field: str | None, classifiers: Sequence[str]) -> tuple[str | None, bool]:
    """The licence that metadata tells, and whether it is SPDX."""
    if expression:
        return expression, True
    words = (field or "").strip()
    if words in _KNOWN_WORDS:
        return _KNOWN_WORDS[words], True
    if words and "\n" not in words and len(words) < 60:
        return words, _SPDX.fullmatch(words) is not None
    named = [text.rpartition("::")[2].strip() for text in classifiers if text.startswith("License ::")]
    named = [name for name in named if name != "OSI Approved"]
    if not named:
        return None, False
    if all(name in _KNOWN_CLASSIFIERS for name in named):
        return " OR ".join(_KNOWN_CLASSIFIERS[name] for name in named), True
    return " or ".join(named), False


def page_parts(licences: Path) -> list[Part]:
    """The chat page's packages: headings ``NAME VERSION (LICENCE)`` of its licence file."""
    found = []
    for line in licences.read_text("utf-8").splitlines():
        if match := _PAGE_HEADING.fullmatch(line):
            purl = f"pkg:npm/{match['name'].replace('@', '%40')}@{match['version']}"
            found.append(Part("page", match["name"], match["version"], purl, match["licence"], True, (licences,)))
    return found


def llama_part(source: Path | None, wrapper_version: str, ggml_version: str | None) -> Part:
    """llama.cpp itself, which llama-cpp-python carries as source. ``source``: where its licence files are."""
    texts: tuple[Path, ...] = ()
    if source is not None:
        texts = tuple(sorted(path for path in (source, source / "licenses") if path.is_dir()))
        texts = tuple(path for folder in texts for path in sorted(folder.iterdir()) if _LICENCE_FILE.search(path.name))
    version = f"ggml-{ggml_version}" if ggml_version else f"with-llama-cpp-python-{wrapper_version}"
    return Part(
        "native", "llama.cpp", version, f"pkg:github/ggml-org/llama.cpp@{version}", "MIT", True, texts,
        note=f"The source in the source package of llama-cpp-python {wrapper_version}.",
    )  # fmt: skip


def interpreter_part(python: Path) -> Part:
    """The Python that goes along, whoever built it. Raises CommandFailed."""
    code = "import os, platform; print(platform.python_version()); print(os.path.dirname(os.__file__))"
    version, library = run(
        (str(python), "-I", "-c", code), timeout_s=_ASK_S, environment=minimal_environment()
    ).stdout.split("\n")[:2]
    candidates = (Path(library) / "LICENSE.txt", Path("/usr/share/doc/python3/copyright"))
    texts = tuple(path for path in candidates if path.is_file())[:1]
    return Part("runtime", "python", version, f"pkg:generic/python@{version}", "PSF-2.0", True, texts)


def system_parts(sources: Iterable[Path], documents: Path = Path("/usr/share/doc")) -> list[Part]:
    """The Debian packages that these files of the build machine belong to; files of no package are passed over.
    Raises CommandFailed when there is no dpkg."""
    files = sorted({str(path) for path in sources})
    if not files:
        return []
    owners = owners_of(files)
    found = []
    for package in sorted(set(owners.values())):
        shown = run(
            ("dpkg-query", "--show", "--showformat=${Version} ${Architecture} ${source:Package}", package),
            timeout_s=_ASK_S,
            environment=minimal_environment(),
        ).stdout.split()
        version, architecture = shown[0], shown[1]
        name = package.partition(":")[0]
        copyright_file = documents / name / "copyright"
        licence = None
        if copyright_file.is_file():
            named = _DEBIAN_LICENCE.findall(copyright_file.read_text("utf-8", "replace"))
            licence = ", ".join(dict.fromkeys(word.strip() for word in named)) or None
        texts = (copyright_file,) if copyright_file.is_file() else ()
        purl = f"pkg:deb/debian/{name}@{version.replace('+', '%2B')}?arch={architecture}"
        found.append(Part("system", name, version, purl, licence, False, texts))
    return found


def owners_of(files: Sequence[str]) -> Mapping[str, str]:
    """File -> Debian package. /lib is a link to /usr/lib, and dpkg knows a file by one of the names alone."""
    others = {file: file.removeprefix("/usr") if file.startswith("/usr/") else f"/usr{file}" for file in files}
    both = [*files, *others.values()]
    try:
        listed = run(("dpkg-query", "--search", *both), timeout_s=_ASK_S, environment=minimal_environment()).stdout
    except CommandFailed as error:
        if error.result.exit_code != 1:  # 1: some belong to no package
            raise
        listed = error.result.stdout
    known = {}
    for line in listed.splitlines():
        package, _, path = line.partition(": ")
        known[path] = package.partition(",")[0]
    names = {file: known.get(file) or known.get(other) for file, other in others.items()}
    return {file: package for file, package in names.items() if package is not None}
