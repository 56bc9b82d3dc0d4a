"""What names an installation: these answers, on this disk, with this system image."""

from __future__ import annotations

import hashlib
import json

from installer.answers import Answers
from installer.facts import Facts
from installer.target import target_of


def installation_id(facts: Facts, answers: Answers) -> str:
    """Hex; equal as long as starting the installer again would do the same again. The consent is not part of it: the
    serial may stand in the file or be typed."""
    values = answers.model_dump(mode="json", by_alias=True)
    values["disk"]["wipe"] = None
    values["disk"]["match"] = None
    target = target_of(facts, answers)
    image = facts.image
    values["target"] = [target.identity, target.disk.size_bytes]
    values["image"] = None if image is None else [image.version, image.sha256]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
