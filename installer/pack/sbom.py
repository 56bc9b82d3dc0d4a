"""The list of parts as CycloneDX 1.6 JSON. Pure, and the same for the same parts: no clock, no random serial number."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from installer.pack.parts import Part

_TYPES = {"python": "library", "native": "library", "system": "library", "page": "library", "runtime": "platform"}


def bill(version: str, parts: Sequence[Part], epoch_s: int) -> dict[str, Any]:
    """The document for this version of R1 Box. ``epoch_s``: when its source was written (SOURCE_DATE_EPOCH)."""
    listed = sorted(parts, key=lambda part: (part.kind, part.name, part.version))
    components = [_component(part) for part in listed]
    own = f"pkg:generic/r1box@{version}"
    content = json.dumps(components, sort_keys=True)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, own + content)}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(epoch_s, UTC).isoformat().replace("+00:00", "Z"),
            "component": {
                "type": "application",
                "bom-ref": own,
                "name": "r1box",
                "version": version,
                "purl": own,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            },
        },
        "components": components,
        "dependencies": [{"ref": own, "dependsOn": [component["bom-ref"] for component in components]}],
    }


def _component(part: Part) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": _TYPES[part.kind],
        "bom-ref": part.purl,
        "name": part.name,
        "version": part.version,
        "purl": part.purl,
        "properties": [{"name": "r1box:kind", "value": part.kind}],
    }
    if part.note:
        component["description"] = part.note
    if part.licence is not None:
        if part.is_spdx:
            component["licenses"] = [{"expression": part.licence}]
        else:
            component["licenses"] = [{"license": {"name": part.licence}}]
    return component
