"""``r1box models``: the model store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliance.cli.output import copy_progress, print_json, size, stderr, stdout

if TYPE_CHECKING:
    from models.model_store import ModelStore
    from models.types import InstalledModel

app = typer.Typer(help="Import, list, verify and remove models.", no_args_is_help=True)

ModelId = Annotated[str, typer.Argument(help="Id of the model, as 'r1box models list' shows it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("import")
def import_model(
    file: Annotated[Path, typer.Argument(help="The .gguf file, for example on a USB stick.")],
    name: Annotated[str | None, typer.Option(help="Name to keep it under. Default: the one in the file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check a model file and copy it into the store. The first real model becomes the default."""
    from models.importer import import_gguf

    store = open_store()
    with copy_progress(f"Importing {file.name}", quiet=as_json) as progress:
        result = import_gguf(store, file, progress, name=name)
    model = result.model
    if store.default_id() is None or _default_is_demo(store):
        store.set_default(model.id)
    is_default = store.default_id() == model.id
    if as_json:
        print_json({"schema": 1, **_row(model), "is_new": result.is_new, "default": is_default})
        return
    console = stdout()
    console.print(f"{'Imported' if result.is_new else 'Already there'}: [bold]{model.id}[/] ({size(model.size_bytes)})")
    console.print("Serve it with: r1box serve" + ("" if is_default else f" --model {model.id}"))


@app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """Show what is installed."""
    store = open_store()
    listing = store.list()
    default = store.default_id()
    if as_json:
        print_json(
            {
                "schema": 1,
                "default": default,
                "models": [_row(model) for model in listing.models],
                "damaged": [{"id": one.id, "problem": one.problem} for one in listing.damaged],
            }
        )
        return
    if not listing.models and not listing.damaged:
        typer.echo("No models yet. Add one with: r1box models import FILE.gguf")
        return
    from rich.table import Table

    table = Table("", "Id", "Quant", "Size", "Parameters", "Trained context", box=None, header_style="bold")
    for model in listing.models:
        mark = "*" if model.id == default else ""
        parameters = f"{model.parameters / 1e9:.2f} B"
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


@app.command("default")
def set_default(model_id: ModelId) -> None:
    """Choose what 'r1box serve' loads."""
    model = open_store().set_default(model_id)
    typer.echo(f"'r1box serve' now loads {model.id}.")


@app.command("verify")
def verify(model_id: ModelId) -> None:
    """Compare a model's bytes with the hash that was taken when it was imported."""
    with copy_progress(f"Reading {model_id}") as progress:
        model = open_store().verify(model_id, progress)
    typer.echo(f"{model.id} is whole (sha256 {model.sha256}).")


@app.command("remove")
def remove(
    model_id: ModelId,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a model from the store."""
    if not yes:
        typer.confirm(f"Delete {model_id} from the store?", abort=True)
    typer.echo(f"Removed {open_store().remove(model_id)}.")


def open_store() -> ModelStore:
    """The model store of the settings in force."""
    from appliance.settings import load_settings
    from models.model_store import ModelStore

    return ModelStore(load_settings().models_dir)


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
    }
