"""``r1box cache``: the chats that are kept on disk."""

from __future__ import annotations

from typing import Annotated

import typer

from appliance.cli.output import print_json

app = typer.Typer(help="Forget the chats that are kept on disk.", no_args_is_help=True)


@app.callback()
def _cache() -> None:
    """A group, although it has one command so far."""


@app.command("clear")
def clear(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Delete the key of the chats on disk, so that nobody can read them any more, and then their files.

    A running daemon forgets within seconds what it keeps in memory, and keeps nothing more until it is restarted; chats
    that are being answered, or were just now, stay in the model's own cache until then.
    """
    from appliance.engine.llamacpp.tier_disk import forget_chats
    from appliance.errors import StateNotWritable
    from appliance.model_setup import chat_dir, chat_key_file
    from appliance.settings import load_settings

    settings = load_settings()
    folder = chat_dir(settings)
    try:
        files, size_bytes = forget_chats(folder, chat_key_file(settings))
    except OSError as error:
        raise StateNotWritable(path=str(folder), reason=(error.strerror or type(error).__name__).lower()) from error
    if as_json:
        print_json({"schema": 1, "files": files, "bytes": size_bytes})
    else:
        typer.echo(f"Forgot {files} files of chats, {size_bytes / 1e6:,.1f} MB.")
