"""``r1box bundle trust`` and ``r1box bundle keygen``: whose bundles this box takes, and keys to sign with."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from appliance.cli.accounts import noted
from appliance.cli.output import print_json, stderr, stdout

if TYPE_CHECKING:
    from models.bundle.secret_key import SecretKey
    from models.bundle.trust import TrustedKeys

app = typer.Typer(help="Keys whose bundles this box accepts.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
KeyFile = Annotated[
    Path | None, typer.Option("--sign-with", metavar="KEY", help="Secret key (minisign's format) to sign with.")
]
PasswordFile = Annotated[
    Path | None, typer.Option(help="File with the secret key's password. Without it: asked on the terminal.")
]


@app.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """Show the trusted keys."""
    keys = trusted_keys(warn=not as_json)
    folder = trusted_keys_dir()
    if as_json:
        rows = [{"id": key.id, "owner": key.owner, "key": key.base64, "file": name} for name, key in keys.keys]
        print_json({"schema": 1, "folder": str(folder), "keys": rows, "problems": list(keys.problems)})
        return
    if not keys.keys:
        typer.echo(f"No trusted keys in {folder}: no bundle is accepted. Add one with: r1box bundle trust add KEY.pub")
        return
    from rich.table import Table

    table = Table("Key", "Owner", "File", box=None, header_style="bold")
    for name, key in keys.keys:
        table.add_row(key.id, escape(key.owner), escape(name))
    stdout().print(table)
    typer.echo(f"\nThey lie in {folder}.")


@app.command("add")
def add(
    key: Annotated[str, typer.Argument(help="A minisign public key: its file, or the line that begins with RW.")],
    owner: Annotated[str | None, typer.Option(help="Whose key it is. Default: the comment in its file.")] = None,
) -> None:
    """Accept bundles that are signed with this key."""
    from models.bundle.minisign import PublicKey, parse_public_key
    from models.bundle.secret_key import read_key_text
    from models.bundle.trust import add_key
    from models.errors import printable

    is_line = key.startswith("RW") and not Path(key).exists()
    parsed = parse_public_key(key if is_line else read_key_text(Path(key)), "the key" if is_line else Path(key).name)
    if owner:
        parsed = PublicKey(parsed.key_id, parsed.raw, printable(owner).strip()[:200])
    add_key(trusted_keys_dir(), parsed)
    noted("trust.add", parsed.id, owner=parsed.owner)
    typer.echo(f"Bundles signed with {parsed.id} ({parsed.owner}) are accepted now.")


@app.command("remove")
def remove(
    key_id: Annotated[str, typer.Argument(help="Id of the key, as 'r1box bundle trust list' shows it.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Accept bundles of this key no more. Models that were imported stay."""
    from models.bundle.trust import remove_key

    if not yes:
        typer.confirm(f"Accept no more bundles signed with {key_id}?", abort=True)
    removed = remove_key(trusted_keys_dir(), key_id)
    noted("trust.remove", removed.id, owner=removed.owner)
    typer.echo(f"Bundles signed with {removed.id} ({removed.owner}) are not accepted any more.")


def keygen(
    file: Annotated[Path, typer.Argument(help="File of the secret key; the public one gets its name with .pub.")],
    owner: Annotated[str | None, typer.Option(help="Whose key it is: the public key's comment.")] = None,
    password_file: PasswordFile = None,
    no_password: Annotated[bool, typer.Option("--no-password", help="Leave the secret key open (mode 0600).")] = False,
) -> None:
    """Make a key pair to sign bundles with, in minisign's format."""
    from models.bundle.errors import BundleTargetUnusable
    from models.bundle.secret_key import generate, write_secret_key
    from models.errors import printable

    public_file = file.with_name(f"{file.stem if file.suffix == '.key' else file.name}.pub")
    if public_file.exists():
        raise BundleTargetUnusable(public_file, "the file is there already", "Give the new key another name.")
    password = None if no_password else _password(password_file, twice=True)
    if not no_password and not password:
        raise typer.BadParameter("an empty password protects nothing; --no-password leaves the key open")
    key = generate()
    public = key.public(printable(owner or "").strip()[:200] or f"minisign public key {key.id}")
    try:
        write_secret_key(file, key.text(password))
        public_file.write_text(public.text(), encoding="utf-8")
    except OSError as error:
        problem = (error.strerror or str(error)).lower()
        raise BundleTargetUnusable(
            file, problem, "Give another name for the key, in a folder that is yours."
        ) from error
    typer.echo(f"Secret key (keep it): {file}\nPublic key:           {public_file}\n  {public.base64}")
    typer.echo(f"On every box that is to take its bundles: r1box bundle trust add {public_file.name}")


def trusted_keys_dir() -> Path:
    """Folder of the trusted keys: the setting, else ``trusted-keys`` in the state folder."""
    from appliance.settings import load_settings

    settings = load_settings()
    return settings.trusted_keys_dir or settings.state_dir / "trusted-keys"


def trusted_keys(*, warn: bool = True) -> TrustedKeys:
    """The trusted keys; files in their folder that are none are told on stderr."""
    from models.bundle.trust import read_trusted_keys

    keys = read_trusted_keys(trusted_keys_dir())
    if warn:
        for problem in keys.problems:
            stderr().print(f"[yellow]Warning:[/] {escape(problem)}")
    return keys


def open_secret_key(path: Path, password_file: Path | None) -> SecretKey:
    """The secret key in ``path``, its password from the file or the terminal. Raises ``KeyFileInvalid`` or
    ``KeyPasswordWrong``."""
    from models.bundle.secret_key import is_locked, parse_secret_key, read_key_text

    text = read_key_text(path)
    password = _password(password_file) if is_locked(text, path.name) else None
    return parse_secret_key(text, path.name, password)


def _password(file: Path | None, *, twice: bool = False) -> str:
    from models.bundle.errors import KeyPasswordWrong
    from models.bundle.secret_key import read_key_text

    if file is not None:
        return read_key_text(file).rstrip("\r\n")
    if not sys.stdin.isatty():
        raise KeyPasswordWrong("(no terminal to ask on; give --password-file)")
    return str(typer.prompt("Password of the secret key", hide_input=True, confirmation_prompt=twice))
