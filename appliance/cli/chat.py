"""``r1box chat``: a conversation in the terminal, through the same API and client library that programs use."""

from __future__ import annotations

import ssl
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from appliance.cli.output import stderr, stdout

if TYPE_CHECKING:
    from openai import OpenAI
    from rich.console import Console

HELP = "Enter sends. /new starts over, /quit or Ctrl-D ends, Ctrl-C stops an answer."


def chat_command(
    message: Annotated[str | None, typer.Argument(help="One question; without it: a conversation.")] = None,
    url: Annotated[str | None, typer.Option(help="Address of the box. Default: the settings' host and port.")] = None,
    key: Annotated[str | None, typer.Option(envvar="R1BOX_API_KEY", help="API key.")] = None,
    ca: Annotated[
        str | None, typer.Option(help="PEM file with the authority to trust. Default on the box itself: its own.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model id. Default: the one that is served.")] = None,
    hide_thinking: Annotated[bool, typer.Option("--hide-thinking", help="Show only the answer.")] = False,
) -> None:
    """Chat with the served model in the terminal."""
    from openai import APIError, OpenAI

    from appliance.errors import ChatFailed

    if not key:
        raise ChatFailed(problem="There is no API key to send.", next_step="Give --key or set R1BOX_API_KEY.")
    address = (url or default_url()).rstrip("/")
    client = OpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0, http_client=http_client(ca, own=url is None))
    try:
        served = model or next(iter(client.models.list())).id
        conversation = _Conversation(client, served, hide_thinking=hide_thinking)
        if message is not None:
            conversation.ask(message)
        else:
            _talk(conversation, served)
    except StopIteration:
        raise ChatFailed(problem="The box serves no model.", next_step="Start one with: r1box serve") from None
    except APIError as error:
        raise ChatFailed(problem=_problem(error, address), next_step=_next_step(error)) from error


class _Conversation:
    def __init__(self, client: OpenAI, model: str, *, hide_thinking: bool) -> None:
        self._client = client
        self._model = model
        self._hide_thinking = hide_thinking
        self._messages: list[dict[str, str]] = []

    def ask(self, question: str) -> None:
        """Send a turn and print the answer as it comes. Ctrl-C ends the answer and keeps what came."""
        console = stdout()
        messages: Any = [*self._messages, {"role": "user", "content": question}]
        stream = self._client.chat.completions.create(
            model=self._model, messages=messages, stream=True, stream_options={"include_usage": True}
        )
        answer, thinking = "", False
        started = time.monotonic()
        usage: Any = None
        try:
            for chunk in stream:
                usage = chunk.usage or usage
                if not chunk.choices:
                    continue
                delta = chunk.choices[0].delta
                thought = getattr(delta, "reasoning_content", None)
                if thought and not self._hide_thinking:
                    thinking = True
                    _write(console, thought, "dim")
                if delta.content:
                    if thinking:
                        _write(console, "\n\n", "")
                        thinking = False
                    answer += delta.content
                    _write(console, delta.content, "")
        except KeyboardInterrupt:
            stream.close()
            stderr().print("\n[dim]stopped[/]", end="")
        sys.stdout.write("\n")
        if usage is not None and console.is_terminal:
            seconds = time.monotonic() - started
            stderr().print(f"[dim]{usage.completion_tokens} tokens in {seconds:.1f} s[/]")
        self._messages = [*messages, {"role": "assistant", "content": answer}]

    def clear(self) -> None:
        """Forget the conversation."""
        self._messages = []


def _talk(conversation: _Conversation, model: str) -> None:
    stderr().print(f"[bold]{escape(model)}[/]  [dim]{HELP}[/]")
    while True:
        try:
            question = input("\n> ").strip()
        except (EOFError, KeyboardInterrupt):
            sys.stdout.write("\n")
            return
        if question in ("/quit", "/exit"):
            return
        if question == "/new":
            conversation.clear()
        elif question:
            conversation.ask(question)


def _write(console: Console, text: str, style: str) -> None:
    console.print(text, style=style or None, end="", markup=False, highlight=False)


def default_url() -> str:
    """Where this box answers, by its settings."""
    from appliance.settings import load_settings

    settings = load_settings()
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104 - compared, not bound
    return f"{'http' if settings.tls == 'off' else 'https'}://{host}:{settings.port}"


def http_client(ca: str | None, *, own: bool) -> Any:
    """A client that trusts what was named, or for this box ``own`` authority; else None, the library's own."""
    import httpx

    from appliance.errors import ChatFailed
    from appliance.settings import load_settings

    file: str | None = ca
    if file is None and own:
        settings = load_settings()
        if settings.tls == "local":
            file = str(settings.state_dir / "tls" / "authority.crt")
    if file is None:
        return None
    try:
        return httpx.Client(verify=ssl.create_default_context(cafile=file), timeout=None)  # noqa: S113 - answers take long
    except OSError as error:
        reason = error.strerror or str(error)
        raise ChatFailed(problem=f"{file} cannot be read: {reason}.", next_step="Name it with --ca.") from error


def _problem(error: Any, address: str) -> str:
    from openai import APIConnectionError

    if isinstance(error, APIConnectionError):
        return f"The box does not answer at {address}."
    body = error.body if isinstance(error.body, dict) else {}
    return str(body.get("message") or error.message)


def _next_step(error: Any) -> str:
    from openai import APIConnectionError, AuthenticationError

    if isinstance(error, APIConnectionError):
        return "Start it with: r1box serve. Or name another address with --url."
    if isinstance(error, AuthenticationError):
        return "Make a key on the box with: r1box keys create NAME"
    return "r1box serve prints what is served and with which seats."
