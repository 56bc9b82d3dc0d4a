"""Looks at a box whose daemon may be dead: asks systemd, the socket, the database, the disks, the log. Changes nothing,
and every question has a time limit or a bound."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from appliance.backup.database import is_known, quick_check, revision_of
from appliance.backup.folder import Listed
from appliance.backup.pending import waits
from appliance.backup.service import Backups
from appliance.errors import AppError
from appliance.log_file import log_folder, read_lines
from appliance.logs import redact_text
from appliance.rescue.console import on_the_box
from appliance.rescue.safe_mode import is_safe_mode
from appliance.rescue.systemd import Runner, is_there, journal, read_unit, run_tool
from appliance.schemas.backups import BackupItem
from appliance.schemas.rescue import DaemonWord, RescueDisk, RescueFinding, RescueReport, RescueUnit
from appliance.settings import Settings

LOG_LINES = 60
FULL_BYTES = 64 * 1024 * 1024
"""SQLite, the log and a start need some room; less than this counts as full."""
_ANSWER_S = 3.0
ACTS = ("restart", "log", "safe_mode", "restore", "rollback", "password", "bundle")


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What is asked beside the files: ``run`` runs tools, ``ask`` says whether the daemon answers, ``folders`` are
    mounted sticks, ``has_update`` whether this box has system slots."""

    settings: Settings
    settings_problem: AppError | None
    backups: Backups
    folders: Sequence[Path]
    socket: Path
    has_update: bool = False
    run: Runner = run_tool
    local: Callable[[], str | None] = on_the_box


def look(around: Surroundings) -> RescueReport:
    """What is so. Never raises for a broken box."""
    settings = around.settings
    unit = read_unit(around.run)
    daemon = ask_daemon(around.socket)
    database, database_finding = _database(settings.state_dir, answers=daemon == "answers")
    disks = _disks(settings)
    log, log_from = last_lines(settings.state_dir, LOG_LINES, around.run)
    backups = _listed(around)
    findings = [*_daemon(daemon, unit), *database_finding, *_full(disks), *_rest(around, settings)]
    order = {"error": 0, "warning": 1, "info": 2}
    acts, why_not = _acts(around, unit, backups, database)
    return RescueReport(
        daemon=daemon,
        unit=unit,
        state_dir=str(settings.state_dir),
        database=database,
        disks=disks,
        # The cause before what follows from it: a damaged database is why the daemon is down.
        findings=tuple(sorted(findings, key=lambda one: (order[one.severity], one.code in _CONSEQUENCES))),
        log=log,
        log_from=log_from,
        backups=backups,
        has_passphrase=around.backups.has_passphrase,
        users=_administrators(settings.state_dir) if database is None else (),
        folders=tuple(str(one) for one in around.folders),
        safe_mode=is_safe_mode(settings.state_dir),
        acts=acts,
        why_not=why_not,
    )


_CONSEQUENCES = ("daemon_down", "unit_failed")


def ask_daemon(path: Path) -> DaemonWord:
    """Whether something answers HTTP on the admin socket within some seconds."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(_ANSWER_S)
        try:
            client.connect(str(path))
        except (TimeoutError, BlockingIOError):
            # Nobody has taken a connection for so long that the queue is full (EAGAIN, unix(7)).
            return "hangs"
        except OSError:
            return "down"
        try:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: r1box\r\nConnection: close\r\n\r\n")
            return "answers" if client.recv(12).startswith(b"HTTP/1.1") else "hangs"
        except OSError:
            return "hangs"


def last_lines(state_dir: Path, count: int, run_it: Runner = run_tool) -> tuple[tuple[str, ...], str | None]:
    """The log's end, without secrets, and whence: the journal, else the files in the state folder."""
    found = journal(count, run_it)
    if found is not None:
        return tuple(redact_text(line) for line in found), "journal"
    lines: deque[str] = deque(maxlen=count)
    with suppress(OSError):
        lines.extend(line.rstrip("\n") for line in read_lines(log_folder(state_dir)))
    return tuple(redact_text(line) for line in lines), str(log_folder(state_dir)) if lines else None


def _database(state_dir: Path, *, answers: bool) -> tuple[str | None, list[RescueFinding]]:
    path = state_dir / "r1box.db"
    acts = ("restore", "bundle")
    try:
        there = path.is_file()
    except OSError as error:
        message = f"The state folder {state_dir} cannot be read: {_reason(error)}."
        hint = "Run the console as root, or as the service's user."
        return message, [RescueFinding(code="state_unreadable", severity="error", message=message, hint=hint)]
    if not there:
        if answers:
            return None, []
        message = f"There is no database in {state_dir}."
        hint = "A new box makes one when it starts. If this one is not new, restore a backup."
        return message, [
            RescueFinding(code="database_missing", severity="warning", message=message, hint=hint, acts=acts)
        ]
    try:
        problem = quick_check(path)
        revision = revision_of(path) if problem is None else None
    except (sqlite3.DatabaseError, OSError) as error:
        problem, revision = str(error), None
    if problem is not None:
        message = f"The database {path} is damaged: {problem}"
        hint = "Restore the newest backup. Without one, move the file away: the box begins empty, models stay."
        return problem, [
            RescueFinding(code="database_damaged", severity="error", message=message, hint=hint, acts=acts)
        ]
    if not is_known(revision):
        message = f"The database {path} is of a newer R1 Box (revision {revision})."
        hint = "Start the newer version again, or restore the backup from before the update."
        finding = RescueFinding(
            code="database_too_new", severity="error", message=message, hint=hint, acts=("restore", "rollback")
        )
        return message, [finding]
    return None, []


def _daemon(daemon: DaemonWord, unit: RescueUnit) -> list[RescueFinding]:
    if daemon == "answers":
        return []
    if daemon == "hangs":
        message = "The daemon took the question and gave no answer: it hangs, or the machine is overloaded."
        hint = "Give it a minute; then restart it. Answers that are being written end."
        return [
            RescueFinding(code="daemon_hangs", severity="error", message=message, hint=hint, acts=("restart", "log"))
        ]
    if unit.active == "failed":
        times = "" if not unit.restarts else f" after {unit.restarts} restarts"
        message = (
            f"systemd gave {unit.name} up{times}: {unit.result or 'failed'}, exit status {unit.exit_status or '?'}."
        )
        hint = "The last lines of the log say why. Restart it when that is mended."
        acts = ("restart", "safe_mode", "log")
        return [RescueFinding(code="unit_failed", severity="error", message=message, hint=hint, acts=acts)]
    told = "" if unit.active is None else f" systemd says {unit.active} ({unit.sub})."
    hint = "Start it; in safe mode it comes up without a model."
    return [
        RescueFinding(
            code="daemon_down",
            severity="error",
            message=f"The daemon is not running.{told}",
            hint=hint,
            acts=("restart", "safe_mode", "log"),
        )
    ]


def _disks(settings: Settings) -> tuple[RescueDisk, ...]:
    found: dict[int, RescueDisk] = {}
    for what, path in (("state", settings.state_dir), ("models", settings.models_dir), ("system", Path("/"))):
        with suppress(OSError):
            there = next(one for one in (path, *path.parents) if one.exists())
            usage, device = shutil.disk_usage(there), there.stat().st_dev
            if device not in found:
                found[device] = RescueDisk(
                    what=what, path=str(path), free_bytes=usage.free, total_bytes=usage.total,
                    full=usage.free < FULL_BYTES,
                )  # fmt: skip
    return tuple(found.values())


def _full(disks: Sequence[RescueDisk]) -> list[RescueFinding]:
    return [
        RescueFinding(
            code="disk_full",
            severity="error" if one.what == "state" else "warning",
            message=f"The disk of {one.path} is full: {one.free_bytes // 2**20} MiB left.",
            hint="Remove models that nobody uses (r1box models remove ID), old backups, or what else lies there.",
        )
        for one in disks
        if one.full
    ]


def _rest(around: Surroundings, settings: Settings) -> list[RescueFinding]:
    found = []
    if around.settings_problem is not None:
        problem = around.settings_problem
        found.append(
            RescueFinding(
                code="settings_unusable",
                severity="error",
                message=problem.message,
                hint=problem.hint or "",
                acts=("log",),
            )
        )
    with suppress(OSError):
        if waits(settings.state_dir):
            found.append(
                RescueFinding(
                    code="restore_waits",
                    severity="info",
                    message="A restore or a factory reset waits for the next start.",
                    hint="Restart the box, and it is done.",
                    acts=("restart",),
                )
            )
    if is_safe_mode(settings.state_dir):
        found.append(
            RescueFinding(
                code="safe_mode",
                severity="info",
                message="Safe mode is on: the box starts without a model.",
                hint="A plain restart from here switches it off.",
                acts=("restart",),
            )
        )
    return found


def _acts(
    around: Surroundings, unit: RescueUnit, backups: Sequence[BackupItem], database: str | None
) -> tuple[tuple[str, ...], dict[str, str]]:
    why_not: dict[str, str] = {}
    may_write = os.access(around.settings.state_dir, os.W_OK)
    if not is_there(unit):
        why_not["restart"] = why_not["safe_mode"] = "systemd has no r1box.service here: start it by hand, r1box serve"
    elif os.geteuid() != 0:
        why_not["restart"] = why_not["safe_mode"] = "only root may restart the service"
    if not any(one.problem is None for one in backups):
        why_not["restore"] = "there is no backup on the box or on a stick"
    elif not may_write:
        why_not["restore"] = "this account may not write the state folder"
    if not around.has_update:
        why_not["rollback"] = "this box has no other system to go back to"
    elif os.geteuid() != 0:
        why_not["rollback"] = "only root may change the system"
    refusal = around.local()
    if refusal is not None:
        why_not["password"] = refusal
    elif database is not None:
        why_not["password"] = "the database cannot be used"  # noqa: S105 - words
    return tuple(one for one in ACTS if one not in why_not), why_not


def _listed(around: Surroundings) -> tuple[BackupItem, ...]:
    found: list[Listed] = []
    with suppress(OSError):
        found += around.backups.list()
    found += around.backups.on_sticks(around.folders)
    return tuple(
        BackupItem(
            name=one.path.name, path=str(one.path), size_bytes=one.size_bytes, created_at=one.created_at,
            version=one.version, host=one.host, label=one.label, problem=one.problem,
        )
        for one in found
    )  # fmt: skip


def _administrators(state_dir: Path) -> tuple[str, ...]:
    """Names of those who may get a new password here."""
    uri = f"file:{quote(str(state_dir / 'r1box.db'))}?mode=rw"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=2)) as database:
            rows = database.execute("SELECT name FROM user WHERE role = 'admin' ORDER BY id LIMIT 100").fetchall()
    except sqlite3.DatabaseError:
        return ()
    return tuple(str(row[0]) for row in rows)


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
