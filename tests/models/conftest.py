"""Settings and shared fixtures of the model tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.catalogue import load_catalogue
from models.model_store import ModelStore
from models.types import Catalogue


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    return load_catalogue()


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "store")
