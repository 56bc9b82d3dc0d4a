"""What the installation asks of the machine, read without changing anything, and the reasons to refuse."""

from __future__ import annotations

import grp
import os
import pwd
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from drivers.command import CommandFailed, run
from installer.system.layout import PROGRAMS, SERVICE, TARGET, UNITS, USER, Layout, prefix_problem

OLDEST_SYSTEMD = 249
"""Ubuntu 22.04's; older ones lack parts of the unit's sandbox."""

TOOLS = ("systemctl", "systemd-sysusers", "systemd-tmpfiles")
CARD_GROUPS = ("video", "render", "HwHiAiUser")
"""Groups that own the cards' nodes: NVIDIA's and Mesa's packages use the first two, Ascend's driver the last."""

NEEDS_ROOT = "this needs root"
JOURNAL_GROUP = "systemd-journal"
_ASK_S = 30.0
_DAVINCI = re.compile(r"davinci\d+")
_HOMES = {"home", "root", "run"}


@dataclass(frozen=True, slots=True)
class Facts:
    """``systemd`` is None without one; ``booted``: systemd is the running init; ``groups``: of the service's possible
    groups those that are there; ``nodes``: Ascend's numbered device nodes; ``python``: the interpreter's real path."""

    os_name: str
    os_ids: tuple[str, ...]
    is_root: bool
    systemd: int | None
    missing_tools: tuple[str, ...]
    booted: bool
    groups: tuple[str, ...]
    nodes: tuple[str, ...]
    has_user: bool
    enabled: bool
    active: bool
    python: Path


@dataclass(frozen=True, slots=True)
class Problem:
    """A reason to refuse: what is so, and what to do next."""

    message: str
    hint: str


def gather(layout: Layout, environ: Mapping[str, str]) -> Facts:
    """Read the machine below ``layout.root``; ``environ`` is what systemctl runs with (its PATH finds it). Groups and
    users are those of this process's system. Never raises."""
    names = _os_release(layout)
    missing = tuple(tool for tool in TOOLS if shutil.which(tool, path=environ.get("PATH")) is None)
    has_systemctl = "systemctl" not in missing
    return Facts(
        os_name=names.get("PRETTY_NAME", "an unknown system"),
        os_ids=(names.get("ID", ""), *names.get("ID_LIKE", "").split()),
        is_root=os.geteuid() == 0,
        systemd=_systemd_version(environ) if has_systemctl else None,
        missing_tools=missing,
        booted=has_systemctl and layout.at("/run/systemd/system").is_dir(),
        groups=tuple(name for name in (*CARD_GROUPS, JOURNAL_GROUP) if _has_group(name)),
        nodes=_nodes(layout.at("/dev")),
        has_user=_has_user(USER),
        enabled=has_systemctl and all(_ask(("systemctl", "is-enabled", unit), environ) for unit in (SERVICE, TARGET)),
        active=has_systemctl and _ask(("systemctl", "is-active", SERVICE), environ),
        python=Path(sys.executable).resolve(),
    )


def problems(facts: Facts, layout: Layout, tree: Path) -> list[Problem]:
    """Why nothing may be installed; empty when all is well. Everything at once, so that one look mends all."""
    found = []
    if not {"debian", "ubuntu"} & set(facts.os_ids):
        found.append(
            Problem(
                f"this is {facts.os_name}; make install knows Debian and Ubuntu",
                "Use make run here, or write the service by hand after systemd/r1box.service.",
            )
        )
    if not facts.is_root:
        found.append(Problem(NEEDS_ROOT, "Run it with sudo, or see what it would do: make install DRY_RUN=1"))
    if facts.missing_tools:
        found.append(
            Problem(f"{', '.join(facts.missing_tools)} not found", "R1 Box runs under systemd: apt-get install systemd")
        )
    elif facts.systemd is None or facts.systemd < OLDEST_SYSTEMD:
        known = "unknown" if facts.systemd is None else str(facts.systemd)
        found.append(
            Problem(
                f"systemd's version is {known}; {OLDEST_SYSTEMD} or newer is needed",
                "Debian 12 and Ubuntu 22.04 have it.",
            )
        )
    if facts.python.parts[1] in _HOMES:
        found.append(
            Problem(
                f"{facts.python} lies in a home folder, which the service cannot see",
                "Name the system's Python: make install PYTHON=/usr/bin/python3",
            )
        )
    return [*found, *layout_problems(layout, tree), *_in_the_way(layout)]


def layout_problems(layout: Layout, tree: Path) -> list[Problem]:
    """What is wrong with the places that were asked for."""
    if wrong := prefix_problem(layout.prefix):
        return [Problem(f"PREFIX={layout.prefix} {wrong}", "Leave it out (/opt/r1box), or name such as /srv/r1box.")]
    if tree.is_relative_to(layout.at(layout.prefix)):
        return [
            Problem(
                f"this source tree lies in {layout.prefix}, where the program goes",
                "Move the tree elsewhere, such as to /usr/local/src/r1box, and run it there.",
            )
        ]
    return []


def _in_the_way(layout: Layout) -> list[Problem]:
    found = []
    for name in UNITS:
        unit = layout.operators_unit(name)
        if unit.exists() or unit.is_symlink():
            found.append(Problem(f"{unit} hides the unit that is installed", f"Remove it: rm {unit}"))
    for program in PROGRAMS:
        link = layout.link(program)
        if link.exists() and not link.is_symlink():
            found.append(Problem(f"{link} is there and not ours", f"Move it away: mv {link} {link}.old"))
    return found


def _os_release(layout: Layout) -> dict[str, str]:
    """os-release(5); empty when there is none."""
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        try:
            lines = layout.at(path).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
        return {name.strip(): value.strip().strip("\"'") for name, _, value in pairs}
    return {}


def _systemd_version(environ: Mapping[str, str]) -> int | None:
    try:
        text = run(("systemctl", "--version"), timeout_s=_ASK_S, environment=environ).stdout
    except CommandFailed:
        return None
    match = re.match(r"systemd (\d+)", text)
    return int(match[1]) if match else None


def _ask(argv: tuple[str, ...], environ: Mapping[str, str]) -> bool:
    try:
        run(argv, timeout_s=_ASK_S, environment=environ)
    except CommandFailed:
        return False
    return True


def _nodes(folder: Path) -> tuple[str, ...]:
    try:
        names = os.listdir(folder)  # noqa: PTH208  names alone, and one error for all
    except OSError:
        return ()
    return tuple(sorted((name for name in names if _DAVINCI.fullmatch(name)), key=lambda name: int(name[7:])))


def _has_group(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def _has_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
