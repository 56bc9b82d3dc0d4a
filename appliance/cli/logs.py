"""``r1box logs``: the log of the running box, through its API; of a box that does not run, its log files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from appliance.cli.accounts import BadMoment
from appliance.cli.box_client import BoxClient, BoxRefused, BoxUnreachable, Key, Url
from appliance.cli.output import stderr, stdout
from appliance.cli.users import BadChoice

if TYPE_CHECKING:
    from appliance.log_ring import LogFilter
    from appliance.schemas.logs import LogItem

LEVELS = ("debug", "info", "warning", "error")
_STYLES = {"debug": "dim", "warning": "yellow", "error": "bold red", "critical": "bold red"}
_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_PAGE = 2_000


def logs_command(
    level: Annotated[str, typer.Option(help="Least severity: debug, info, warning or error.")] = "debug",
    part: Annotated[str | None, typer.Option(help="A part of the box: api, serving, engine, jobs, ...")] = None,
    text: Annotated[str | None, typer.Option(help="Lines with this text, in capitals or not.")] = None,
    request: Annotated[str | None, typer.Option(metavar="ID", help="Lines of one request (X-Request-Id).")] = None,
    since: Annotated[str | None, typer.Option(help="From then on: 10m, 2h, 3d ago, or 2026-11-20T18:00.")] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=100_000, help="The newest so many.")] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines until Ctrl-C.")] = False,
    url: Url = None,
    key: Key = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON document for each line.")] = False,
) -> None:
    """Show what the box did: the newest lines of its log, in the order in which they came."""
    if level not in LEVELS:
        raise BadChoice(what="--level", given=level, choices=", ".join(LEVELS))
    wanted = {"level": level, "part": part, "text": text, "request_id": request, "since": _since(since)}
    try:
        client = BoxClient(url, key)
        if follow:
            _follow(client, wanted, lines, as_json=as_json)
            return
        found = list(_newest(client, wanted, lines))
    except (BoxUnreachable, BoxRefused) as error:
        # A box that is down has its files, if it wrote any; one that answers and refuses has said why.
        kept = None if follow or url or key else _from_files(wanted, lines)
        if kept is None:
            raise
        stderr().print(f"[dim]{escape(error.message)} These are its log files.[/]")
        found = kept
    for item in found:
        _print(item, as_json=as_json)


def _newest(client: BoxClient, wanted: dict[str, str | None], lines: int) -> list[dict[str, Any]]:
    """The newest ``lines``, in the order in which they came."""
    pages: list[list[dict[str, Any]]] = []
    before: int | None = None
    left = lines
    while left > 0:
        page = client.get(_address("/api/admin/logs", wanted, before=before, limit=min(left, _PAGE)))
        pages.append(page["items"])
        left -= len(page["items"])
        before = page["next"]
        if before is None:
            break
    return [item for page in reversed(pages) for item in page]


def _follow(client: BoxClient, wanted: dict[str, str | None], lines: int, *, as_json: bool) -> None:
    address = _address("/api/admin/logs/events", wanted, tail=min(lines, _PAGE))
    try:
        for name, told in client.events(address):
            if name == "gap":
                stderr().print(f"[dim]{told['missed']} lines were lost: they came too quickly.[/]")
            else:
                _print(told, as_json=as_json)
    except KeyboardInterrupt:
        return


def _address(path: str, wanted: dict[str, str | None], **more: int | None) -> str:
    from urllib.parse import urlencode

    given = {name: str(value) for name, value in {**wanted, **more}.items() if value is not None}
    return f"{path}?{urlencode(given)}"


def _from_files(wanted: dict[str, str | None], lines: int) -> list[dict[str, Any]] | None:
    """The same from the log files of this user's box; None where there are none."""
    from collections import deque

    from appliance.log_file import log_folder, read_lines
    from appliance.settings import load_settings

    folder = log_folder(load_settings().state_dir)
    try:
        if not folder.is_dir():
            return None
        found: deque[LogItem] = deque(_read(read_lines(folder), _filter(wanted)), maxlen=lines)
    except OSError:
        return None
    return [json.loads(item.model_dump_json()) for item in found]


def _filter(wanted: dict[str, str | None]) -> LogFilter:
    import logging

    from appliance.log_ring import LogFilter

    since = wanted["since"]
    return LogFilter(
        level=logging.getLevelNamesMapping()[(wanted["level"] or "debug").upper()],
        part=wanted["part"],
        text=wanted["text"],
        request_id=wanted["request_id"],
        since=None if since is None else datetime.fromisoformat(since),
    )


def _read(texts: Iterator[str], wanted: LogFilter) -> Iterator[LogItem]:
    import logging

    from appliance.api.admin.logs import to_item
    from appliance.log_ring import LogEntry

    for number, text in enumerate(texts, start=1):
        try:
            fields = json.loads(text)
            at = datetime.fromisoformat(fields["timestamp"])
            level = logging.getLevelNamesMapping()[fields["level"].upper()]
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # a line that was cut when the power went
        entry = LogEntry(number, at, level, str(fields.get("logger", "")), text)
        if wanted.takes(entry):
            yield to_item(entry)


def _print(item: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(item, ensure_ascii=False))
        return
    stdout().print(shown(item))


def shown(item: dict[str, Any]) -> str:
    """``18:02:11 warning  jobs      job_interrupted  job=job_1 kind=pull`` with markup; exceptions on lines below."""
    at = datetime.fromisoformat(item["at"]).astimezone()
    fields = dict(item["fields"])
    trace = fields.pop("exception", None)
    values = "".join(f" [dim]{escape(name)}=[/]{escape(_value(value))}" for name, value in fields.items())
    request = "" if item["request_id"] is None else f" [dim]{escape(item['request_id'])}[/]"
    style = _STYLES.get(item["level"])
    level = f"{item['level']:<8}" if style is None else f"[{style}]{item['level']:<8}[/]"
    said = escape(_plain(item["event"]))
    line = f"[dim]{at:%m-%d %H:%M:%S}[/] {level} {escape(item['part']):<10} {said}{values}{request}"
    if trace is None:
        return line
    return line + "".join(f"\n    {escape(_plain(one))}" for one in str(trace).splitlines())


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return _plain(f'"{text}"' if " " in text and isinstance(value, str) else text)


def _plain(text: str) -> str:
    """What came from outside must not move the terminal's cursor."""
    return "".join(char if char.isprintable() else " " for char in text)


def _since(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        if text[-1:] in _UNITS_S and text[:-1].isdecimal():
            return (datetime.now(UTC) - timedelta(seconds=int(text[:-1]) * _UNITS_S[text[-1]])).isoformat()
        return datetime.fromisoformat(text).astimezone(UTC).isoformat()
    except (ValueError, OverflowError) as error:
        raise BadMoment(text=text) from error
