"""The client programs as processes. Each is told of the box by its environment and prints what it saw as JSON."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
VENV = Path(sys.prefix) / "clients"
CLIENTS_PYTHON = VENV / "bin" / "python"
OWN_PYTHON = Path(sys.executable)
"""Has the newest OpenAI client; LiteLLM holds the clients' one back."""
TIMEOUT_S = 170


@dataclass(frozen=True, slots=True)
class Place:
    """Where a box is, with which key, and what it serves; ``authority`` is the file that vouches for it."""

    url: str
    key: str
    model: str
    authority: Path | None = None


def environment(place: Place, home: Path, **more: str) -> dict[str, str]:
    """What a client finds in its environment. ``home`` is where it may write."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TZ") if name in os.environ}
    trusted = str(place.authority) if place.authority else ""
    trust = {"SSL_CERT_FILE": trusted, "NODE_EXTRA_CA_CERTS": trusted} if trusted else {}
    return {
        **kept,
        **trust,
        "HOME": str(home),
        "BOX_URL": place.url,
        "BOX_KEY": place.key,
        "BOX_MODEL": place.model,
        # It would ask a server on the internet what models cost.
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        **more,
    }


def run_python(
    script: str, place: Place, home: Path, *arguments: str, python: Path = CLIENTS_PYTHON, **more: str
) -> Any:
    """Run ``scripts/NAME.py`` with the clients' own Python, or another."""
    assert python.exists(), "The clients are not installed: make test-clients"
    return _run([str(python), str(HERE / "scripts" / f"{script}.py"), *arguments], environment(place, home, **more))


def run_node(script: str, place: Place, home: Path, *arguments: str, **more: str) -> Any:
    """Run ``node/NAME.mjs``."""
    node = shutil.which("node")
    assert node, "Node is not installed: apt-get install nodejs npm"
    assert (HERE / "node" / "node_modules").exists(), "The clients are not installed: make test-clients"
    return _run([node, str(HERE / "node" / f"{script}.mjs"), *arguments], environment(place, home, **more))


def _run(command: list[str], variables: dict[str, str]) -> Any:
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    return json.loads(done.stdout.splitlines()[-1])
