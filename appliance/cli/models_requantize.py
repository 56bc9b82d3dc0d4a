"""``r1box models requantize``: a model in the form that the chip computes."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from rich.markup import escape

from appliance.cli.accounts import noted
from appliance.cli.output import copy_progress, print_json, size, stderr, stdout


class Form(StrEnum):
    """``models.requantize.PureType``, which is imported only when the command runs."""

    Q8_0 = "Q8_0"
    Q4_0 = "Q4_0"


def requantize_command(
    model_id: Annotated[str, typer.Argument(help="Id of the model, as 'r1box models list' shows it; best an F16 one.")],
    to: Annotated[
        Form,
        typer.Option(
            "--to",
            case_sensitive=False,
            help="What all matrices become. Token embedding and output become Q8_0 in both.",
        ),
    ],
    threads: Annotated[int, typer.Option(min=0, help="Threads to compute with. 0: all.")] = 0,
    force: Annotated[
        bool, typer.Option("--force", help="Also from a model that has lost quality already (K-quants, ...).")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make pure Q8_0 or Q4_0 from an F16 model, which Ascend 910B cards compute; published Q4_0 files they do not."""
    from appliance.cli.models import check_chat_template, open_catalogue, open_store
    from models.requantize import PureType, requantize

    store = open_store()
    model = store.get(model_id)
    with copy_progress(f"Requantizing {model.id}", quiet=as_json) as progress:
        made = requantize(
            store,
            model,
            PureType(to.value),
            progress,
            force=force,
            threads=threads,
            check_template=check_chat_template,
            catalogue=open_catalogue(),
        )
    new = made.result.model
    noted("model.requantize", new.id, source=model.id, sha256=new.sha256)
    warnings = [*made.warnings, *new.warnings]
    if as_json:
        print_json(
            {
                "schema": 1,
                "id": new.id,
                "source": model.id,
                "quantization": new.quantization,
                "size_bytes": new.size_bytes,
                "sha256": new.sha256,
                "is_new": made.result.is_new,
                "warnings": warnings,
            }
        )
        return
    known = "Made" if made.result.is_new else "Already there"
    stdout().print(f"{known}: [bold]{new.id}[/] ({size(new.size_bytes)}), from {model.id} ({size(model.size_bytes)})")
    for warning in warnings:
        stderr().print(f"[yellow]Warning:[/] {escape(warning)}")
    stdout().print(f"Serve it with: r1box serve --model {new.id}")


def register(app: typer.Typer) -> None:
    """Adds the command to ``r1box models``."""
    app.command("requantize")(requantize_command)
