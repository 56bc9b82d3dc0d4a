"""``r1box serve``: the daemon in the foreground."""

from __future__ import annotations

from typing import Annotated

import typer


def serve(
    model: Annotated[str | None, typer.Option(help="Id of the model to load. Default: the store's default.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; 0.0.0.0 is every network.")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port; 0 takes a free one.")] = None,
    seats: Annotated[int | None, typer.Option(help="Chats answered at the same time. Default: what fits.")] = None,
    context: Annotated[
        int | None, typer.Option(help="Tokens one seat holds, conversation and answer. Default: what fits.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads of the engine. Default: the cores.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="With an empty model store: import the small demo model first.")
    ] = False,
    first_key: Annotated[
        bool, typer.Option("--first-key", help="When there is no API key yet: make one and print it once.")
    ] = False,
) -> None:
    """Load a model and serve the chat page and the OpenAI-compatible API until Ctrl-C."""
    from appliance.settings import load_settings

    settings = load_settings(
        {
            "model": model,
            "host": host,
            "port": port,
            "seats": seats,
            "context_tokens": context,
            "threads": threads,
            "log_level": log_level,
        }
    )
    from appliance.cli.output import copy_progress
    from appliance.cli.report import TerminalReporter
    from appliance.daemon import Daemon, lay_foundation
    from appliance.demo import demo_file, import_demo
    from appliance.logs import configure_logging

    configure_logging(settings.log_level)
    foundation = lay_foundation(settings)
    if demo and foundation.models.default_id() is None:
        with copy_progress(f"Importing {demo_file().name}") as progress:
            import_demo(foundation.models, progress)
    secret = None
    if first_key and foundation.keys.count() == 0:
        secret = foundation.keys.create("first").secret
    Daemon(foundation, TerminalReporter(first_key=secret, has_keys=foundation.keys.count() > 0)).run()
