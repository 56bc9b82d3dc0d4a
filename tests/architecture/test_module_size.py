"""Modules of at most 400 lines and functions of at most 60, or the reason why not where a reader meets it.

The reason's form: in a module's first 15 lines a line with "Over 400 lines because ..."; in a function's first 12 lines
one with "Over 60 lines because ...".
"""

from __future__ import annotations

import ast

from tests.architecture.tree import modules, shown

MODULE_LINES = 400
FUNCTION_LINES = 60


def test_long_modules_say_why() -> None:
    unexplained = []
    for path in modules():
        lines = path.read_text(encoding="utf-8").splitlines()
        if len(lines) > MODULE_LINES and not _says(lines[:15], f"Over {MODULE_LINES} lines because"):
            unexplained.append(f"{shown(path)}: {len(lines)} lines")
    assert unexplained == [], "\n" + "\n".join(unexplained)


def test_long_functions_say_why() -> None:
    unexplained = []
    for path in modules():
        source = path.read_text(encoding="utf-8")
        lines = source.splitlines()
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            start = lines[node.lineno - 1 : node.lineno + 11]
            if length > FUNCTION_LINES and not _says(start, f"Over {FUNCTION_LINES} lines because"):
                unexplained.append(f"{shown(path)}:{node.lineno} {node.name}: {length} lines")
    assert unexplained == [], "\n" + "\n".join(unexplained)


def test_every_module_says_what_it_is() -> None:
    undescribed = [
        shown(path)
        for path in modules("appliance", "drivers", "models", "tui", "installer")
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert undescribed == [], "\n" + "\n".join(undescribed)


def _says(lines: list[str], reason: str) -> bool:
    return any(reason in line for line in lines)
