"""Which codes the findings of a package have, read from its source: where ``Finding(...)`` is made, its first argument
is followed back to the words it can be, through variables, tables, parameters, calls and data files.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

CODE = re.compile(r"[a-z][a-z0-9_]*")
_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Place:
    """A module and the functions around an expression, the outermost first."""

    module: str
    functions: tuple[_Function, ...] = ()


@dataclass
class Sources:
    """The modules of a package by name, and its data files: an attribute may be a field that was read from one."""

    trees: Mapping[str, ast.Module]
    data: tuple[Mapping[str, Any], ...] = ()
    unresolved: list[str] = field(default_factory=list)

    def codes(self) -> dict[str, set[str]]:
        """Each code with the modules that use it. What could not be followed is in ``unresolved``."""
        found: dict[str, set[str]] = {}
        for call, place in self._calls():
            if isinstance(call.func, ast.Name) and call.func.id == "Finding":
                code = _argument(call, 0, "code")
                words = self._words(code, place, frozenset()) if code is not None else set()
                if not words:
                    self.unresolved.append(f"{place.module}:{call.lineno}: {ast.unparse(call)[:80]}")
                for word in words:
                    found.setdefault(word, set()).add(place.module)
        return found

    def _calls(self) -> Iterator[tuple[ast.Call, Place]]:
        for module, tree in self.trees.items():
            yield from _calls_in(tree, Place(module))

    def _words(self, code: ast.expr, place: Place, seen: frozenset[int], index: int | None = None) -> set[str]:
        """The words that ``code`` can be; ``index``: an element of the tuples that it can be."""
        if id(code) in seen:
            return set()
        seen |= {id(code)}

        def follow(*parts: ast.expr, at: int | None = index) -> set[str]:
            return {word for part in parts for word in self._words(part, place, seen, at)}

        match code:
            case ast.Constant(value=str(word)):
                return {word} if CODE.fullmatch(word) and index is None else set()
            case ast.Tuple(elts=parts) if index is not None:
                return follow(*parts[index : index + 1], at=None)
            case ast.IfExp(body=first, orelse=second):
                return follow(first, second)
            case ast.BoolOp(values=parts):
                return follow(*parts)
            case ast.Dict(values=parts) | ast.Tuple(elts=parts) | ast.List(elts=parts):
                return follow(*parts)
            case ast.Subscript(value=table):
                return follow(table)
            case ast.Call(func=ast.Attribute(value=table, attr="get"), args=[_, *default]):
                return follow(table, *default)
            case ast.Name(id=name):
                return self._named(name, place, seen, index)
            case ast.Attribute(attr=name) if words := set(_values(self.data, name)):
                return words
        self.unresolved.append(f"{place.module}:{code.lineno}: {ast.unparse(code)[:80]}")
        return set()

    def _named(self, name: str, place: Place, seen: frozenset[int], index: int | None) -> set[str]:
        """What a name stands for: variables and parameters of the functions around, then the module's."""
        for depth in range(len(place.functions), 0, -1):
            function = place.functions[depth - 1]
            inner = Place(place.module, place.functions[:depth])
            values = list(_assigned(function, name))
            if values:
                return {w for value, at in values for w in self._words(value, inner, seen, index if at is None else at)}
            parameters = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
            if name in [parameter.arg for parameter in parameters]:
                return self._given(function, name, inner, seen, index)
        for module, original in self._homes(name, place.module):
            values = list(_assigned(self.trees[module], original))
            if values:
                return {
                    w
                    for value, at in values
                    for w in self._words(value, Place(module), seen, index if at is None else at)
                }
        return set()

    def _given(self, function: _Function, name: str, place: Place, seen: frozenset[int], index: int | None) -> set[str]:
        """What callers give for a parameter: of a method those of any object, else those that can see the function."""
        names = [parameter.arg for parameter in (*function.args.posonlyargs, *function.args.args)]
        is_method = names[:1] in (["self"], ["cls"])
        position = names.index(name) - is_method if name in names else None
        words: set[str] = set()
        for call, caller in self._calls():
            if is_method:
                calls = isinstance(call.func, ast.Attribute) and call.func.attr == function.name
            else:
                calls = isinstance(call.func, ast.Name) and call.func.id == function.name
            around = place.functions[:-1]
            calls = calls and self._sees(caller, place.module) and caller.functions[: len(around)] == around
            given = _argument(call, position, name) if calls else None
            if given is not None:
                words |= self._words(given, caller, seen, index)
        return words

    def _sees(self, caller: Place, module: str) -> bool:
        imports = (node for node in ast.walk(self.trees[caller.module]) if isinstance(node, ast.ImportFrom))
        return caller.module == module or any((node.module or "").rpartition(".")[2] == module for node in imports)

    def _homes(self, name: str, module: str) -> Iterator[tuple[str, str]]:
        """Where a module's name comes from: itself, or the modules that it is imported from."""
        yield module, name
        for node in ast.walk(self.trees[module]):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                home = node.module.rpartition(".")[2]
                for alias in node.names:
                    if (alias.asname or alias.name) == name and home in self.trees:
                        yield home, alias.name


def _values(data: Any, name: str) -> Iterator[str]:
    """Every text under a key, at any depth."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            if key == name and isinstance(value, str) and CODE.fullmatch(value):
                yield value
            yield from _values(value, name)
    elif isinstance(data, list | tuple):
        for one in data:
            yield from _values(one, name)


def _calls_in(node: ast.AST, place: Place) -> Iterator[tuple[ast.Call, Place]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call):
            yield child, place
        inner = Place(place.module, (*place.functions, child)) if isinstance(child, _Function) else place
        yield from _calls_in(child, inner)


def _argument(call: ast.Call, position: int | None, name: str) -> ast.expr | None:
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value
    return call.args[position] if position is not None and position < len(call.args) else None


def _assigned(scope: ast.Module | _Function, name: str) -> Iterator[tuple[ast.expr, int | None]]:
    """Values that a scope gives to a name, each with its place in the tuple that it is taken from."""
    for node in ast.walk(scope):
        pairs: list[tuple[ast.expr, ast.expr]] = []
        if isinstance(node, ast.Assign):
            pairs = [(target, node.value) for target in node.targets]
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
            pairs = [(node.target, node.value)]
        elif isinstance(node, ast.For | ast.comprehension):
            literal = isinstance(node.iter, ast.Tuple | ast.List)
            pairs = [(node.target, value) for value in (node.iter.elts if literal else [node.iter])]  # type: ignore[attr-defined]
        for target, value in pairs:
            if isinstance(target, ast.Name) and target.id == name:
                yield value, None
            elif isinstance(target, ast.Tuple):
                for index, part in enumerate(target.elts):
                    if isinstance(part, ast.Name) and part.id == name:
                        yield value, index
