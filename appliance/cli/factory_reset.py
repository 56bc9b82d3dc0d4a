"""``r1box factory-reset``: the box as it was before its first start."""

from __future__ import annotations

from typing import Annotated

import typer

from appliance.cli.output import size, stdout

WORD = "factory-reset"


def factory_reset_command(
    remove_models: Annotated[
        bool, typer.Option("--remove-models", help="Models go too. Without it they stay: they are no secret.")
    ] = False,
    keep_backups: Annotated[bool, typer.Option("--keep-backups", help="Backups in the state folder stay.")] = False,
    confirm: Annotated[str | None, typer.Option(help=f"The word '{WORD}', for scripts; asked for otherwise.")] = None,
) -> None:
    """Remove users, keys, chats, settings, certificates and logs of this box. The machine's settings file, an
    installed system and the log of systemd stay."""
    from appliance.backup.pending import finish_pending, waits
    from appliance.backup.reset import BACKUPS, Reset, ResetOrder, what_goes
    from appliance.cli.backup import ask_for_restart
    from appliance.cli.state import remove_all_models
    from appliance.errors import NotConfirmed
    from appliance.paths import prepare_state
    from appliance.settings import load_settings
    from models.model_store import ModelStore

    settings = load_settings()
    folder = prepare_state(settings.state_dir).state_dir
    console = stdout()
    console.print(f"This removes from {folder}:", markup=False)
    for name, size_bytes in what_goes(folder):
        if not (keep_backups and name == BACKUPS):
            console.print(f"  {name:<24} {size(size_bytes)}", markup=False)
    models = ModelStore(settings.models_dir).list().models
    fate = "removed" if remove_models else "kept"
    console.print(f"Models are {fate}: {', '.join(one.id for one in models) or 'there are none'}", markup=False)
    if (confirm or typer.prompt(f"Type {WORD} to go on", default="", show_default=False)) != WORD:
        raise NotConfirmed(WORD)
    Reset(folder).order(ResetOrder(remove_models=remove_models, keep_backups=keep_backups))
    finish_pending(folder, lambda: remove_all_models(settings))
    if not waits(folder):
        typer.echo("The box is as new. Start it: systemctl start r1box, or r1box serve")
    elif ask_for_restart():
        typer.echo("The box restarts as new.")
    else:
        typer.echo("It takes effect when the box restarts: systemctl restart r1box")
