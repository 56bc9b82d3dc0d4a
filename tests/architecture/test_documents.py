"""What the documents say is there: commands, links, sections."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT, files, shown

_LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
_MAKE = re.compile(
    r"""^[`$ ]*(?:sudo )?(?:env )?(?:[A-Z_0-9]+=(?:"[^"]*"|\S+) )*make (?:-C \S+ )?([a-z]+)\b""", re.MULTILINE
)

DOCUMENTS = sorted(path for path in files() if path.suffix == ".md")


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def anchors(path: Path) -> set[str]:
    """The headings as links name them: lower case, spaces as hyphens, other marks dropped."""
    headings = _HEADING.findall(_FENCE.sub("", read(path)))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", read(ROOT / "Makefile"), re.MULTILINE))


@pytest.mark.parametrize("path", DOCUMENTS, ids=shown)
def test_links_resolve(path: Path) -> None:
    broken = []
    for groups in _LINK.findall(_FENCE.sub("", read(path))):
        target = groups[0] or groups[1]
        if "://" in target or target.startswith("mailto:"):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            broken.append(target)
    assert broken == [], "\n" + "\n".join(broken)


@pytest.mark.parametrize("command", ["make run", "make test"])
def test_readme_names_the_first_commands(command: str) -> None:
    assert command in read(ROOT / "README.md")


def test_documents_name_only_make_targets_that_exist() -> None:
    code = re.compile(r"`[^`\n]+`|^    .+$", re.MULTILINE)
    named = {
        target
        for path in DOCUMENTS
        for part in [*code.findall(read(path)), *(match[0] for match in re.finditer(_FENCE, read(path)))]
        for target in _MAKE.findall(part)
    }
    assert named - make_targets() == set()


def test_changelog_has_a_place_for_what_comes_next() -> None:
    assert re.search(r"^## \[Unreleased\]", read(ROOT / "CHANGELOG.md"), re.MULTILINE)


def test_license_is_the_whole_apache_text() -> None:
    licence = read(ROOT / "LICENSE")
    assert "Apache License" in licence
    assert "Version 2.0, January 2004" in licence
    assert "END OF TERMS AND CONDITIONS" in licence
