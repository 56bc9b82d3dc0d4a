"""The pinned requirements: complete, hashed, in step with pyproject.toml, and free of what must not be there."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture.tree import ROOT, files

FOLDER = ROOT / "requirements"
PINNED = sorted(path.name for path in FOLDER.glob("*.txt"))
_PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(\[[^\]]*\])?==(?P<version>\S+)(?: ; (?P<marker>[^\\]+?))? \\$")
_HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}( \\)?$")


@dataclass(frozen=True, slots=True)
class Pin:
    """One pinned distribution; `hashes` counts its files that may be installed."""

    name: str
    version: str
    hashes: int


def read_pins(path: Path) -> dict[str, Pin]:
    """The pins of one file, by normalized name. Any line that is neither pin, hash nor comment fails the test."""
    pins: dict[str, Pin] = {}
    current = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if match := _PIN.match(line):
            current = canonicalize_name(match["name"])
            pins[current] = Pin(current, match["version"], 0)
        elif _HASH.match(line) and current:
            pin = pins[current]
            pins[current] = Pin(pin.name, pin.version, pin.hashes + 1)
        else:
            pytest.fail(f"{path.name}: not a pin with hashes: {line!r}")
    return pins


def project_requirements(extra: str | None) -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = list(project["dependencies"])
    if extra:
        wanted += project["optional-dependencies"][extra]
    return [Requirement(text) for text in wanted]


def input_requirements(name: str) -> list[Requirement]:
    lines = (FOLDER / name).read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]


def unmet(wanted: list[Requirement], pins: dict[str, Pin]) -> list[str]:
    problems = []
    for requirement in wanted:
        pin = pins.get(canonicalize_name(requirement.name))
        if pin is None:
            problems.append(f"{requirement} is not pinned")
        elif not requirement.specifier.contains(pin.version, prereleases=True):
            problems.append(f"{requirement} is pinned at {pin.version}")
    return problems


@pytest.mark.parametrize("name", PINNED)
def test_every_pin_has_hashes(name: str) -> None:
    pins = read_pins(FOLDER / name)
    assert pins
    assert [pin for pin in pins.values() if pin.hashes == 0] == []


@pytest.mark.parametrize(("name", "extra"), [("run.txt", None), ("dev.txt", "dev")])
def test_pins_are_in_step_with_pyproject(name: str, extra: str | None) -> None:
    assert unmet(project_requirements(extra), read_pins(FOLDER / name)) == []


@pytest.mark.parametrize("stem", ["bootstrap", "build", "demo"])
def test_pins_are_in_step_with_their_input(stem: str) -> None:
    assert unmet(input_requirements(f"{stem}.in"), read_pins(FOLDER / f"{stem}.txt")) == []


def test_the_projects_own_build_requirements_are_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [Requirement(text) for text in project["build-system"]["requires"]]
    assert unmet(wanted, read_pins(FOLDER / "build.txt")) == []


def test_tests_run_on_what_is_shipped() -> None:
    run, dev = read_pins(FOLDER / "run.txt"), read_pins(FOLDER / "dev.txt")
    assert {name: pin.version for name, pin in run.items()} == {
        name: pin.version for name, pin in dev.items() if name in run
    }


@pytest.mark.parametrize("name", PINNED)
def test_nothing_pinned_overwrites_our_packages(name: str) -> None:
    # A distribution of this name exists; its files would land on our package of the same name.
    assert "installer" not in read_pins(FOLDER / name)


def test_no_requirements_file_names_an_address() -> None:
    named = [path.name for path in files("requirements") if "://" in path.read_text(encoding="utf-8")]
    assert named == [], "\n" + "\n".join(named)
