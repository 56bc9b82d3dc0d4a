"""Whether an answer can have the form that a client asks for, found out before anything is generated.

Clients write schemas, patterns and grammars, and some of them to do harm. So each is compiled once in a child with
limits (``structure_child``), and only what passed there reaches a worker, whose end would be the end of everybody's
answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import OrderedDict

from appliance.engine.process import describe_exit, engine_environment
from appliance.engine.request import Structure, StructureKind
from appliance.engine.structure import MAX_TEXT_BYTES, Problem
from appliance.errors import GenerationFailed

TIMEOUT_S = 10.0
KEPT_VERDICTS = 512
MOST_AT_ONCE = 2
"""Children at the same time; others wait."""


def child_command() -> list[str]:
    """How the child is started; isolated, so that no file of the current folder is imported."""
    return [sys.executable, "-I", "-m", "appliance.engine.structure_child"]


class StructureChecker:
    """Verdicts, kept for the next request with the same structure: an application asks for the same form again and
    again, and pays for the child once."""

    def __init__(self, *, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._verdicts: OrderedDict[Structure, Problem | None] = OrderedDict()
        self._free = asyncio.Semaphore(MOST_AT_ONCE)
        self.children = 0
        """How many were started."""

    async def problem_of(self, structure: Structure) -> Problem | None:
        """What is wrong with it, None for nothing. Raises GenerationFailed when it cannot be judged here."""
        if structure.kind is StructureKind.JSON_OBJECT:
            return None
        if len(structure.text) > MAX_TEXT_BYTES:
            return Problem(f"it is longer than {MAX_TEXT_BYTES:,} bytes")
        if structure not in self._verdicts:
            async with self._free:
                if structure not in self._verdicts:
                    self._verdicts[structure] = await self._ask(structure)
        self._verdicts.move_to_end(structure)
        while len(self._verdicts) > KEPT_VERDICTS:
            self._verdicts.popitem(last=False)
        return self._verdicts[structure]

    async def _ask(self, structure: Structure) -> Problem | None:
        body = json.dumps({"kind": structure.kind.value, "text": structure.text}).encode()
        try:
            child = await asyncio.create_subprocess_exec(
                *child_command(),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env=engine_environment(os.environ),
                start_new_session=True,
            )
        except OSError as error:
            raise GenerationFailed(cause=f"the check of the answer's structure cannot be started: {error}") from error
        self.children += 1
        try:
            output, _ = await asyncio.wait_for(child.communicate(body), self._timeout_s)
        except TimeoutError:
            return Problem("it takes too long to compile")
        finally:
            if child.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                await child.wait()
        if child.returncode == -signal.SIGXCPU:
            return Problem("it takes too long to compile")
        if child.returncode != 0:
            return Problem(f"it cannot be compiled within the limits ({describe_exit(child.returncode or 0)})")
        verdict = json.loads(output)
        return None if verdict is None else Problem(verdict["message"], tuple(verdict["path"]))
