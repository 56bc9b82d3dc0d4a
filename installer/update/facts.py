"""What a bundle says of itself beside RAUC's manifest: two files in its payload, under RAUC's signature.

``r1box.json``: version, kernel, the engines of the new system, and the vendors whose kernel modules it carries.
``requirements.toml``: the new system's own rules (``drivers.requirements``), so that an old box can judge a stack that
it has never heard of.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from drivers.requirements import Requirements, RequirementsInvalid, parse_requirements
from drivers.types import Software
from installer.update.errors import UpdateRefused

FACTS, RULES = "r1box.json", "requirements.toml"
SCHEMA = 1
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+~_-]{0,63}")


@dataclass(frozen=True, slots=True)
class BundleFacts:
    """``kernel`` is a release as uname(1) prints it; ``drivers`` are vendors whose modules for it are in the image."""

    version: str
    kernel: str
    software: tuple[Software, ...] = ()
    drivers: tuple[str, ...] = ()


def facts_text(facts: BundleFacts) -> str:
    """The file's content."""
    told = {
        "schema": SCHEMA,
        "version": facts.version,
        "kernel": facts.kernel,
        "software": {one.name: one.version for one in facts.software},
        "drivers": list(facts.drivers),
    }
    return json.dumps(told, indent=2, sort_keys=True) + "\n"


def read_facts(folder: Path) -> tuple[BundleFacts, Requirements]:
    """Both files of a bundle. Raises UpdateRefused (``update_unreadable``)."""
    try:
        told = json.loads((folder / FACTS).read_text("utf-8"))
        rules = parse_requirements((folder / RULES).read_text("utf-8"))
        if told["schema"] != SCHEMA:
            raise ValueError(f"schema {told['schema']}, this version reads {SCHEMA}")
        software = tuple(Software(str(name), str(version)) for name, version in dict(told["software"]).items())
        facts = BundleFacts(str(told["version"]), str(told["kernel"]), software, tuple(map(str, told["drivers"])))
        if not _VERSION.fullmatch(facts.version):
            raise ValueError("its version is no version")
    except (OSError, ValueError, KeyError, TypeError, RequirementsInvalid) as error:
        problem = error.strerror if isinstance(error, OSError) else str(error)
        raise UpdateRefused(
            "update_unreadable", f"The update does not say what it needs: {problem}.", "Ask for it anew."
        ) from error
    return facts, rules
