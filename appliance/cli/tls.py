"""``r1box tls``: the certificate of this box and the authority behind it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from appliance.cli.output import print_json, stdout

if TYPE_CHECKING:
    from appliance.certificates import ServerCertificate
    from appliance.settings import Settings

app = typer.Typer(help="HTTPS: show the certificate, hand out the authority, start over.", no_args_is_help=True)


@app.command("show")
def show(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """What the server shows, with the fingerprints to compare, and how people's computers come to trust it."""
    from appliance.security.tls import facts

    settings, certificate = _certificate()
    if settings.tls == "off":
        if as_json:
            print_json({"schema": 1, "tls": "off", "certificate": None, "authority": None})
        else:
            typer.echo("HTTPS is off (setting tls). Switch it on with: r1box serve --tls local")
        return
    files = certificate.files
    server = facts(files.certificate)
    authority = facts(files.authority) if files.authority is not None else None
    if as_json:
        rows = {
            name: None
            if found is None
            else {
                "path": str(path),
                "names": list(found.names),
                "issuer": found.issuer,
                "not_before": found.not_before.isoformat(),
                "not_after": found.not_after.isoformat(),
                "sha256": found.fingerprint,
            }
            for name, found, path in (
                ("certificate", server, files.certificate),
                ("authority", authority, files.authority),
            )
        }
        print_json({"schema": 1, "tls": settings.tls, **rows})
        return
    console = stdout()
    for title, found, path in (
        ("Certificate of the server", server, files.certificate),
        ("Authority of the box", authority, files.authority),
    ):
        if found is None:
            continue
        console.print(f"[bold]{title}[/]  {path}")
        if found.names:
            console.print(f"  Names        {', '.join(found.names)}", markup=False)
        console.print(f"  Ends         {found.not_after:%Y-%m-%d}")
        console.print(f"  SHA-256      {found.fingerprint}\n")
    if authority is not None:
        console.print("To trust the box, install its authority once on each computer:")
        console.print(f"  from the box          https://ADDRESS:{settings.port}/authority.crt")
        console.print("  or as a file          r1box tls export authority.crt")
        console.print("Compare its SHA-256 with the one above before you trust it.")


@app.command("export")
def export(path: Annotated[str, typer.Argument(help="File to write; - is standard output.")]) -> None:
    """Write the authority (PEM, no secret) for the computers that shall trust the box."""
    from appliance.security.errors import CertificateUnusable

    _, certificate = _certificate()
    pem = certificate.authority()
    if pem is None:
        raise CertificateUnusable(path=str(certificate.files.certificate), reason="the box has no authority of its own")
    if path == "-":
        sys.stdout.write(pem.decode("ascii"))
        return
    Path(path).write_bytes(pem)
    typer.echo(f"Written to {path}.")


@app.command("new-authority")
def new_authority(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Give up the authority; the next start makes another. Every computer that trusts the box has to trust it anew."""
    from appliance.security.tls import LocalAuthority

    settings, _ = _certificate()
    if not yes:
        typer.confirm("Every computer has to install the new authority. Go on?", abort=True)
    LocalAuthority(settings.state_dir / "tls").forget()
    typer.echo("Done. The next start of r1box serve makes a new authority.")


def _certificate() -> tuple[Settings, ServerCertificate]:
    from appliance.certificates import ServerCertificate
    from appliance.settings import load_settings

    settings = load_settings()
    if settings.tls == "off" and (settings.state_dir / "tls" / "server.crt").is_file():
        # Served with --tls local, which this command does not see.
        settings = settings.model_copy(update={"tls": "local"})
    return settings, ServerCertificate(settings)
