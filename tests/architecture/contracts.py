"""The contract type `may_import` of import-linter: rows of the table "who may import whom" in docs/architecture.md.

A row names modules (with all that is in them) and the only other modules of ours that these may import. It is a list of
what is allowed, so a new package is forbidden to everybody until a row allows it. The rows are in pyproject.toml.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


@dataclass(frozen=True, slots=True)
class IllegalImport:
    """One import that no row allows; `lines` are line numbers in the importer's file."""

    importer: str
    imported: str
    lines: tuple[int, ...]


def is_within(module: str, package: str) -> bool:
    """Whether `module` is `package` or anything inside it."""
    return module == package or module.startswith(f"{package}.")


class MayImportContract(Contract):
    """Options: `modules` (the row's subject; each must exist), `may_import` (what they may import; may not exist yet).

    Always allowed: the same entry of `modules`, the packages around a module (Python imports those by itself), and
    whatever is not ours.
    """

    type_name = "may_import"

    # import-linter puts the values in place of these fields when it makes a contract.
    modules: Any = fields.ListField(subfield=fields.StringField())
    may_import: Any = fields.ListField(subfield=fields.StringField(), required=False)

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        allowed: list[str] = list(self.may_import or ())
        illegal = []
        for subject in self.modules:
            for importer in sorted(_members(graph, subject)):
                for imported in sorted(graph.find_modules_directly_imported_by(importer)):
                    own = is_within(imported, subject) or is_within(importer, imported)
                    if own or graph.is_module_squashed(imported) or any(is_within(imported, name) for name in allowed):
                        continue
                    details = graph.get_import_details(importer=importer, imported=imported)
                    lines = tuple(detail["line_number"] for detail in details)
                    illegal.append(IllegalImport(importer, imported, lines))
        return ContractCheck(kept=not illegal, metadata={"illegal": illegal})

    def render_broken_contract(self, check: Any) -> None:
        for found in check.metadata["illegal"]:
            lines = ", ".join(f"l.{line}" for line in found.lines)
            output.print_error(f"{found.importer} must not import {found.imported} ({lines})")
        output.new_line()


def _members(graph: ImportGraph, subject: str) -> set[str]:
    """The subject and all inside it. Raises ValueError when there is no such module: such a row is a mistake."""
    if subject not in graph.modules:
        raise ValueError(f"the contract names {subject}, which does not exist")
    return {subject, *graph.find_descendants(subject)}
