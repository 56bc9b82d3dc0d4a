"""`python3 -m installer.system install|uninstall`: what `make install` and `make uninstall` run.

Exit codes: 0 done or nothing to do, 1 a step failed, 2 refused before anything was changed, 130 interrupted.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):  # noqa: UP036  a plain line for an older system Python, not a traceback
    sys.exit(
        "R1 Box needs Python 3.11 or newer; this is "
        + sys.version.split()[0]
        + ".\nInstall a newer one and name it: make install PYTHON=/usr/bin/python3.11"
    )

import argparse
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from drivers.command import minimal_environment
from installer.bootstrap import __main__ as bootstrap
from installer.bootstrap import steps
from installer.system import facts, plan
from installer.system.actions import Action, ActionFailed
from installer.system.carry_out import Apply, DryRun, Executor
from installer.system.layout import DEFAULT_PREFIX, USER, Layout

DONE, FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130


@dataclass(frozen=True, slots=True)
class Job:
    """One run. ``staged``: files go below DESTDIR for a package, and this machine is not looked at or touched."""

    layout: Layout
    tree: Path
    staged: bool
    executor: Executor
    dry_run: bool
    environ: Mapping[str, str]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m installer.system", description="R1 Box as a service.")
    parser.add_argument("command", choices=("install", "uninstall"))
    parser.add_argument("--prefix", type=Path, default=DEFAULT_PREFIX, help="the program's folder")
    parser.add_argument("--destdir", default="", help="stage the files below this folder, for a package")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done")
    parser.add_argument("--purge", default="", metavar="yes", help="remove settings, state, models and the user too")
    options = parser.parse_args(arguments)
    if options.purge not in {"", "no", "yes"}:
        return _refuse([facts.Problem(f"PURGE={options.purge} is not understood", "PURGE=yes removes all data.")])
    os.umask(0o022)  # the service reads what root writes here, whatever root's own umask is
    root = Path(options.destdir).absolute() if options.destdir else Path("/")
    job = Job(
        layout=Layout(options.prefix, root),
        tree=Path(__file__).resolve().parents[2],
        staged=bool(options.destdir),
        executor=DryRun(_say) if options.dry_run else Apply(_say),
        dry_run=options.dry_run,
        environ=minimal_environment(),
    )
    try:
        if options.command == "install":
            return install(job, program_of(job))
        return uninstall(job, purge=options.purge == "yes")
    except ActionFailed as error:
        return _fail(f"{error}\nNext: {error.hint}")
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}\nNext: make room or rights there, then run it again.")
    except KeyboardInterrupt:
        _fail("Interrupted. The next run goes on from here.")
        return INTERRUPTED


def program_of(job: Job) -> plan.Program:
    """The environment that the bootstrap makes of this tree, as a package that needs no tree."""
    wanted = bootstrap.wanted_stamp(steps.Tree(job.tree, job.layout.program), "run", as_wheel=True)
    return plan.Program(
        key=hashlib.sha256(repr(wanted).encode()).hexdigest()[:12],
        is_made=lambda folder: bootstrap.is_made(steps.Tree(job.tree, folder), wanted),
        make=lambda folder: bootstrap.main(["run", "--venv", str(folder), "--wheel"]),
    )


def install(job: Job, program: plan.Program) -> int:
    """Install or bring up to date. Raises ActionFailed, OSError."""
    if job.staged:
        if found := facts.layout_problems(job.layout, job.tree):
            return _refuse(found)
        return _staged(job, [action for action in plan.staged_files(job.layout, job.tree) if action.is_due()])
    machine = facts.gather(job.layout, job.environ)
    refused = facts.problems(machine, job.layout, job.tree)
    if job.dry_run:
        refused = [problem for problem in refused if problem.message != facts.NEEDS_ROOT]
    if refused:
        return _refuse(refused)
    due = plan.installation(job.layout, job.tree, machine, program, job.environ)
    if not due:
        _say("R1 Box is installed and up to date; nothing was changed.")
        return DONE
    job.executor.carry_out(due)
    if not job.dry_run:
        _say(_updated(machine) if machine.has_user else _next_steps(job.layout, machine))
    return DONE


def uninstall(job: Job, purge: bool) -> int:
    """Remove what was installed. Raises ActionFailed, OSError."""
    if found := facts.layout_problems(job.layout, job.tree):
        return _refuse(found)
    if job.staged:
        return _staged(job, plan.removed_files(job.layout, job.tree))
    machine = facts.gather(job.layout, job.environ)
    if not machine.is_root and not job.dry_run:
        return _refuse([facts.Problem(facts.NEEDS_ROOT, "Run it with sudo, or look first: make uninstall DRY_RUN=1")])
    due = plan.removal(job.layout, job.tree, machine, purge, job.environ)
    job.executor.carry_out(due)
    _say("R1 Box is not installed; nothing was changed." if not due else _left(job, purge))
    return DONE


def _staged(job: Job, due: Sequence[Action]) -> int:
    job.executor.carry_out(due)
    if not due:
        _say(f"Nothing to do in {job.layout.root}.")
    elif not job.dry_run:
        _say(
            f"Done in {job.layout.root}. Not in it: the program's environment, which works only where it was made, and "
            "what a machine adds; both come with make install on the machine itself."
        )
    return DONE


def _left(job: Job, purge: bool) -> str:
    if job.dry_run:
        return "Nothing was changed."
    if purge:
        return "R1 Box is gone, with its settings, state, models and user. Models in other folders are untouched."
    kept = [str(path) for path in (job.layout.config.parent, job.layout.state) if path.exists()]
    return (
        f"R1 Box is removed. Kept: {' '.join(kept)} and the user {USER}. All of it goes with: make uninstall PURGE=yes"
    )


def _updated(machine: facts.Facts) -> str:
    when = "it is starting: systemctl status r1box" if machine.booted else "it starts with the machine"
    return f"R1 Box is brought up to date; {when}"


def _next_steps(layout: Layout, machine: facts.Facts) -> str:
    as_user = f"sudo -u {USER} {layout.link('r1box')}"
    service = (
        "systemctl status r1box          # how far the start is; journalctl -u r1box -f for more"
        if machine.booted
        else "systemctl start r1box.target    # systemd does not run here: it starts with the machine"
    )
    return "\n".join(
        (
            "R1 Box is installed. Next:",
            f"  {service}",
            f"  {as_user} doctor",
            f"  {as_user} keys create office        # prints the first key, once",
            f"  {as_user} plan                      # which R1 fits; then models import FILE.gguf or models pull",
            f"Settings: {layout.config}. Data: {layout.state}.",
        )
    )


def _refuse(found: Sequence[facts.Problem]) -> int:
    lines = [line for problem in found for line in (f"  - {problem.message}", f"    {problem.hint}")]
    print("\n".join(["R1 Box was not touched:", *lines]), file=sys.stderr, flush=True)
    return REFUSED


def _fail(text: str) -> int:
    print(text, file=sys.stderr, flush=True)
    return FAILED


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
