"""All commands of ``r1box``. Each imports what it needs when it runs: ``r1box --help`` must not wait for FastAPI."""

from __future__ import annotations

import os
from importlib.metadata import version
from typing import Annotated

import typer

from appliance.cli import (
    alerts,
    audit,
    backup,
    bundle,
    cache,
    chat,
    cluster,
    detect,
    doctor,
    factory_reset,
    issues,
    jobs,
    keys,
    logs,
    models,
    models_live,
    models_pull,
    models_requantize,
    network,
    plan,
    rescue,
    serve,
    settings,
    status,
    tls,
    usage,
    users,
)

app = typer.Typer(
    name="r1box",
    help="R1 Box: finds the cards of this machine, loads the DeepSeek-R1 that fits, and serves chat to the network.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("serve")(serve.serve)
app.command("detect")(detect.detect_command)
app.add_typer(doctor.app, name="doctor")
app.command("plan")(plan.plan_command)
app.command("chat")(chat.chat_command)
app.command("status")(status.status_command)
app.command("top")(status.top_command)
app.command("issues")(issues.issues_command)
app.command("jobs")(jobs.jobs_command)
app.command("logs")(logs.logs_command)
models_live.register(models.app)
models_pull.register(models.app)
models_requantize.register(models.app)
app.add_typer(models.app, name="models")
app.add_typer(bundle.app, name="bundle")
app.add_typer(keys.app, name="keys")
app.add_typer(users.app, name="users")
app.add_typer(alerts.app, name="alerts")
app.add_typer(settings.app, name="settings")
app.add_typer(network.app, name="network")
app.add_typer(tls.app, name="tls")
app.add_typer(cache.app, name="cache")
app.add_typer(backup.app, name="backup")
app.add_typer(rescue.app, name="rescue")
app.command("factory-reset")(factory_reset.factory_reset_command)
app.add_typer(cluster.app, name="cluster")
app.command("usage")(usage.usage_command)
app.add_typer(audit.app, name="audit")


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"r1box {version('r1box')}")
        raise typer.Exit


@app.callback()
def _root(
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", callback=_print_version, is_eager=True)
    ] = False,
    state_dir: Annotated[
        str | None, typer.Option(help="State folder, over R1BOX_STATE_DIR and the settings file.", show_default=False)
    ] = None,
    models_dir: Annotated[
        str | None, typer.Option(help="Model store, over R1BOX_MODELS_DIR and the settings file.", show_default=False)
    ] = None,
) -> None:
    # Flags of every command; the settings read them where all of them come together.
    for name, value in (("R1BOX_STATE_DIR", state_dir), ("R1BOX_MODELS_DIR", models_dir)):
        if value is not None:
            os.environ[name] = value
