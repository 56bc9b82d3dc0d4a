"""Who may import whom: the rows of pyproject.toml hold and cover everything; the contract type finds what it should."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from typing import Any

import pytest
from grimp import ImportGraph

from tests.architecture.contracts import MayImportContract
from tests.architecture.tree import ROOT, modules, shown

WIRING = {"appliance", "appliance.__main__", "appliance.cli", "appliance.daemon"}
"""The parts that put the others together and may import all of them."""

PURE = {
    f"appliance.engine.llamacpp.{name}"
    for name in (
        "scheduler",
        "sequence",
        "slots",
        "prefix_cache",
        "pace",
        "step",
        "tier_blocks",
        "tier_index",
        "tiering",
        "thought",
        "loops",
        "prompt_shares",
        "integrity",
        "speculation",
        "lookup",
        "step_costs",
    )
} | {"appliance.engine.fair_queue"}


def contracts() -> list[dict[str, Any]]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    rows: list[dict[str, Any]] = settings["tool"]["importlinter"]["contracts"]
    return rows


def module_names() -> set[str]:
    names = {shown(path).removesuffix(".py").replace("/", ".") for path in modules(*_packages())}
    return {name.removesuffix(".__init__") for name in names}


def _packages() -> list[str]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages: list[str] = settings["tool"]["importlinter"]["root_packages"]
    return packages


def test_contracts_are_kept() -> None:
    command = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run(
        [sys.executable, "-c", command],
        cwd=ROOT,
        env={**os.environ, "NO_COLOR": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_every_part_has_a_row() -> None:
    covered = {name for row in contracts() if row["type"] == "may_import" for name in row["modules"]}
    parts = {name for name in module_names() if name.count(".") == 0 or name.startswith("appliance.")}
    parts = {".".join(name.split(".")[:2]) if name.startswith("appliance.") else name for name in parts}
    assert parts - WIRING - covered == set()


def test_every_pure_module_is_held_to_it() -> None:
    rows = {row["id"]: row for row in contracts()}
    assert set(rows["scheduler-pure"]["source_modules"]) == PURE & module_names()
    assert set(rows["scheduler"]["modules"]) == PURE & module_names()


def test_the_bootstrap_imports_the_standard_library_alone() -> None:
    for path in modules("installer/bootstrap"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            imported = []
            if isinstance(node, ast.Import):
                imported = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                imported = [node.module or ""]
            for name in imported:
                known = name.split(".")[0] in sys.stdlib_module_names or name.startswith("installer.bootstrap")
                assert known, f"{shown(path)} imports {name}"


def graph(*imports: tuple[str, str]) -> ImportGraph:
    made = ImportGraph()
    for importer, imported in imports:
        made.add_import(importer=importer, imported=imported, line_number=3, line_contents=f"import {imported}")
    return made


def check(made: ImportGraph, modules: list[str], may_import: list[str]) -> list[tuple[str, str]]:
    options = {"root_packages": ["a", "b", "c"]}
    contract = MayImportContract("row", options, {"modules": modules, "may_import": may_import})
    result = contract.check(made, verbose=False)
    illegal = [(found.importer, found.imported) for found in result.metadata["illegal"]]
    assert result.kept == (illegal == [])
    return illegal


def test_what_a_row_names_is_allowed_with_all_inside_it() -> None:
    made = graph(("a.one", "b.types"), ("a.one", "b.types.more"), ("a.one", "a.two"), ("a.one", "a"))
    assert check(made, ["a.one", "a.two"], ["b.types", "a.two"]) == []


@pytest.mark.parametrize("imported", ["b", "b.other", "b.types_old", "c"])
def test_what_a_row_does_not_name_is_forbidden(imported: str) -> None:
    assert check(graph(("a.deep.one", imported), ("a.deep", "b.types")), ["a.deep"], ["b.types"]) == [
        ("a.deep.one", imported)
    ]


def test_other_peoples_packages_are_no_matter_of_a_row() -> None:
    made = graph(("a.one", "a.two"), ("a.one", "a"))
    made.add_module("numpy", is_squashed=True)
    made.add_import(importer="a.one", imported="numpy")
    assert check(made, ["a"], []) == []


def test_a_row_about_nothing_is_a_mistake() -> None:
    with pytest.raises(ValueError, match=r"a\.gone, which does not exist"):
        check(graph(("a.one", "b")), ["a.gone"], [])
