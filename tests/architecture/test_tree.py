"""The source tree itself: packages, fixtures, and nothing that belongs to one machine."""

from __future__ import annotations

import re

from tests.architecture.tree import ROOT, files, shown, text

# Written in pieces so that this file does not match itself.
_MACHINE = re.compile(r"(?<![\w.])/(?:work" + r"|root|farm)/|/tmp/" + r"bash_jobs|/home/(?!r1box\b)\w+/")
_REGISTRIES = ("pypi" + ".org", "python" + "hosted.org", "npmjs" + ".org", "deb.debian" + ".org")
_SOURCE = re.compile(r"\b(source|made by|copied from|written by)\b", re.IGNORECASE)


def test_unit_files_are_no_python_package() -> None:
    # With an __init__.py the folder would hide the package of systemd-python.
    assert not (ROOT / "systemd" / "__init__.py").exists()


def test_every_folder_of_tests_is_a_package() -> None:
    folders = {path.parent for path in files("tests") if path.suffix == ".py"}
    assert sorted(shown(folder) for folder in folders if not (folder / "__init__.py").is_file()) == []


def test_no_file_names_this_or_that_machine() -> None:
    named = []
    for path in files():
        content = text(path)
        if content is None:
            continue
        for number, line in enumerate(content.splitlines(), start=1):
            if _MACHINE.search(line) or any(host in line for host in _REGISTRIES):
                named.append(f"{shown(path)}:{number}: {line.strip()[:100]}")
    assert named == [], "\n" + "\n".join(named)


def test_every_fixture_says_where_it_comes_from() -> None:
    """A header line of the file itself, or a README in its folder or one above it within tests/fixtures.

    Programs that make fixtures speak for themselves.
    """
    fixtures = ROOT / "tests" / "fixtures"
    unexplained = []
    for path in files("tests/fixtures"):
        if path.name in {"README.md", "__init__.py"} or path.suffix == ".py":
            continue
        folders = [folder for folder in path.parents if folder.is_relative_to(fixtures)]
        explained = any((folder / "README.md").is_file() for folder in folders)
        content = text(path)
        if not explained and not (content and _SOURCE.search("\n".join(content.splitlines()[:5]))):
            unexplained.append(shown(path))
    assert unexplained == [], "\n" + "\n".join(unexplained)
