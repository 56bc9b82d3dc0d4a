"""Settings and shared fixtures of the model tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from models.catalogue import load_catalogue
from models.model_store import ModelStore
from models.types import Catalogue

settings.register_profile("models", deadline=None)
settings.load_profile("models")  # a busy machine is no error of the code under test


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    return load_catalogue()


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "store")
