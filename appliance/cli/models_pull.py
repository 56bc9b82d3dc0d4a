"""``r1box models pull``: a model from a hub into the store, or a sheet of what to fetch elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from appliance.cli.accounts import noted
from appliance.cli.output import print_json, size, stderr, stdout

if TYPE_CHECKING:
    from appliance.settings import Settings
    from models.download import Choice, Report
    from models.download_select import Request
    from models.download_sheet import Sheet
    from models.hubs import Hub
    from models.importer import ImportResult
    from models.model_store import ModelStore
    from models.types import Catalogue, PlanResult

_RATE = re.compile(r"([0-9]+(?:\.[0-9]+)?)([kKmMgG]?)(?:i?[bB])?(?:/s)?")
_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_LOWEST_RATE = 1024


class HubChoice(StrEnum):
    """``--from``."""

    AUTO = "auto"
    HUGGINGFACE = "huggingface"
    MODELSCOPE = "modelscope"


class FormatChoice(StrEnum):
    """``--format``."""

    GGUF = "gguf"
    SAFETENSORS = "safetensors"


def register(app: typer.Typer) -> None:
    """Adds ``pull`` to the commands of ``r1box models``."""
    app.command("pull")(pull_command)


def pull_command(
    target: Annotated[
        str,
        typer.Argument(
            metavar="VARIANT[:QUANT] | OWNER/REPO[@REVISION][:FILE]",
            help="What to get: qwen-32b:Q4_K_M, qwen-32b (the best form that fits here), auto (the best R1 that fits), "
            "or any repository.",
        ),
    ],
    hub: Annotated[
        HubChoice, typer.Option("--from", help="Which hub; auto asks them in the order of the settings.")
    ] = HubChoice.AUTO,
    form: Annotated[
        FormatChoice, typer.Option("--format", help="gguf for llama.cpp; safetensors for vLLM, vLLM-Ascend, MindIE.")
    ] = FormatChoice.GGUF,
    revision: Annotated[
        str | None, typer.Option(help="Commit, tag or branch of a repository. Default: its main branch, as it is now.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name to keep it under. Default: the files' name.")] = None,
    limit_rate: Annotated[
        str | None, typer.Option(metavar="RATE", help="Most bytes per second: 500k, 20M. Over the settings.")
    ] = None,
    accept_changed: Annotated[
        bool,
        typer.Option("--accept-changed", help="Take a file that the hub replaced since catalogue or box knew it."),
    ] = False,
    print_files: Annotated[
        bool,
        typer.Option("--print-files", help="Fetch nothing: print addresses, sizes, sha256 and commands to fetch them."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Download a model, check it and put it into the store. Started again after an interruption, it goes on."""
    from appliance.cli.models import open_catalogue
    from appliance.settings import load_settings
    from models.download_select import make_request
    from models.store_types import ModelFormat

    settings = load_settings()
    catalogue = open_catalogue()
    hubs = _hubs(settings, limit_rate)
    asked = [one for one in hubs if hub is HubChoice.AUTO or one.access.name.value == hub.value]
    if not asked:
        raise typer.BadParameter(
            f"the setting hub_order ({settings.hub_order}) leaves {hub.value} out", param_hint="--from"
        )
    request = make_request(catalogue, target, ModelFormat(form.value), revision, lambda: _plans(catalogue, settings))
    for note in request.notes:
        stderr().print(escape(note))
    if print_files:
        _print_sheet(_sheet(asked, request, accept_changed=accept_changed), as_json=as_json)
        return
    _pull(settings, catalogue, request, asked, hubs, name, as_json=as_json, accept_changed=accept_changed)


def parse_rate(text: str) -> int:
    """``20M`` -> 20971520 bytes per second. Raises ``typer.BadParameter``."""
    match = _RATE.fullmatch(text.strip())
    rate = float(match[1]) * _UNITS[match[2].lower()] if match else 0.0
    if rate < _LOWEST_RATE:
        raise typer.BadParameter(f"'{text}' is no rate of at least 1k bytes per second, such as 500k or 20M")
    return int(rate)


# --- what there is ---------------------------------------------------------------------------------------------------


def _hubs(settings: Settings, limit_rate: str | None) -> list[Hub]:
    from appliance.jobs.hubs import hubs_of

    return hubs_of(settings, None if limit_rate is None else parse_rate(limit_rate))


def _plans(catalogue: Catalogue, settings: Settings) -> PlanResult:
    """What fits this machine, as ``r1box plan`` finds it."""
    from appliance.cli.models import open_store
    from appliance.jobs.hubs import plans_of
    from drivers.probe import default_probes, detect

    return plans_of(settings, catalogue, open_store(), detect(default_probes()))


# --- pulling ---------------------------------------------------------------------------------------------------------


def _pull(
    settings: Settings,
    catalogue: Catalogue,
    request: Request,
    asked: list[Hub],
    hubs: list[Hub],
    name: str | None,
    *,
    as_json: bool,
    accept_changed: bool,
) -> None:
    from appliance.cli.models import check_chat_template, open_store
    from models.download import PullContext, choose, pull

    choice = choose(asked, request, accept_changed=accept_changed)
    store = open_store()
    for warning in choice.warnings:
        stderr().print(f"[yellow]Warning:[/] {escape(warning)}")
    if not as_json:
        stderr().print(escape(_headline(choice)))
    with transfer_report(quiet=as_json) as report:
        context = PullContext(catalogue, others=hubs, report=report, check_template=check_chat_template)
        result = pull(store, choice, context, name=name)
    if _has_no_real_default(store):
        store.set_default(result.model.id)
    listing = choice.listing
    source = {"hub": listing.hub.value, "repository": listing.repository, "revision": listing.revision}
    noted("model.pull", result.model.id, **source, sha256=result.model.sha256, is_new=result.is_new)
    _print_result(choice, result, is_default=store.default_id() == result.model.id, as_json=as_json)


def _has_no_real_default(store: ModelStore) -> bool:
    """The demo model makes way for the first real one, as with an import."""
    from appliance.demo import is_demo

    default = store.default_id()
    return default is None or is_demo(store.get(default))


def _headline(choice: Choice) -> str:
    listing, count = choice.listing, len(choice.files)
    files = choice.files[0].name if count == 1 else f"{count} files"
    return (
        f"Getting {files} ({size(choice.size_bytes)}) of {listing.repository} at {listing.revision[:12]} "
        f"from {choice.hub.access.host}"
    )


def _print_result(choice: Choice, result: ImportResult, *, is_default: bool, as_json: bool) -> None:
    model, listing = result.model, choice.listing
    if as_json:
        print_json(
            {
                "schema": 1,
                "id": model.id,
                "name": model.name,
                "quantization": model.quantization,
                "format": model.format.value,
                "size_bytes": model.size_bytes,
                "sha256": model.sha256,
                "files": [{"name": f.name, "size_bytes": f.size_bytes, "sha256": f.sha256} for f in model.files],
                "variant": model.variant,
                "recognised_by": model.recognised_by,
                "hub": listing.hub.value,
                "repository": listing.repository,
                "revision": listing.revision,
                "warnings": [*choice.warnings, *model.warnings],
                "is_new": result.is_new,
                "default": is_default,
            }
        )
        return
    console = stdout()
    console.print(
        f"{'Installed' if result.is_new else 'Already there'}: [bold]{model.id}[/] ({size(model.size_bytes)})"
    )
    if model.variant is not None:
        how = "by its sha256" if model.recognised_by == "sha256" else "by its shape and name"
        console.print(f"It is {model.variant}, recognised {how}.")
    for warning in model.warnings:
        stderr().print(f"[yellow]Warning:[/] {escape(warning)}")
    if model.format.value == FormatChoice.GGUF.value:
        console.print("Serve it with: r1box serve" + ("" if is_default else f" --model {model.id}"))


# --- the sheet -------------------------------------------------------------------------------------------------------


def _sheet(hubs: list[Hub], request: Request, *, accept_changed: bool) -> Sheet:
    """What a hub lists; without a way to one, what the catalogue knows."""
    from models.download import choose
    from models.download_errors import HubAnswerUnusable, HubBusy, HubUnreachable
    from models.download_sheet import known_sheet, sheet_of
    from models.hubs import DEFAULT_BRANCHES

    try:
        choice = choose(hubs, request, accept_changed=accept_changed)
    except (HubUnreachable, HubBusy, HubAnswerUnusable) as error:
        sheet = known_sheet(request, {one.access.name: one for one in hubs}, DEFAULT_BRANCHES)
        if sheet is None:
            raise
        stderr().print(f"[yellow]![/] {escape(error.message)} What follows is from the catalogue.")
        return sheet
    return sheet_of(choice.hub, choice.listing, choice.files)


def _print_sheet(sheet: Sheet, *, as_json: bool) -> None:
    from models.download_sheet import size_text

    if as_json:
        print_json(_sheet_json(sheet))
        return
    console = stdout()
    console.print(f"{escape(sheet.repository)} at {sheet.revision}, {size_text(sheet)}")
    for line in sheet.lines():
        console.print(f"  {escape(line)}")
    commands = sheet.commands()
    if commands:
        console.print("\nWhere there is a network, one of:")
        for command in commands:
            console.print(f"  {escape(command)}")
        console.print("\nThen here: r1box models import PATH")


def _sheet_json(sheet: Sheet) -> dict[str, Any]:
    return {
        "schema": 1,
        "repository": sheet.repository,
        "revision": sheet.revision,
        "page_url": sheet.page_url,
        "from_hub": sheet.from_hub,
        "files": [
            {
                "path": row.path,
                "url": row.url,
                "size_bytes": row.size_bytes,
                "size_is_exact": row.is_exact,
                "sha256": row.sha256,
            }
            for row in sheet.rows
        ],
        "commands": sheet.commands(),
    }


# --- progress --------------------------------------------------------------------------------------------------------


class _Bars:
    """Two bars: what arrives, and the reading of what arrived."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._transfer = progress.add_task("Downloading", total=None)
        self._check = progress.add_task("Checking", total=None, visible=False)

    def transferring(self, done_bytes: int, total_bytes: int) -> None:
        self._progress.update(self._transfer, completed=done_bytes, total=total_bytes)

    def checking(self, done_bytes: int, total_bytes: int) -> None:
        self._progress.update(self._check, completed=done_bytes, total=total_bytes, visible=done_bytes < total_bytes)


@contextmanager
def transfer_report(*, quiet: bool = False, console: Console | None = None) -> Iterator[Report]:
    """Bars with rate and time left on a terminal's stderr; nothing where there is none, or when ``quiet``."""
    from models.download import Silence

    console = stderr() if console is None else console
    if quiet or not console.is_terminal:
        yield Silence()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        yield _Bars(progress)
