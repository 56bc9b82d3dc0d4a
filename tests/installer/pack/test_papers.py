"""Parts, licences, CycloneDX and build information, over a folder as PyInstaller leaves it."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest

from installer.pack import build_info, dist
from installer.pack.parts import Part, licence_of, owners_of, page_parts, python_parts, system_parts
from installer.pack.sbom import bill
from tests.architecture.tree import ROOT

METADATA = """\
Metadata-Version: 2.4
Name: Some.Package
Version: 1.2
License-Expression: MIT
"""
LICENSES = """\
The chat page contains these packages.

@preact/signals 2.11.4 (MIT)

The MIT License (MIT)
----

katex 0.17.0 (MIT)
"""


def package(folder: Path, metadata: str = METADATA) -> None:
    info = folder / "some_package-1.2.dist-info"
    (info / "licenses").mkdir(parents=True)
    (info / "METADATA").write_text(metadata)
    (info / "licenses/LICENSE.txt").write_text("do as you like")
    (info / "RECORD").write_text(
        "some_package-1.2.dist-info/METADATA,,\nsome_package-1.2.dist-info/licenses/LICENSE.txt,,\n"
    )


def test_python_packages_by_their_metadata(tmp_path: Path) -> None:
    package(tmp_path)
    (part,) = python_parts(tmp_path)
    assert (part.name, part.version, part.purl) == ("some-package", "1.2", "pkg:pypi/some-package@1.2")
    assert (part.licence, part.is_spdx) == ("MIT", True)
    assert [path.name for path in part.texts] == ["LICENSE.txt"]


@pytest.mark.parametrize(
    ("expression", "field", "classifiers", "told"),
    [
        ("Apache-2.0 OR MIT", "x", [], ("Apache-2.0 OR MIT", True)),
        (None, "BSD", [], ("BSD-3-Clause", True)),
        (None, "MPL-2.0 AND MIT", [], ("MPL-2.0 AND MIT", True)),
        (None, "A long text\nover lines", ["License :: OSI Approved :: MIT License"], ("MIT", True)),
        (None, "", ["License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)"],
         ("Mozilla Public License 2.0 (MPL 2.0)", False)),
        (None, None, [], (None, False)),
    ],
)  # fmt: skip
def test_licences(expression: str | None, field: str | None, classifiers: list[str], told: tuple[str, bool]) -> None:
    assert licence_of(expression, field, classifiers) == told


def test_every_package_that_ships_says_its_licence() -> None:
    site = Path(sys.prefix) / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    pinned = {
        line.split("==")[0].replace("_", "-").lower()
        for line in (ROOT / "requirements/run.txt").read_text().splitlines()
        if "==" in line and not line.startswith((" ", "#"))
    }
    silent = [part.name for part in python_parts(site) if part.name in pinned and part.licence is None]
    assert silent == []


def test_the_pages_packages(tmp_path: Path) -> None:
    (tmp_path / "licenses.txt").write_text(LICENSES)
    parts = page_parts(tmp_path / "licenses.txt")
    assert [(part.name, part.version) for part in parts] == [("@preact/signals", "2.11.4"), ("katex", "0.17.0")]
    assert parts[0].purl == "pkg:npm/%40preact/signals@2.11.4"
    assert len(page_parts(ROOT / "appliance/api/web/licenses.txt")) >= 5


def test_system_libraries_belong_to_packages() -> None:
    library = next(Path("/usr/lib").glob("*-linux-gnu/libc.so.6"))
    assert owners_of([str(library)])[str(library)].startswith("libc6")
    old_name = str(library).removeprefix("/usr")
    assert owners_of([old_name])[old_name].startswith("libc6")
    (part,) = system_parts([library, Path("/nowhere/of/nobody.so")])
    assert part.name == "libc6"
    assert part.purl.startswith("pkg:deb/debian/libc6@")
    assert part.texts


def test_the_bill_is_the_same_for_the_same_parts() -> None:
    parts = [
        Part("python", "b", "1", "pkg:pypi/b@1", "MIT", True),
        Part("system", "a", "2", "pkg:deb/debian/a@2", "GPL-2+, LGPL", False, note="x"),
        Part("python", "c", "3", "pkg:pypi/c@3", None, False),
    ]
    made = bill("0.1.0", parts, 1_700_000_000)
    assert made == bill("0.1.0", list(reversed(parts)), 1_700_000_000)
    assert (made["bomFormat"], made["specVersion"]) == ("CycloneDX", "1.6")
    assert made["metadata"]["timestamp"] == "2023-11-14T22:13:20Z"
    by_name = {component["name"]: component for component in made["components"]}
    assert by_name["b"]["licenses"] == [{"expression": "MIT"}]
    assert by_name["a"]["licenses"] == [{"license": {"name": "GPL-2+, LGPL"}}]
    assert "licenses" not in by_name["c"]
    references = [component["bom-ref"] for component in made["components"]]
    assert len(set(references)) == 3
    assert made["dependencies"][0]["dependsOn"] == references
    assert bill("0.1.0", parts[:2], 1_700_000_000)["serialNumber"] != made["serialNumber"]


def test_the_papers_of_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "dist/r1box"
    (folder / "_internal/llama_cpp/lib").mkdir(parents=True)
    (folder / "r1box").write_bytes(Path("/bin/true").read_bytes())
    module = folder / "_internal/llama_cpp/lib/libggml-cpu-zen4.so"
    module.write_bytes(b"no library")
    package(folder / "_internal")
    places = dist.Places(ROOT, tmp_path / "work", tmp_path / "dist")
    parts = python_parts(folder / "_internal")
    collected = [["llama_cpp/lib/libggml-cpu-zen4.so", "/somewhere/libggml-cpu-zen4.so"]]
    told = dist.write_papers(places, "0.1.0", parts, collected, 0)
    assert told["llama_cpp"]["modules"] == ["libggml-cpu-zen4.so"]
    assert told["needs"]["glibc"].startswith("2.")
    assert set(told["requirements_sha256"]) == {"run", "build", "pack"}
    assert (folder / "licences/python/some-package/LICENSE.txt").read_text() == "do as you like"
    assert (folder / "licences/LICENSE.r1box").read_text() == (ROOT / "LICENSE").read_text()
    assert json.loads((folder / "sbom.cdx.json").read_text())["components"][0]["name"] == "some-package"
    hashes = dict(reversed(line.split("  ")) for line in (folder / "SHA256SUMS").read_text().splitlines())
    assert hashes["_internal/llama_cpp/lib/libggml-cpu-zen4.so"] == hashlib.sha256(b"no library").hexdigest()
    assert "SHA256SUMS" not in hashes
    papers = [(folder / name).read_text() for name in ("sbom.cdx.json", "build-info.json", "SHA256SUMS")]
    dist.write_papers(places, "0.1.0", parts, collected, 0)
    assert papers == [(folder / name).read_text() for name in ("sbom.cdx.json", "build-info.json", "SHA256SUMS")]


def test_a_tree_without_git_is_no_commit(tmp_path: Path) -> None:
    assert build_info.source_state(tmp_path) == (None, True, 0)
