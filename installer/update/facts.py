"""What a bundle says of itself beside RAUC's manifest: two files in its payload, under RAUC's signature.

``r1box.json``: version, kernel, the engines of the new system, and the vendors whose kernel modules it carries.
``requirements.toml``: the new system's own rules (``drivers.requirements``), so that an old box can judge a stack that
it has never heard of.

This module is also read by the Python that makes bundles, which has no other packages.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from drivers.types import Software

FACTS, RULES = "r1box.json", "requirements.toml"
SCHEMA = 1


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
