"""Versions and licences of what runs here, read from the installed packages' own metadata."""

from __future__ import annotations

import platform
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from appliance.schemas.operators import About, Component
from drivers.software import read_python
from models.model_store import ModelStore

_OWN = "r1box"
_LONGEST_LICENCE = 60
_CLASSIFIER = "License :: "


class SoftwareReader:
    """``read`` blocks: it opens the metadata of every package."""

    def __init__(self, store: ModelStore) -> None:
        self._store = store
        self._started_at = datetime.now(UTC)

    def read(self) -> About:
        """What is installed now."""
        found = {component.name.casefold(): component for component in _components()}
        own = found.pop(_OWN, None)
        return About(
            version=metadata.version(_OWN),
            licence=None if own is None else own.licence,
            started_at=self._started_at,
            python=platform.python_version(),
            platform=f"{platform.system()} {platform.release()} {platform.machine()}",
            hostname=socket.gethostname(),
            engines=tuple(Component(name=one.name, version=one.version or "") for one in read_python()),
            components=tuple(found[name] for name in sorted(found)),
            models=tuple(self._models()),
        )

    def _models(self) -> Iterator[Component]:
        for model in self._store.list().models:
            licence = None if model.licence is None else model.licence.name
            yield Component(name=model.id, version=model.quantization, licence=licence, summary=model.name)


def _components() -> Iterator[Component]:
    for one in metadata.distributions():
        name = one.metadata["Name"]
        if name:
            told: Any = one.metadata  # the stubs know fewer methods than email.message.Message has
            summary = told.get("Summary")
            yield Component(name=name, version=one.version, licence=_licence(told), summary=summary or None)


def _licence(told: Any) -> str | None:
    """The SPDX expression (PEP 639); else the old field where it is a name and no whole text; else the classifiers."""
    for field in ("License-Expression", "License"):
        text = (told.get(field) or "").strip()
        if text and "\n" not in text and len(text) <= _LONGEST_LICENCE:
            return text
    names = [one.rpartition(" :: ")[2] for one in told.get_all("Classifier") or () if str(one).startswith(_CLASSIFIER)]
    return ", ".join(names) or None
