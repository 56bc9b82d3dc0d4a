"""``make test``: every test, in three pytest processes side by side: the daemon's parts, from end to end, and the rest.

Many tests wait for a daemon or a child process, so that three processes keep two cores busy.
With arguments there is one plain pytest: ``python -m tests.side_by_side -k scheduler``.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

PARTS = {
    "appliance": ["tests/appliance"],
    "end to end": ["tests/e2e"],
    "the rest": ["tests", "--ignore", "tests/appliance", "--ignore", "tests/e2e"],
}
PYTEST = [sys.executable, "-m", "pytest", "-m", "not bench"]
TELL_EVERY_S = 30.0


@dataclass(frozen=True, slots=True)
class Part:
    """A pytest process and the file that it writes to."""

    name: str
    process: subprocess.Popen[bytes]
    output: IO[bytes]

    def said(self) -> str:
        """All that it wrote so far."""
        self.output.seek(0)
        return self.output.read().decode("utf-8", "replace")

    def progress(self) -> str:
        """The last percentage that pytest printed."""
        told = [line for line in self.said().splitlines() if line.endswith("%]")]
        return f"{self.name} {told[-1].rpartition('[')[2].strip(' ]') if told else '0%'}"


def run(parts: dict[str, list[str]], pytest: Sequence[str], *, tell_every_s: float = TELL_EVERY_S) -> int:
    """Run pytest once for each part, all at the same time; prints what each said when all have ended.

    Returns 0 when all passed, else the first exit code of one that did not.
    """
    running = []
    try:
        for name, arguments in parts.items():
            output = tempfile.TemporaryFile()  # noqa: SIM115 - closed below, when the process has ended
            process = subprocess.Popen([*pytest, *arguments], stdout=output, stderr=subprocess.STDOUT)
            running.append(Part(name, process, output))
        waiting = list(running)
        while waiting:
            try:
                waiting[0].process.wait(tell_every_s)
            except subprocess.TimeoutExpired:
                print("; ".join(part.progress() for part in running), flush=True)
            else:
                waiting.pop(0)
    finally:
        for part in running:
            part.process.terminate()
            part.process.wait()
    for part in running:
        print(f"== {part.name}\n{part.said()}", flush=True)
        part.output.close()
    return next((part.process.returncode for part in running if part.process.returncode != 0), 0)


if __name__ == "__main__":
    if sys.argv[1:]:
        sys.exit(subprocess.run([*PYTEST, *sys.argv[1:]], check=False).returncode)
    sys.exit(run(PARTS, PYTEST))
