"""``r1box models``: the model store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.markup import escape

from appliance.cli.accounts import noted
from appliance.cli.output import copy_progress, print_json, size, stderr, stdout

if TYPE_CHECKING:
    from appliance.serving.template_check import TemplateFindings
    from models.import_checks import ChatTemplateFacts
    from models.model_store import ModelStore
    from models.store_types import StoreUsage
    from models.types import Catalogue, InstalledModel

app = typer.Typer(help="Import, list, verify and remove models.", no_args_is_help=True)

ModelId = Annotated[str, typer.Argument(help="Id of the model, as 'r1box models list' shows it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("import")
def import_model(
    path: Annotated[
        Path,
        typer.Argument(
            help="A .gguf file (of a split model: any part), or a folder with one model: GGUF, safetensors or a bundle."
        ),
    ],
    name: Annotated[str | None, typer.Option(help="Name to keep it under. Default: the one in the file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check a model and copy it into the store. The first GGUF (beside the demo) becomes the default."""
    from appliance.cli.bundle import take_bundle  # which imports this module for the store
    from models.importer import import_path
    from models.store_types import ModelFormat

    store = open_store()
    with copy_progress(f"Importing {path.name}", quiet=as_json) as progress:
        result = import_path(
            store,
            path,
            progress,
            name=name,
            check_template=check_chat_template,
            catalogue=open_catalogue(),
            import_bundle=lambda store, folder, progress: take_bundle(store, [folder], progress),
        )
    model = result.model
    is_gguf = model.format is ModelFormat.GGUF
    if is_gguf and (store.default_id() is None or _default_is_demo(store)):
        store.set_default(model.id)
    is_default = store.default_id() == model.id
    noted("model.import", model.id, path=str(path)[:1024], sha256=model.sha256, is_new=result.is_new)
    if as_json:
        print_json({"schema": 1, **_row(model), "is_new": result.is_new, "default": is_default})
        return
    console = stdout()
    parts = f", {len(model.files)} files" if len(model.files) > 1 else ""
    known = "" if result.is_new else "Already there: "
    console.print(f"{known or 'Imported: '}[bold]{model.id}[/] ({size(model.size_bytes)}{parts})")
    if model.variant is not None:
        how = "by its sha256" if model.recognised_by == "sha256" else "by its shape and name"
        console.print(f"It is {model.variant}, recognised {how}.")
    for warning in model.warnings:
        stderr().print(f"[yellow]Warning:[/] {escape(warning)}")
    if is_gguf:
        console.print("Serve it with: r1box serve" + ("" if is_default else f" --model {model.id}"))
    else:
        console.print("It is for vLLM, vLLM-Ascend or MindIE; llama.cpp serves GGUF files only.")


@app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """Show what is installed."""
    store = open_store()
    listing = store.list()
    default = store.default_id()
    usage = store.usage()
    if as_json:
        print_json(
            {
                "schema": 1,
                "default": default,
                "models": [_row(model) for model in listing.models],
                "damaged": [{"id": one.id, "problem": one.problem} for one in listing.damaged],
                "usage": _usage_row(usage),
            }
        )
        return
    if not listing.models and not listing.damaged:
        typer.echo("No models yet. Add one with: r1box models import FILE.gguf")
        _print_usage(usage)
        return
    from rich.table import Table

    table = Table("", "Id", "Quant", "Size", "Parameters", "Trained context", box=None, header_style="bold")
    for model in listing.models:
        mark = "*" if model.id == default else ""
        parameters = (
            f"{model.parameters / 1e9:.2f} B" if model.parameters >= 10**8 else f"{model.parameters / 1e6:.1f} M"
        )
        table.add_row(
            mark, model.id, model.quantization, size(model.size_bytes), parameters, f"{model.context_length_trained:,}"
        )
    if listing.models:
        stdout().print(table)
    for damaged in listing.damaged:
        stderr().print(
            f"[yellow]damaged[/] {damaged.id}: {damaged.problem}. Remove it with: r1box models remove {damaged.id}"
        )
    if default and listing.models:
        typer.echo("\n* is what 'r1box serve' loads.")
    _print_usage(usage)


@app.command("show")
def show(model_id: ModelId, as_json: AsJson = False) -> None:
    """Show one model: where it came from, at which commit, its files with their sha256, its licence."""
    model = open_store().get(model_id)
    if as_json:
        print_json({"schema": 1, "model": _row(model)})
        return
    from rich.table import Table

    table = Table(box=None, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in _details(model):
        table.add_row(label, escape(value))
    stdout().print(table)


def _details(model: InstalledModel) -> list[tuple[str, str]]:
    """What ``show`` prints, label and value; nothing for what is not known."""
    origin = model.provenance
    rows: list[tuple[str, str | None]] = [
        ("Id", model.id),
        ("Name", model.name),
        ("Variant", f"{model.variant} (recognised by its {model.recognised_by})" if model.variant else None),
        ("Form", f"{model.quantization}, {model.format.value}, {size(model.size_bytes)}"),
        ("Licence", model.licence.name if model.licence else None),
        ("Imported", model.imported_at),
        ("From", origin.kind if origin else None),
        ("Hub", origin.hub if origin else None),
        ("Repository", origin.repository if origin else None),
        ("Revision", origin.revision if origin else None),
        ("Bundle", origin.bundle if origin else None),
        ("Source", origin.name if origin else model.source),
        *((f"sha256 {file.name}", file.sha256) for file in model.files),
        *(("Warning", warning) for warning in model.warnings),
    ]
    return [(label, value) for label, value in rows if value]


@app.command("default")
def set_default(model_id: ModelId) -> None:
    """Choose what 'r1box serve' loads."""
    model = open_store().set_default(model_id)
    noted("model.default", model.id)
    typer.echo(f"'r1box serve' now loads {model.id}.")


@app.command("verify")
def verify(
    model_id: Annotated[str | None, typer.Argument(help="Id of the model. Without it: all models.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare models' bytes with the hashes that were taken when they were imported."""
    from models.store_types import VerifyResult

    store = open_store()
    with copy_progress(f"Reading {model_id or 'all models'}", quiet=as_json) as progress:
        if model_id is None:
            results = store.verify_all(progress)
        else:
            model = store.verify(model_id, progress)
            results = (VerifyResult(model.id, model.size_bytes),)
    broken = [result for result in results if result.problems]
    if as_json:
        rows = [{"id": r.id, "size_bytes": r.size_bytes, "problems": list(r.problems)} for r in results]
        print_json({"schema": 1, "models": rows})
    else:
        for result in results:
            for problem in result.problems:
                stderr().print(f"[red]damaged[/] {result.id}: {escape(problem)}")
            if not result.problems:
                typer.echo(f"{result.id} is whole ({size(result.size_bytes)}).")
        if not results:
            typer.echo("No models yet.")
        if broken:
            stderr().print("Remove what is damaged (r1box models remove ID) and import it again; check the disk.")
    if broken:
        raise typer.Exit(1)


@app.command("remove")
def remove(
    model_id: ModelId,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also the default model, or one that is served now.")] = False,
) -> None:
    """Delete a model from the store."""
    if not yes:
        typer.confirm(f"Delete {model_id} from the store?", abort=True)
    removed = open_store().remove(model_id, force=force)
    noted("model.remove", removed)
    typer.echo(f"Removed {removed}.")


def check_chat_template(facts: ChatTemplateFacts) -> TemplateFindings:
    """The chat template rendered through golden conversations, as an import asks for it."""
    from appliance.serving.template_check import check_template

    return check_template(
        facts.source,
        control_tokens=facts.control_tokens,
        bos_token=facts.bos_token,
        eos_token=facts.eos_token,
        name=facts.name,
    )


def open_catalogue() -> Catalogue:
    """The catalogue with this site's own entries."""
    from appliance.settings import load_settings
    from models.site_catalogue import load_site_catalogue

    return load_site_catalogue(load_settings().catalogue_dir)


def open_store() -> ModelStore:
    """The model store of the settings in force."""
    from appliance.settings import load_settings
    from models.model_store import ModelStore
    from models.store_types import DiskBudget

    settings = load_settings()
    budget = DiskBudget(settings.models_max_bytes, settings.models_keep_free_bytes)
    return ModelStore(settings.models_dir, budget=budget)


def _default_is_demo(store: ModelStore) -> bool:
    from appliance.demo import is_demo

    default = store.default_id()
    return default is not None and is_demo(store.get(default))


def _row(model: InstalledModel) -> dict[str, Any]:
    return {
        "id": model.id,
        "name": model.name,
        "architecture": model.architecture,
        "quantization": model.quantization,
        "size_bytes": model.size_bytes,
        "parameters": model.parameters,
        "context_length_trained": model.context_length_trained,
        "has_chat_template": model.has_chat_template,
        "sha256": model.sha256,
        "imported_at": model.imported_at,
        "source": model.source,
        "provenance": None if model.provenance is None else msgspec.structs.asdict(model.provenance),
        "format": model.format.value,
        "files": [{"name": f.name, "size_bytes": f.size_bytes, "sha256": f.sha256} for f in model.files],
        "variant": model.variant,
        "recognised_by": model.recognised_by,
        "profile": model.profile,
        "licence": model.licence.name if model.licence else None,
        "warnings": list(model.warnings),
    }


def _usage_row(usage: StoreUsage) -> dict[str, Any]:
    return {
        "used_bytes": usage.used_bytes,
        "saved_bytes": usage.saved_bytes,
        "free_bytes": usage.free_bytes,
        "unfinished": [
            {"key": one.key, "size_bytes": one.size_bytes, "age_s": round(one.age_s), "is_running": one.is_running}
            for one in usage.unfinished
        ],
    }


def _print_usage(usage: StoreUsage) -> None:
    console = stdout()
    for one in usage.unfinished:
        state = "under way" if one.is_running else "interrupted; start it again to go on"
        console.print(f"Unfinished: {escape(one.key)}, {size(one.size_bytes)} so far, {state}")
    saved = f", {size(usage.saved_bytes)} saved by sharing files" if usage.saved_bytes else ""
    console.print(f"Store {size(usage.used_bytes)}{saved}; {size(usage.free_bytes)} free on its disk")
