"""A folder that looks like an environment with vLLM in it; its interpreter runs the fake server instead."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from tests.fakes.engine_server import Faults

_REPOSITORY = Path(__file__).parents[2]
_PROGRAM = """#!{python}
import json, sys
sys.path.insert(0, {repository!r})
from pathlib import Path
from tests.fakes.engine_server import main
arguments = [word for word in sys.argv[3:] if word != "serve"]
folder = arguments[arguments.index("--model") + 1]
Path({record!r}).write_text(json.dumps(sys.argv[1:]))
main(["vllm", folder, Path({faults!r}).read_text(), *arguments])
"""


class FakeVllm:
    """``python`` is what the setting ``engine_python`` takes; ``faults`` may be written anew before each start."""

    def __init__(self, folder: Path, *, name: str = "vllm", version: str = "0.32.0") -> None:
        self.python = folder / "bin" / "python"
        self._faults = folder / "faults.json"
        self._record = folder / "argv.json"
        packages = folder / "lib" / "python3.11" / "site-packages"
        (packages / f"{name}-{version}.dist-info").mkdir(parents=True)
        self.python.parent.mkdir()
        self.python.write_text(
            _PROGRAM.format(
                python=sys.executable,
                repository=str(_REPOSITORY),
                record=str(self._record),
                faults=str(self._faults),
            )
        )
        self.python.chmod(0o755)
        self.goes_wrong(Faults())

    def goes_wrong(self, faults: Faults) -> None:
        """What the next start does."""
        self._faults.write_text(json.dumps(asdict(faults)))

    @property
    def argv(self) -> list[str]:
        """The arguments of the last start."""
        return list(json.loads(self._record.read_text()))
