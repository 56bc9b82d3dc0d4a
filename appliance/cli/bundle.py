"""``r1box bundle``: models carried by hand, signed, checked before they are copied."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from appliance.cli import bundle_keys
from appliance.cli.accounts import noted
from appliance.cli.bundle_keys import KeyFile, PasswordFile, open_secret_key, trusted_keys
from appliance.cli.bundle_view import describe_bundle, print_report, report_row
from appliance.cli.models import check_chat_template, open_catalogue, open_store
from appliance.cli.output import copy_progress, print_error, print_json, size, stderr, stdout

if TYPE_CHECKING:
    from models.bundle.create import BundleSource, CreatedBundle, Sticks
    from models.bundle.judge import Judgement
    from models.bundle.manifest import BundleManifest
    from models.bundle.receive import NextStick, StickRequest, UntrustedImport
    from models.hashing import Progress
    from models.importer import ImportResult
    from models.model_store import ModelStore

EXIT_NEXT_STICK = 3
"""A stick is wanted that was not given; what was copied stays, the same command goes on."""

app = typer.Typer(help="Carry models by hand: make, sign, check and import bundles.", no_args_is_help=True)
app.add_typer(bundle_keys.app, name="trust")
app.command("keygen")(bundle_keys.keygen)

Folders = Annotated[
    list[Path], typer.Argument(help="The bundle's folder, or the stick it lies on; several for several sticks.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
StickSizes = Annotated[
    list[str] | None,
    typer.Option(
        "--stick-size",
        help="Room on a stick: 58G, 3900M, 29GiB. Once: as many such sticks as needed. Several times: these sticks.",
    ),
]
Fat32 = Annotated[
    bool, typer.Option("--fat32", help="No file of 4 GiB or more, for sticks with FAT32 (found by itself on export).")
]
Name = Annotated[str | None, typer.Option(help="Name of the bundle. Default: the model's.")]


@app.command("create")
def create(
    model: Annotated[str, typer.Argument(help="Id of a stored model, or the path of a GGUF or a safetensors folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to make; with several sticks stick-N in it.")],
    sign_with: KeyFile = None,
    password_file: PasswordFile = None,
    stick_size: StickSizes = None,
    fat32: Fat32 = False,
    name: Name = None,
    as_json: AsJson = False,
) -> None:
    """Make a bundle in a folder, to be copied to sticks by whatever means."""
    from models.bundle.create import Sticks
    from models.bundle.errors import BundleTargetTooSmall
    from models.bundle.layout import stick_space

    filesystem, room = _medium(output)
    sizes = [parse_size(text) for text in stick_size or ()]
    spaces = tuple(stick_space(one, filesystem, fat32=fat32) for one in sizes) or (
        stick_space(None, filesystem, fat32=fat32),
    )

    def folder_of(number: int, manifest: BundleManifest) -> Path:
        if number == 1 and manifest.size_bytes > room:
            raise BundleTargetTooSmall(manifest.size_bytes, room, 1)
        return output if len(manifest.sticks) == 1 and not sizes else output / f"stick-{number}"

    made = _create(
        _source(model),
        Sticks(spaces, folder_of, repeat_last=len(sizes) == 1),
        sign_with,
        password_file,
        name,
        quiet=as_json,
    )
    _tell_created(made, as_json=as_json)


@app.command("export")
def export(
    model_id: Annotated[str, typer.Argument(help="Id of the model, as 'r1box models list' shows it.")],
    to: Annotated[list[Path], typer.Argument(help="Folder of a stick; several for several sticks.")],
    sign_with: KeyFile = None,
    password_file: PasswordFile = None,
    stick_size: StickSizes = None,
    fat32: Fat32 = False,
    name: Name = None,
    as_json: AsJson = False,
) -> None:
    """Write a stored model to sticks as a bundle. Start it again to go on where it stopped."""
    from models.bundle.create import Sticks, source_of_model
    from models.bundle.errors import BundleTargetUnusable
    from models.bundle.layout import stick_space
    from models.store_manifest import make_id

    stored = open_store().get(model_id)
    bundle_id = make_id(name or stored.name, stored.quantization)
    spaces = []
    sizes = [parse_size(text) for text in stick_size or ()]
    for number, folder in enumerate(to):
        if not folder.is_dir():
            raise BundleTargetUnusable(folder, "there is no such folder", "Give the folder where the stick is mounted.")
        filesystem, room = _medium(folder / bundle_id)
        wanted = sizes[min(number, len(sizes) - 1)] if sizes else room
        spaces.append(stick_space(min(wanted, room), filesystem, fat32=fat32))
    more = sizes[len(to) :]
    spaces += [stick_space(one, _medium(to[-1])[0], fat32=fat32) for one in more]
    interactive = sys.stdin.isatty() and not as_json

    def folder_of(number: int, manifest: BundleManifest) -> Path:
        if number <= len(to):
            return to[number - 1] / manifest.id
        return _ask_for_empty_stick(manifest, number, to[-1]) / manifest.id

    sticks = Sticks(tuple(spaces) if interactive else tuple(spaces[: len(to)]), folder_of, repeat_last=interactive)
    made = _create(source_of_model(stored), sticks, sign_with, password_file, name, quiet=as_json)
    _tell_created(made, as_json=as_json)


@app.command("sign")
def sign(folders: Folders, sign_with: KeyFile = None, password_file: PasswordFile = None) -> None:
    """Sign a bundle that is there; all its sticks must be given."""
    from models.bundle.writing import sign_bundle

    if sign_with is None:
        raise typer.BadParameter("the secret key is missing: --sign-with KEY")
    key = open_secret_key(sign_with, password_file)
    manifest = sign_bundle(folders, key, lambda: datetime.now(UTC))
    typer.echo(f"Signed {manifest.id} with the key {key.id}.")


@app.command("verify")
def verify(folders: Folders, as_json: AsJson = False) -> None:
    """Check the signature and every byte; each bad range is named."""
    from models.bundle.verify import verify_bundle

    with copy_progress("Reading the bundle", quiet=as_json) as progress:
        report = verify_bundle(folders, trusted_keys(), progress)
    if as_json:
        print_json(report_row(report))
    else:
        print_report(report)
    if not report.is_whole or not report.signer.is_trusted:
        raise typer.Exit(1)


@app.command("inspect")
def inspect(folders: Folders, as_json: AsJson = False) -> None:
    """Show what is in a bundle, who signed it and whether it fits this machine; nothing is copied."""
    from models.bundle.folder import open_bundle

    store = open_store()
    with open_bundle(folders, trusted_keys()) as bundle:
        describe_bundle(bundle, _judge(bundle.manifest), store.free_bytes(), as_json=as_json)


@app.command("import")
def import_(
    folders: Folders,
    allow_unsigned: Annotated[
        bool, typer.Option("--allow-unsigned", help="Take it without a signature of a trusted key; this is recorded.")
    ] = False,
    anyway: Annotated[
        bool, typer.Option("--even-if-it-does-not-fit", help="Copy a model that would not run on this machine.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check a bundle and copy its model into the store. Start it again to go on where it stopped."""
    from appliance.errors import describe
    from models.bundle.errors import BundleStickMissing

    store = open_store()
    next_stick = _stick_asker(folders[-1]) if sys.stdin.isatty() and not as_json else None
    try:
        with copy_progress("Importing the bundle", quiet=as_json) as progress:
            result = take_bundle(
                store, folders, progress, allow_unsigned=allow_unsigned, anyway=anyway, next_stick=next_stick
            )
    except BundleStickMissing as error:
        print_error(describe(error))
        raise typer.Exit(EXIT_NEXT_STICK) from error
    if store.default_id() is None or default_is_demo(store):
        store.set_default(result.model.id)
    model = result.model
    folder = str(folders[0])[:1024]
    noted("bundle.import", model.id, path=folder, sha256=model.sha256, unsigned_allowed=allow_unsigned, anyway=anyway)
    if as_json:
        print_json(
            {
                "schema": 1,
                "id": model.id,
                "size_bytes": model.size_bytes,
                "sha256": model.sha256,
                "is_new": result.is_new,
                "default": store.default_id() == model.id,
                "warnings": list(model.warnings),
            }
        )
        return
    stdout().print(
        f"{'Imported' if result.is_new else 'Already there'}: [bold]{model.id}[/] ({size(model.size_bytes)})"
    )
    for warning in model.warnings:
        stderr().print(f"[yellow]Warning:[/] {escape(warning)}")
    default = store.default_id() == model.id
    stdout().print("Serve it with: r1box serve" + ("" if default else f" --model {model.id}"))


def take_bundle(
    store: ModelStore,
    folders: Sequence[Path],
    progress: Progress,
    *,
    allow_unsigned: bool = False,
    anyway: bool = False,
    next_stick: NextStick | None = None,
) -> ImportResult:
    """Imports a bundle by the rules of this box: its trusted keys, its cards, its log. Raises as ``import_bundle``."""
    from models.bundle.receive import ImportOptions, import_bundle

    options = ImportOptions(
        allow_unsigned=allow_unsigned,
        audit=_record_untrusted,
        judge=None if anyway else _judge,
        next_stick=next_stick,
        check_template=check_chat_template,
        catalogue=open_catalogue(),
    )
    return import_bundle(store, folders, trusted_keys(), progress, options)


def default_is_demo(store: ModelStore) -> bool:
    """Whether the demo model is the default: a real one takes its place."""
    from appliance.demo import is_demo

    default = store.default_id()
    return default is not None and is_demo(store.get(default))


def parse_size(text: str) -> int:
    """``58G`` -> 58,000,000,000 as on a stick's label; ``29GiB`` in binary units. Raises ``typer.BadParameter``."""
    units = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
    cleaned = text.strip().upper()
    binary = cleaned.endswith("IB")
    cleaned = cleaned.removesuffix("IB" if binary else "B")
    number, unit = cleaned.rstrip("KMGT"), cleaned[len(cleaned.rstrip("KMGT")) :]
    factor = units.get(unit, 0)
    if binary:
        factor = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}.get(unit, 0)
    try:
        value = int(float(number) * factor)
    except (ValueError, OverflowError):
        value = 0
    if value <= 0:
        raise typer.BadParameter(f"'{text}' is no size; write it as 58G, 3900M or 29GiB")
    return value


def _source(model: str) -> BundleSource:
    """A path when there is one, else a stored model."""
    from models.bundle.create import source_of_model, source_of_path

    path = Path(model)
    if path.exists():
        return source_of_path(path)
    return source_of_model(open_store().get(model))


def _create(
    source: BundleSource, sticks: Sticks, sign_with: Path | None, password_file: Path | None, name: str | None, *,
    quiet: bool,
) -> CreatedBundle:  # fmt: skip
    from models.bundle.create import CreateOptions, create_bundle

    key = None if sign_with is None else open_secret_key(sign_with, password_file)
    options = CreateOptions(name=name, key=key, check_template=check_chat_template, catalogue=open_catalogue())
    with copy_progress("Hashing and writing", quiet=quiet) as progress:
        return create_bundle(source, sticks, progress, options)


def _tell_created(made: CreatedBundle, *, as_json: bool) -> None:
    manifest = made.manifest
    if as_json:
        folders = [str(folder) for folder in made.folders]
        print_json({"schema": 1, "id": manifest.id, "signer": manifest.signer, "folders": folders})
        return
    console = stdout()
    signed = f"signed with {manifest.signer}" if manifest.signer else "[yellow]not signed[/]"
    console.print(f"Made [bold]{manifest.id}[/] ({size(manifest.size_bytes)}), {signed}:")
    for stick, folder in zip(manifest.sticks, made.folders, strict=True):
        console.print(f"  {escape(str(folder))}  {size(stick.size_bytes)}")
    if manifest.signer is None:
        console.print("Sign it with: r1box bundle sign FOLDER --sign-with KEY")
    console.print("Check what has arrived with: r1box bundle verify FOLDER")


def _medium(folder: Path) -> tuple[str | None, int]:
    from appliance.jobs.folders import medium_of

    return medium_of(folder)


def _ask_for_empty_stick(manifest: BundleManifest, number: int, last: Path) -> Path:
    while True:
        stderr().print(f"Put in {escape(manifest.stick_name(number))} to be written.")
        answer = Path(typer.prompt("Its folder", default=str(last)))
        if answer.is_dir():
            return answer
        stderr().print(f"{escape(str(answer))} is no folder.")


def _stick_asker(last: Path) -> NextStick:
    def ask(request: StickRequest) -> Path | None:
        console = stderr()
        if request.problem:
            console.print(f"[yellow]{escape(request.problem)}.[/]")
        console.print(f"Put in {escape(request.name)}: {size(request.missing_bytes)} are wanted from it.")
        answer = str(typer.prompt("Its folder (- to stop here and go on later)", default=str(last)))
        return None if answer.strip() == "-" else Path(answer)

    return ask


def _judge(manifest: BundleManifest) -> Judgement:
    from appliance.model_setup import engine_vendors
    from appliance.settings import load_settings
    from drivers.probe import default_probes, detect
    from models.bundle.judge import judge

    settings = load_settings()
    vendors = engine_vendors(settings.backends_dir)
    snapshot = detect(default_probes())
    return judge(manifest, snapshot, usable_vendors=vendors, allow_cpu=settings.allow_cpu_fallback)


def _record_untrusted(record: UntrustedImport) -> None:
    """Who took what nobody vouches for: a line in the log, a row of the audit log."""
    import structlog

    from appliance.logs import configure_logging

    configure_logging("warning")
    structlog.get_logger(__name__).warning(
        "bundle_import_untrusted",
        user=_user(),
        bundle=record.bundle,
        path=record.path,
        manifest_sha256=record.manifest_sha256,
        content_sha256=record.content_sha256,
        key_id=record.key_id,
    )
    details = {"path": record.path[:1024], "content_sha256": record.content_sha256, "key": record.key_id}
    noted("bundle.import_untrusted", record.bundle, **details)


def _user() -> str:
    import os
    import pwd

    def name_of(uid: int) -> str:
        try:
            return pwd.getpwuid(uid).pw_name
        except KeyError:
            return str(uid)

    behind = os.environ.get("SUDO_USER")
    return f"{name_of(os.getuid())} (sudo by {behind})" if behind else name_of(os.getuid())
