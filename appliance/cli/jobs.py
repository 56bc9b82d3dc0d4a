"""``r1box jobs``: long work of the running box, through its API."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from appliance.cli.box_client import BoxClient, Key, Url
from appliance.cli.output import print_json, size, stdout

if TYPE_CHECKING:
    from rich.table import Table

ENDED = frozenset({"succeeded", "failed", "cancelled", "interrupted"})
WATCH_EVERY_S = 1.0
_SHOWN = 20


def jobs_command(
    cancel: Annotated[str | None, typer.Option(metavar="JOB", help="Cancel this job first.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show progress until nothing goes on any more.")] = False,
    url: Url = None,
    key: Key = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; with --watch a line for each look.")] = False,
) -> None:
    """Show downloads, imports, checks and loads of the running box: how far they are and how they ended."""
    client = BoxClient(url, key)
    if cancel is not None:
        client.delete(f"/api/admin/jobs/{cancel}")

    def read() -> dict[str, Any]:
        found: dict[str, Any] = client.get(f"/api/admin/jobs?limit={_SHOWN}")
        return found

    if watch:
        _watch(read, as_json=as_json)
        return
    found = read()
    if as_json:
        print_json({"schema": 1, **found})
    elif found["jobs"]:
        stdout().print(table(found["jobs"], datetime.now(UTC)))
    else:
        typer.echo("There are no jobs.")


def _watch(read: Callable[[], dict[str, Any]], *, as_json: bool) -> None:
    import json

    from rich.live import Live

    if as_json:
        while True:
            found = read()
            typer.echo(json.dumps({"schema": 1, **found}))
            if _is_over(found["jobs"]):
                return
            time.sleep(WATCH_EVERY_S)
    with Live(console=stdout(), auto_refresh=False) as live:
        while True:
            jobs = read()["jobs"]
            live.update(table(jobs, datetime.now(UTC)), refresh=True)
            if _is_over(jobs):
                return
            time.sleep(WATCH_EVERY_S)


def _is_over(jobs: list[dict[str, Any]]) -> bool:
    return all(job["state"] in ENDED for job in jobs)


def table(jobs: list[dict[str, Any]], now: datetime) -> Table:
    """One row for each job, the newest first."""
    from rich.table import Table

    made = Table("Job", "What", "State", "Progress", "By", "When", box=None, header_style="bold")
    for job in jobs:
        made.add_row(*(escape(cell) for cell in cells(job, now)))
    return made


def cells(job: dict[str, Any], now: datetime) -> list[str]:
    """The texts of a job's row."""
    request = job["request"]
    subject = (
        request.get("target") or request.get("model") or request.get("path") or ", ".join(request.get("paths", ()))
    )
    minutes = int((now - datetime.fromisoformat(job["created_at"])).total_seconds() // 60)
    when = f"{max(minutes, 0)} min ago" if minutes < 60 else f"{minutes // 60} h ago"
    if minutes >= 48 * 60:
        when = f"{minutes // 1440} days ago"
    return [job["id"], f"{job['kind']} {subject or ''}".rstrip(), job["state"], progress(job), job["created_by"], when]


def progress(job: dict[str, Any]) -> str:
    """``62 %, 12.1 GiB of 19.5 GiB, 98 MiB/s, 3 min left``; of a job that failed, why."""
    if job["error"] is not None:
        return str(job["error"]["message"])
    told = job["progress"]
    parts = [] if told["fraction"] is None else [f"{told['fraction']:.0%}".replace("%", " %")]
    if told["total_bytes"]:
        parts.append(f"{size(told['done_bytes'])} of {size(told['total_bytes'])}")
    if told["bytes_per_s"]:
        parts.append(f"{size(int(told['bytes_per_s']))}/s")
    if told["eta_s"] is not None:
        left_s = int(told["eta_s"])
        parts.append(f"{left_s} s left" if left_s < 120 else f"{left_s // 60} min left")
    if told["phase"] and job["state"] not in ENDED:
        parts.append(told["phase"])
    return ", ".join(parts) or "-"
