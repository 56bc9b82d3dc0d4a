"""``r1box serve``: the daemon in the foreground."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.daemon import Foundation
    from appliance.log_ring import LogRing
    from appliance.settings import Settings

Context = Annotated[
    int | None,
    typer.Option(
        "--context", "--context-tokens", help="Tokens one seat holds, conversation and answer. Default: what fits."
    ),
]


def serve(
    # Over 60 lines because every flag has its line twice.
    model: Annotated[str | None, typer.Option(help="Id of the model to load. Default: the store's default.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; 0.0.0.0 is every network.")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port; 0 takes a free one.")] = None,
    tls: Annotated[str | None, typer.Option(help="off, local (the box's own authority) or files.")] = None,
    seats: Annotated[int | None, typer.Option(help="Chats answered at the same time. Default: what fits.")] = None,
    context: Context = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads of the engines. Default: the cores.")] = None,
    speculation: Annotated[
        bool | None,
        typer.Option("--speculation/--no-speculation", help="Guess tokens ahead where that is quicker. Default: on."),
    ] = None,
    draft_model: Annotated[
        str | None, typer.Option(help="Id of a small model that guesses for this one; auto or off. Default: auto.")
    ] = None,
    offload: Annotated[
        bool | None,
        typer.Option("--offload", help="Allow a part of the model in the host's memory: it fits, but is slow."),
    ] = None,
    backends_dir: Annotated[str | None, typer.Option(help="Folder with loadable ggml backends for cards.")] = None,
    allow_cpu_fallback: Annotated[
        bool | None,
        typer.Option("--allow-cpu-fallback", help="Serve from the processor what cannot run on this machine's cards."),
    ] = None,
    chat_memory_bytes: Annotated[
        int | None, typer.Option(help="Most bytes of memory that keep idle chats; 0 keeps none.")
    ] = None,
    chat_disk_bytes: Annotated[
        int | None, typer.Option(help="Most bytes of disk that keep idle chats; 0 keeps none.")
    ] = None,
    chat_dir: Annotated[str | None, typer.Option(help="Folder of the chats on disk.")] = None,
    max_waiting: Annotated[int | None, typer.Option(help="Requests that may wait for a seat.")] = None,
    max_request_bytes: Annotated[int | None, typer.Option(help="Largest request body, in bytes.")] = None,
    start_timeout_s: Annotated[float | None, typer.Option(help="Seconds that a model may take to load.")] = None,
    telemetry_interval_s: Annotated[
        float | None, typer.Option(help="Seconds between samples of cards and host; 0 is off.")
    ] = None,
    state_dir: Annotated[str | None, typer.Option(help="Folder of the database and other state.")] = None,
    models_dir: Annotated[str | None, typer.Option(help="Folder of the model store.")] = None,
    models_max_bytes: Annotated[int | None, typer.Option(help="Most bytes the model store may take.")] = None,
    models_keep_free_bytes: Annotated[int | None, typer.Option(help="Bytes of its disk to leave free.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="With an empty model store: import the small demo model first.")
    ] = False,
    first_key: Annotated[
        bool, typer.Option("--first-key", help="When there is no API key yet: make one and print it once.")
    ] = False,
) -> None:
    """Load a model and serve the chat page and the OpenAI-compatible API until Ctrl-C."""
    from appliance.log_ring import LogRing
    from appliance.settings import load_settings

    flags = {
        "model": model,
        "host": host,
        "port": port,
        "tls": tls,
        "seats": seats,
        "context_tokens": context,
        "threads": threads,
        "speculation": speculation,
        "draft_model": draft_model,
        "offload": offload,
        "backends_dir": backends_dir,
        "allow_cpu_fallback": allow_cpu_fallback,
        "chat_memory_bytes": chat_memory_bytes,
        "chat_disk_bytes": chat_disk_bytes,
        "chat_dir": chat_dir,
        "max_waiting": max_waiting,
        "max_request_bytes": max_request_bytes,
        "start_timeout_s": start_timeout_s,
        "telemetry_interval_s": telemetry_interval_s,
        "state_dir": state_dir,
        "models_dir": models_dir,
        "models_max_bytes": models_max_bytes,
        "models_keep_free_bytes": models_keep_free_bytes,
        "log_level": log_level,
    }
    given = frozenset(name for name, value in flags.items() if value is not None)
    ring, again = LogRing(), True
    while again:
        # A restart within the process: systemd sees none, and a terminal keeps its program.
        again = _run(lambda: load_settings(flags), given, ring, demo=demo, first_key=first_key)


def _run(load: Callable[[], Settings], flags: frozenset[str], ring: LogRing, *, demo: bool, first_key: bool) -> bool:
    """One run of the daemon; whether another is wanted."""
    from appliance.cli.state import with_state
    from appliance.daemon import lay_foundation
    from appliance.logs import configure_logging
    from drivers.slots import booted_slot, kernel_arguments

    has_slots = booted_slot(kernel_arguments()) is not None
    configure_logging(load().log_level, sinks=(ring.handler,))

    def run(settings: Settings, is_up: Callable[[], None]) -> bool:
        foundation = replace(lay_foundation(settings, has_slots=has_slots), flags=flags, logs=ring)
        return _serve(foundation, is_up, demo=demo, first_key=first_key)

    return with_state(load, run)


def _serve(foundation: Foundation, is_up: Callable[[], None], *, demo: bool, first_key: bool) -> bool:
    from appliance.cli.output import copy_progress
    from appliance.cli.report import TerminalReporter
    from appliance.daemon import Daemon
    from appliance.demo import demo_file, import_demo
    from appliance.log_file import open_log_file
    from appliance.security.keys import Grant
    from appliance.security.roles import PERMISSIONS, Role

    settings = foundation.settings
    files = open_log_file(settings)
    if demo and foundation.models.default_id() is None:
        with copy_progress(f"Importing {demo_file().name}") as progress:
            import_demo(foundation.models, progress)
    if demo and _serves_demo(foundation):
        # It is there to show that a fresh clone works, also where llama.cpp was not built for the machine's cards.
        settings = settings.model_copy(update={"allow_cpu_fallback": True})
        foundation = replace(foundation, settings=settings)
    secret = None
    if first_key and foundation.keys.count() == 0:
        secret = foundation.keys.create("first", Grant(scopes=PERMISSIONS[Role.USER])).secret
    token = foundation.accounts.ensure_setup_token()
    reporter = TerminalReporter(
        first_key=secret,
        has_keys=foundation.keys.count() > 0,
        setup_token=token,
        scheme="http" if settings.tls == "off" else "https",
    )
    try:
        return Daemon(foundation, reporter, is_up=is_up).run()
    finally:
        if files is not None:
            files.close()


def _serves_demo(foundation: Foundation) -> bool:
    """Whether the demo model is what will be served."""
    from appliance.demo import is_demo

    wanted = foundation.settings.model or foundation.models.default_id()
    return wanted is not None and is_demo(foundation.models.get(wanted))
