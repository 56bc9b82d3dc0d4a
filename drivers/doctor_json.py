"""The doctor's report as JSON: schema 1, described in docs/troubleshooting.md. Keys are only ever added to a schema."""

from __future__ import annotations

from typing import Any

import msgspec

from drivers.doctor_types import Break, DoctorReport, VendorReport
from drivers.requirements import RequirementResult

DOCTOR_SCHEMA = 1


def report_to_dict(report: DoctorReport) -> dict[str, Any]:
    """The report as plain values, ready for any JSON writer; unknown values are ``None``."""
    engine = report.engine
    return {
        "schema": DOCTOR_SCHEMA,
        "serves_from_cards": report.serves_from_cards,
        "has_cards": report.has_cards,
        "summary": report.summary,
        "engine": {
            "name": engine.name,
            "version": engine.version,
            "vendors": None if engine.vendors is None else sorted(engine.vendors),
        },
        "vendors": [_vendor(one) for one in report.vendors],
        "checks": [msgspec.to_builtins(layer) for one in report.vendors for layer in one.layers],
        "breaks": [_break(one) for vendor in report.vendors for one in vendor.breaks],
        "requirements": [_requirement(one) for vendor in report.vendors for one in vendor.requirements],
        "notes": [
            msgspec.to_builtins(one)
            for one in (*(note for vendor in report.vendors for note in vendor.notes), *report.notes)
        ],
        "software": [msgspec.to_builtins(one) for one in report.software],
        "compute": None if report.compute is None else [msgspec.to_builtins(one) for one in report.compute],
    }


def _vendor(report: VendorReport) -> dict[str, Any]:
    return {
        "vendor": report.vendor,
        "label": report.label,
        "devices": report.devices,
        "usable_devices": report.usable,
        "serves_from_cards": report.serves,
    }


def _break(one: Break) -> dict[str, Any]:
    return {
        "vendor": one.vendor,
        "layer": None if one.layer is None else one.layer.value,
        "code": one.code,
        "severity": one.severity.value,
        "device": one.device,
        "message": one.message,
        "fix": one.fix,
        "commands": list(one.commands),
    }


def _requirement(one: RequirementResult) -> dict[str, Any]:
    return {
        "rule": one.rule,
        "vendor": one.vendor,
        "state": one.state.value,
        "subject": msgspec.to_builtins(one.subject),
        "needs": one.needs,
        "found": None if one.found is None else msgspec.to_builtins(one.found),
        "accepted": list(one.accepted),
        "message": one.message,
        "fix": one.hint,
        "blocks": one.blocks and one.broken,
        "source": msgspec.to_builtins(one.source),
    }
