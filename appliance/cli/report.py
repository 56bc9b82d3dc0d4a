"""What ``r1box serve`` tells the person who started it: progress, then how to use what is served."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from pathlib import Path

from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from appliance.cli.output import context, size, stderr, stdout
from appliance.demo import is_demo
from appliance.engine.base import EngineInfo, EngineState, EngineStatus
from appliance.model_setup import ModelSetup
from appliance.schemas.offload import Offload
from appliance.system.names import EVERY_NETWORK, addresses

KEY_PLACEHOLDER = "$R1BOX_API_KEY"


class TerminalReporter:
    """Progress to stderr, the result to stdout. ``first_key`` is a key that was made just now: it is shown once.
    ``setup_token`` is there while the box has no administrator."""

    def __init__(
        self, *, first_key: str | None, has_keys: bool, setup_token: str | None = None, scheme: str = "http"
    ) -> None:
        self._setup_token = setup_token
        self._first_key = first_key
        self._has_keys = has_keys
        self._scheme = scheme
        self._program = _program()
        self._console = stderr()
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._verdict: Offload | None = None

    def listening(self, host: str, port: int) -> None:
        """The socket is open; nothing is loaded yet."""
        self._console.print(f"[dim]Listening on {_url(self._scheme, host, port)}[/]")

    def loading(self, setup: ModelSetup) -> None:
        """The model is about to be loaded."""
        plan = setup.plan
        where = ", ".join(plan.devices) or "the processor"
        line = f"Loading {setup.installed.id} ({size(setup.installed.size_bytes)}) on {where}"
        if not self._console.is_terminal:
            self._console.print(f"{line} ...")
            return
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
        self._progress = Progress(*columns, TimeElapsedColumn(), console=self._console, transient=True)
        self._task = self._progress.add_task(escape(line), total=1.0)
        self._progress.start()

    def engine(self, status: EngineStatus) -> None:
        """The engine changed its state or got further with a load."""
        if self._progress is not None and self._task is not None:
            if status.load_fraction is not None:
                self._progress.update(self._task, completed=status.load_fraction)
            if status.state is not EngineState.STARTING:
                self._progress.stop()
                self._progress = None

    def offload(self, verdict: Offload) -> None:
        """Where the model runs was judged."""
        self._verdict = verdict

    def ready(self, setup: ModelSetup | None, info: EngineInfo | None, host: str, port: int) -> None:
        """Everything is up."""
        console = stdout()
        address = _url(self._scheme, _reachable(host), port)
        if setup is not None and info is None:
            console.print(f"\n[bold]R1 Box is up on {address}; {escape(setup.installed.id)} is not served.[/]")
            console.print(f"  Why         the error above; {self._program} doctor checks the cards")
        elif setup is None or info is None:
            console.print(f"\n[bold]R1 Box is up on {address}, without a model.[/]")
            console.print(f"  Add one     {self._program} models import FILE.gguf && {self._program} serve")
            console.print(f"  Which one   {self._program} plan")
        else:
            demo = " (the demo model)" if is_demo(setup.installed) else ""
            console.print(f"\n[bold]R1 Box is serving {escape(setup.installed.id)}{demo} on {address}[/]")
            console.print(
                f"  Seats       {info.seats} x {context(info.context_tokens)} tokens, on {', '.join(info.backends)}"
            )
            self._print_offload()
            fragment = f"#key={self._first_key}" if self._first_key else ""
            console.print(f"  Chat page   {address}/{fragment}")
            if self._scheme == "https":
                console.print(f"  Trust       {self._program} tls show   (what to install on people's computers)")
        self._print_key()
        if self._setup_token:
            console.print(f"  First admin setup token {self._setup_token} for the chat page, or here:")
            console.print(f"              {self._program} users create NAME --role admin")
        if setup is not None and info is not None:
            self._print_examples(address, setup.installed.id)
            if is_demo(setup.installed):
                console.print(
                    f"  A real R1   {self._program} plan   then   {self._program} models import FILE.gguf && "
                    f"{self._program} serve"
                )
        console.print("  Stop        Ctrl-C\n")

    def stopping(self) -> None:
        """The daemon ends."""
        if self._progress is not None:
            self._progress.stop()
        self._console.print("[dim]Stopping[/]")

    def _print_offload(self) -> None:
        """The verdict in one line, and a line for each reason against it."""
        verdict = self._verdict
        if verdict is None:
            return
        console = stdout()
        console.print(f"  Offload     {' · '.join([verdict.state, *verdict.proof])}", markup=False)
        for reason in verdict.reasons:
            console.print(f"              ! {reason.message}", markup=False)

    def _print_key(self) -> None:
        console = stdout()
        if self._first_key:
            console.print(f"  API key     {self._first_key}   (shown once; more: {self._program} keys create NAME)")
        elif self._has_keys:
            console.print(f"  API key     one you have, or a new one: {self._program} keys create NAME")
        else:
            console.print(f"  API key     none yet; make one: {self._program} keys create NAME")

    def _print_examples(self, address: str, model_id: str) -> None:
        key = self._first_key or KEY_PLACEHOLDER
        body = json.dumps({"model": model_id, "messages": [{"role": "user", "content": "Hello!"}]})
        # Double quotes around the header: with the placeholder the shell puts the key of the environment in.
        curl = (
            f'curl {address}/v1/chat/completions -H "Authorization: Bearer {key}" '
            f"-H 'Content-Type: application/json' -d {shlex.quote(body)}"
        )
        api_key = repr(self._first_key) if self._first_key else "os.environ['R1BOX_API_KEY']"
        program = (
            f"import os, openai; c = openai.OpenAI(base_url='{address}/v1', api_key={api_key}); "
            f"print(c.chat.completions.create(model='{model_id}', "
            "messages=[{'role': 'user', 'content': 'Hello!'}]).choices[0].message.content)"
        )
        console = stdout()
        for name, line in (("curl", curl), ("Python", f'{_python()} -c "{program}"')):
            console.print(f"  {name:<11}", end=" ")
            console.print(line, markup=False)


def _python() -> str:
    """A Python that may have the openai package: this one, unless this is a frozen program."""
    return "python3" if getattr(sys, "frozen", False) else sys.executable


def _program() -> str:
    """How to call this command again: by its name where the shell finds it, else by its path."""
    path = Path(sys.argv[0])
    if shutil.which(path.name) is not None or not path.is_file():
        return "r1box"
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) else str(path)


def _url(scheme: str, host: str, port: int) -> str:
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _reachable(host: str) -> str:
    """The address to tell people: for "every network" that of the first interface that is up and not loopback."""
    if host not in EVERY_NETWORK:
        return host
    return next(iter(addresses()), "127.0.0.1")
