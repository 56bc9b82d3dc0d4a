"""What ``r1box bundle inspect`` and ``verify`` print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from appliance.cli.output import context, print_json, size, stderr, stdout
from models.errors import printable

if TYPE_CHECKING:
    from models.bundle.folder import OpenBundle
    from models.bundle.judge import Judgement
    from models.bundle.manifest import BundleManifest, BundlePart
    from models.bundle.trust import Signer
    from models.bundle.verify import BundleReport

_MOST_LINES = 50


def describe_bundle(bundle: OpenBundle, judgement: Judgement, free_bytes: int, *, as_json: bool) -> None:
    """What is in the bundle, whose it is, does it fit, is there room."""
    manifest = bundle.manifest
    parts = [part for file in manifest.files for part in file.parts]
    absent = [part for part in parts if all(folder.size_of(part) is None for folder in bundle.folders)]
    if as_json:
        print_json(_bundle_row(bundle, judgement, free_bytes, absent))
        return
    model, hardware = manifest.model, manifest.hardware
    licence = model.licence
    console = stdout()
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_row("Bundle", f"[bold]{escape(manifest.id)}[/], made {escape(manifest.created_at)}")
    table.add_row("Signed by", _signer(bundle.signer))
    what = f"{model.variant or manifest.name} {model.quantization}"
    table.add_row("Model", escape(f"{what}, {_parameters(model.parameters)} ({model.architecture})"))
    table.add_row("Context", f"{context(model.context_length_trained)} trained")
    table.add_row("Licence", escape(printable(licence.name)) if licence else "[yellow]not given[/]")
    if licence and licence.notice:
        table.add_row("", escape(printable(licence.notice)))
    table.add_row("Runs on", f"{', '.join(hardware.engines)}; at least {size(hardware.minimum_memory_bytes)} of memory")
    table.add_row("This machine", _verdict(judgement))
    enough = "" if free_bytes >= manifest.size_bytes else " [red]Too little room.[/]"
    table.add_row("Space", f"{size(manifest.size_bytes)} needed, {size(free_bytes)} free in the store.{enough}")
    console.print(table)
    files = Table("File", "Size", "Stick", "", box=None, header_style="bold", padding=(0, 2, 0, 0))
    gone = {part.path for part in absent}
    for part in parts[:_MOST_LINES]:
        missing = "[yellow]not here[/]" if part.path in gone else ""
        files.add_row(escape(part.path), size(part.size_bytes), f"{part.stick} of {len(manifest.sticks)}", missing)
    console.print()
    console.print(files)
    if len(parts) > _MOST_LINES:
        console.print(f"  [dim]and {len(parts) - _MOST_LINES} more files[/]")


def print_report(report: BundleReport) -> None:
    """The outcome of reading a whole bundle."""
    manifest = report.manifest
    errors = stderr()
    stdout().print(f"[bold]{escape(manifest.id)}[/] is signed by {_signer(report.signer)}")
    for bad in report.bad:
        errors.print(f"[red]damaged[/] {escape(str(bad))}")
    for contradiction in report.contradictions:
        errors.print(f"[red]wrong[/] {escape(contradiction)}")
    for part in report.missing:
        name = manifest.stick_name(part.stick)
        errors.print(f"[yellow]missing[/] {escape(part.path)} ({size(part.size_bytes)}), on {escape(name)}")
    if report.is_whole:
        stdout().print(f"Every byte is right ({size(manifest.size_bytes)}).")
    elif report.bad:
        errors.print("Copy the damaged files again from where the bundle was made.")


def report_row(report: BundleReport) -> dict[str, Any]:
    """The same as JSON."""
    return {
        "schema": 1,
        "id": report.manifest.id,
        "whole": report.is_whole,
        "signer": _signer_row(report.signer),
        "damaged": [
            {"path": b.part.path, "stick": b.part.stick, "start": b.start, "end": b.end, "why": b.why}
            for b in report.bad
        ],
        "missing": [_part_row(part) for part in report.missing],
        "contradictions": list(report.contradictions),
    }


def _bundle_row(bundle: OpenBundle, judgement: Judgement, free_bytes: int, absent: list[BundlePart]) -> dict[str, Any]:
    manifest = bundle.manifest
    model = manifest.model
    return {
        "schema": 1,
        "id": manifest.id,
        "name": manifest.name,
        "created_at": manifest.created_at,
        "manifest_sha256": bundle.manifest_sha256,
        "signer": _signer_row(bundle.signer),
        "model": {
            "variant": model.variant,
            "format": model.format.value,
            "quantization": model.quantization,
            "architecture": model.architecture,
            "parameters": model.parameters,
            "context_length_trained": model.context_length_trained,
            "profile": model.profile,
            "licence": model.licence.name if model.licence else None,
        },
        "engines": list(manifest.hardware.engines),
        "minimum_memory_bytes": manifest.hardware.minimum_memory_bytes,
        "fits": judgement.fits,
        "reason": judgement.reason,
        "needed_bytes": judgement.needed_bytes,
        "available_bytes": judgement.available_bytes,
        "size_bytes": manifest.size_bytes,
        "free_bytes": free_bytes,
        "sticks": _sticks(manifest),
        "missing": [_part_row(part) for part in absent],
    }


def _sticks(manifest: BundleManifest) -> list[dict[str, Any]]:
    return [{"number": s.number, "name": s.name, "size_bytes": s.size_bytes} for s in manifest.sticks]


def _part_row(part: BundlePart) -> dict[str, Any]:
    return {"path": part.path, "stick": part.stick, "size_bytes": part.size_bytes}


def _parameters(count: int) -> str:
    return f"{count / 1e9:.2f} B parameters" if count >= 10**8 else f"{count / 1e6:.2f} M parameters"


def _signer_row(signer: Signer) -> dict[str, Any]:
    return {"key_id": signer.key_id, "owner": signer.owner, "trusted": signer.is_trusted}


def _signer(signer: Signer) -> str:
    if signer.is_trusted:
        return f"[green]{escape(signer.owner or '')}[/] (key {signer.key_id}, trusted)"
    if signer.key_id is None:
        return "[red]nobody[/]"
    return f"[red]a key that is not trusted here[/] ({signer.key_id})"


def _verdict(judgement: Judgement) -> str:
    if judgement.fits is None:
        return f"[yellow]cannot be said[/]: {escape(judgement.reason)}"
    if not judgement.fits:
        return f"[red]does not fit[/]: {escape(judgement.reason)}"
    return f"[green]fits[/]: {escape(judgement.reason)} with {judgement.engine}"
