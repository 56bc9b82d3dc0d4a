"""The console's entry point, ``r1box-console``."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tui.client import BoxClient, Target
from tui.look import Look, language_of, look_of

LOCAL_URL = "http://127.0.0.1:8080"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the console until the operator leaves. 0, or 2 for options that cannot be used."""
    options = _parser().parse_args(arguments)
    environ = os.environ
    if options.served is not None:
        return asyncio.run(_run_served(options))
    look = look_of({**environ, **({"TERM": "vt100"} if options.plain else {})}, sys.stdout.encoding)
    try:
        key = _key(options.key_file, environ)
    except OSError as error:
        return _refuse(f"{options.key_file} cannot be read: {error.strerror}.")
    # Textual draws on the error output.
    if not (sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()):
        return _refuse("The console needs a terminal. For scripts: r1box issues --json, r1box models --json.")
    try:
        asyncio.run(_run(options, key, look, environ))
    except OSError as error:
        return _refuse(f"{options.ca} cannot be used: {error.strerror or error}.")
    return 0


async def _run(options: argparse.Namespace, key: str | None, look: Look, environ: Mapping[str, str]) -> None:
    gc.disable()  # what is made from here to the first screen stays
    from tui.app import ConsoleApp
    from tui.rescue import find_tool

    target = target_of(options.url, options.socket, options.page_url, environ)
    async with BoxClient(target, key=key, ca=options.ca) as client:
        language = language_of(environ, look, options.language)
        # Only on the box itself there is a way back when the daemon is down.
        rescue = None if options.url is not None else find_tool(environ)
        app = ConsoleApp(client, look=look, language=language, light=options.light, leads=True, rescue=rescue)
        gc.freeze()
        gc.enable()
        await app.run_async()


async def _run_served(options: argparse.Namespace) -> int:
    """For a browser, on the daemon's behalf: by its socket, as the person whose session it gave."""
    from tui.app import ConsoleApp
    from tui.served import ServedDriver, session_headers

    if options.socket is None:
        return _refuse("--served needs --socket.")
    target = Target("http://r1box", socket=options.socket, served=True)
    async with BoxClient(target, headers=session_headers(options.served)) as client:
        app = ConsoleApp(
            client, look=Look(), language=options.language or "en", light=options.light, driver_class=ServedDriver
        )
        await app.run_async()
    return app.return_code or 0


def target_of(url: str | None, socket: Path | None, page_url: str | None, environ: Mapping[str, str]) -> Target:
    """Where the daemon is: what was named; else the first admin socket that is there; else this machine's port 8080."""
    if url is not None:
        return Target(url.rstrip("/"), page_url=page_url or f"{url.rstrip('/')}/")
    places = sockets(environ)
    found = socket or next((path for path in places if path.is_socket()), None)
    if found is None:
        found = _expected(places)
    if found is not None:
        return Target("http://r1box", socket=found, page_url=page_url)
    return Target(LOCAL_URL, page_url=page_url or f"{LOCAL_URL}/")


def _expected(places: Sequence[Path]) -> Path | None:
    """Where the socket of a daemon that is down will be when it is back: beside its database, or the service's, whose
    folder goes with it, on a machine that has its settings."""
    own, service = places[-1], places[-2]
    if (own.parent / "r1box.db").is_file():
        return own
    return service if Path("/etc/r1box").is_dir() else None


def sockets(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Where a daemon of this machine has its admin socket: the service's, then this user's own."""
    named = environ.get("R1BOX_ADMIN_SOCKET")
    state = environ.get("R1BOX_STATE_DIR")
    home = environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    own = Path(state) if state else Path(home) / "r1box"
    return (*((Path(named),) if named else ()), Path("/run/r1box/admin.sock"), own / "admin.sock")


def _key(file: Path | None, environ: Mapping[str, str]) -> str | None:
    if file is not None:
        return file.read_text(encoding="utf-8").strip() or None
    return environ.get("R1BOX_API_KEY") or None


def _refuse(problem: str) -> int:
    print(problem, file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="r1box-console",
        description="The operator's console of R1 Box. On the box it uses the daemon's admin socket, without a key; "
        "elsewhere give --url and a key in R1BOX_API_KEY or --key-file.",
    )
    parser.add_argument("--url", help="address of the box, such as https://r1box.local:8080")
    parser.add_argument("--socket", type=Path, help="the daemon's admin socket")
    parser.add_argument("--key-file", type=Path, help="file with an API key (scopes admin:read, admin:write, metrics)")
    parser.add_argument("--ca", type=Path, help="certificate of the authority that signed the box's (PEM)")
    parser.add_argument("--page-url", help="where people open the chat page, for the QR code; default: --url")
    parser.add_argument("--language", choices=("en", "zh"), help="default: the locale's")
    parser.add_argument("--light", action="store_true", help="begin with light colours")
    # The daemon's own: a pipe with the session of the person in whose browser the console is shown.
    parser.add_argument("--served", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--plain", action="store_true", help="ASCII borders and eight colours")
    return parser


if __name__ == "__main__":
    sys.exit(main())
