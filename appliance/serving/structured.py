"""Refuses forms of answers that no engine can keep, before anything is generated, and says where they are wrong."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.engine.request import Structure, StructureKind
from appliance.engine.structure import Problem
from appliance.engine.structure_check import StructureChecker
from appliance.errors import InvalidRequest
from appliance.serving.types import Tool

_PARAMS = {
    StructureKind.JSON_SCHEMA: "response_format.json_schema.schema",
    StructureKind.JSON_OBJECT: "response_format",
    StructureKind.REGEX: "structured_outputs.regex",
    StructureKind.GRAMMAR: "structured_outputs.grammar",
}
_NAMES = {
    StructureKind.JSON_SCHEMA: "The JSON schema of the answer",
    StructureKind.REGEX: "The pattern of the answer",
    StructureKind.GRAMMAR: "The grammar of the answer",
}


async def check_structure(checker: StructureChecker, structure: Structure) -> None:
    """Raises InvalidRequest with the place of the problem as ``param``, GenerationFailed when it cannot be judged."""
    problem = await checker.problem_of(structure)
    if problem is not None:
        raise _refused(_NAMES.get(structure.kind, "The form of the answer"), _PARAMS[structure.kind], problem)


async def check_calls(checker: StructureChecker, structure: Structure, tools: Sequence[Tool]) -> None:
    """The same for the form of calls of ``tools``; names the one whose parameters are at fault."""
    problem = await checker.problem_of(structure)
    if problem is None:
        return
    for number, tool in enumerate(tools):
        is_bound = structure.kind is StructureKind.JSON_SCHEMA or tool.strict
        if tool.parameters is None or not is_bound:
            continue
        own = await checker.problem_of(Structure(kind=StructureKind.JSON_SCHEMA, text=tool.parameters))
        if own is not None:
            raise _refused(f"The parameters of '{tool.name}'", f"tools[{number}].function.parameters", own)
    raise _refused("What the tools take", "tools", Problem(problem.message))


def _refused(what: str, param: str, problem: Problem) -> InvalidRequest:
    """A refusal whose ``param`` goes on with the path inside of the schema."""
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in problem.path)
    where = f" at ${path}" if path else ""
    return InvalidRequest(f"{what} cannot be used{where}: {problem.message[:300]}.", param=f"{param}{path}"[:300])
