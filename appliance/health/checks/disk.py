"""A disk that the box writes to is nearly full."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.health.types import BoxFacts, Problem

_MIB = 1024**2
_GIB = 1024**3
_WARN_SHARE, _WARN_BYTES = 0.05, 1 * _GIB
_FULL_SHARE, _FULL_BYTES = 0.01, 128 * _MIB


def disk_is_full(facts: BoxFacts) -> Iterator[Problem]:
    """Under 5 % and 1 GiB a warning; under 1 % and 128 MiB the database may fail to write: an error."""
    for disk in facts.disks:
        share = disk.free_bytes / disk.total_bytes if disk.total_bytes else 0.0
        full = (share < _FULL_SHARE and disk.free_bytes < _FULL_BYTES) or disk.free_bytes < 16 * _MIB
        if not full and not (share < _WARN_SHARE and disk.free_bytes < _WARN_BYTES):
            continue
        where = "state folder" if disk.name == "state" else "model store"
        yield Problem(
            code="disk_full",
            severity="error" if full else "warning",
            subject=disk.name,
            message=f"The disk of the {where} ({disk.path}) has {disk.free_bytes / _MIB:,.0f} MiB left, {share:.1%}.",
            hint="Remove models that are not needed (r1box models remove ID), or old files of other programs.",
        )
