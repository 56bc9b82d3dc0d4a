"""The doctor as the daemon sees the machine: its own user, its own packages."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Any

from appliance.model_setup import engine_vendors
from drivers.doctor import diagnose
from drivers.doctor_json import report_to_dict
from drivers.doctor_types import EngineFacts
from drivers.nodes import in_container
from drivers.requirements import load_requirements
from drivers.software import llama_folders, read_llama_cuda, read_python
from drivers.types import HardwareSnapshot, Software
from drivers.vendors import VENDORS


def examine(snapshot: HardwareSnapshot, backends_dir: Path | None) -> dict[str, Any]:
    """The report of ``r1box doctor --json``. Reads files; no card computes."""
    installed, engine = _installed(backends_dir)
    report = diagnose(
        snapshot,
        installed,
        engine,
        load_requirements(),
        labels={one.name: one.label for one in VENDORS},
        asked=(),
        user=_user(),
        in_container=in_container(Path("/")),
        compute=None,
    )
    return report_to_dict(report)


def _installed(backends_dir: Path | None) -> tuple[tuple[Software, ...], EngineFacts]:
    own = read_python()
    llama = next((one for one in own if one.name == "llama-cpp-python"), None)
    cuda = read_llama_cuda((*llama_folders(), *(() if backends_dir is None else (backends_dir,))))
    vendors = frozenset(str(one) for one in engine_vendors(backends_dir))
    engine = EngineFacts("llama.cpp", None if llama is None else llama.version, vendors)
    return (*own, *((cuda,) if cuda else ())), engine


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
