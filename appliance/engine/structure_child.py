"""Judges one structure in a process of its own: ``python -m appliance.engine.structure_child``.

Reads ``{"kind", "text"}`` from standard input and prints ``{"message", "path"}``, or ``null`` for a structure that is
fine. Whatever a schema makes of the compiler, this process alone ends of it: memory and processor time are bounded.
"""

from __future__ import annotations

import json
import resource
import sys

from appliance.engine.request import Structure, StructureKind
from appliance.engine.structure import problem_of

MAX_MEMORY_BYTES = 1024**3
MAX_PROCESSOR_S = 5


def main() -> int:
    """Exit code 0 for a verdict."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_PROCESSOR_S, MAX_PROCESSOR_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    asked = json.load(sys.stdin)
    problem = problem_of(Structure(kind=StructureKind(asked["kind"]), text=asked["text"]))
    verdict = None if problem is None else {"message": problem.message, "path": problem.path}
    json.dump(verdict, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
