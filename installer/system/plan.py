"""What an installation and a removal consist of, in order. Looks at facts and at what is in place; changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from installer.system import files
from installer.system.actions import (
    Action,
    Command,
    MakeProgram,
    PutFile,
    PutLink,
    RemoveEmptyFolder,
    RemoveFile,
    RemoveTree,
)
from installer.system.facts import Facts
from installer.system.layout import PROGRAMS, SERVICE, TARGET, UNITS, USER, Layout


@dataclass(frozen=True, slots=True)
class Program:
    """How the program's environment is made. ``key`` names its contents: another program has another one. ``is_made``
    and ``make`` take the folder."""

    key: str
    is_made: Callable[[Path], bool]
    make: Callable[[Path], int]


def staged_files(layout: Layout, tree: Path) -> list[Action]:
    """What a package carries: everything that is the same on every machine, without the environment."""
    shipped = tree / "systemd"
    plan: list[Action] = [
        PutFile(layout.sysusers, _text(shipped / "r1box.sysusers.conf")),
        PutFile(layout.tmpfiles, _text(shipped / "r1box.tmpfiles.conf")),
        PutFile(layout.preset, _text(shipped / "r1box.preset")),
        *(PutFile(layout.unit(name), files.unit_text(_text(shipped / name), layout)) for name in UNITS),
        PutFile(layout.config, _text(shipped / "config.toml"), keep=True),
    ]
    plan += [PutFile(layout.documents / path.name, _text(path)) for path in _documents(tree)]
    plan += [PutLink(layout.link(name), layout.link_target(name)) for name in PROGRAMS]
    return plan


def installation(
    layout: Layout, tree: Path, facts: Facts, program: Program, environ: Mapping[str, str]
) -> list[Action]:
    """The changes that are due on this machine; empty when all is in place."""
    put = _due(staged_files(layout, tree))
    put += _due([PutFile(layout.machine_drop_in, files.machine_drop_in(facts))])
    changed = {action.path for action in put if isinstance(action, PutFile)}
    environment = layout.environment(program.key)
    folders = all(path.is_dir() for path in (layout.state, layout.state / "models", layout.config.parent))
    plan = [
        # The program first: it takes longest and fails most. Until it is whole the one before stays in force.
        *_due(
            [
                MakeProgram(environment, program.is_made, program.make),
                PutLink(layout.program, Path(environment.name)),
            ]
        ),
        *put,
        *_due(
            [
                _command(
                    environ, not facts.has_user or layout.sysusers in changed, "systemd-sysusers", layout.sysusers
                ),
                _command(
                    environ,
                    not folders or layout.tmpfiles in changed,
                    "systemd-tmpfiles",
                    "--create",
                    layout.tmpfiles,
                ),
            ]
        ),
    ]
    anything = bool(plan)
    old = _older_environments(layout, environment) if plan and isinstance(plan[0], MakeProgram) else []
    return plan + _due(
        [
            _command(environ, anything and facts.booted, "systemctl", "daemon-reload"),
            _command(environ, not facts.enabled, "systemctl", "enable", TARGET, SERVICE),
            # Not waited for: the service counts as started when its model is loaded.
            _command(environ, facts.booted and not facts.active, "systemctl", "--no-block", "start", TARGET),
            _command(
                environ, facts.booted and facts.active and anything, "systemctl", "--no-block", "restart", SERVICE
            ),
            *old,
        ]
    )


def removal(layout: Layout, tree: Path, facts: Facts, purge: bool, environ: Mapping[str, str]) -> list[Action]:
    """What is left to remove. Settings, state, models, keys and the user stay unless ``purge``."""
    off = _due(
        [
            _command(environ, facts.booted and facts.active, "systemctl", "stop", TARGET, SERVICE),
            _command(environ, facts.enabled, "systemctl", "disable", TARGET, SERVICE),
        ]
    )
    plan = removed_files(layout, tree)
    plan += _due([_command(environ, facts.booted and bool(plan), "systemctl", "daemon-reload")])
    if purge:
        plan += _due([RemoveTree(layout.config.parent), RemoveTree(layout.state)])
        plan += _due([_command(environ, facts.has_user, "userdel", USER)])
    return off + plan


def removed_files(layout: Layout, tree: Path) -> list[Action]:
    """The installed files that are there. Folders go when nothing of anybody else's is in them."""
    documents = tuple(layout.documents / path.name for path in _documents(tree))
    drop_in = layout.machine_drop_in
    return _due(
        [
            *(RemoveFile(layout.link(name), layout.link_target(name)) for name in PROGRAMS),
            *(RemoveFile(layout.unit(name)) for name in UNITS),
            RemoveFile(drop_in),
            RemoveEmptyFolder(drop_in.parent, (drop_in,)),
            *(RemoveFile(path) for path in (layout.preset, layout.tmpfiles, layout.sysusers, *documents)),
            RemoveEmptyFolder(layout.documents, documents),
            RemoveFile(layout.program),
            *(RemoveTree(path) for path in layout.environments()),
            RemoveEmptyFolder(layout.at(layout.prefix), _leaving(layout, documents)),
        ]
    )


def _leaving(layout: Layout, documents: tuple[Path, ...]) -> tuple[Path, ...]:
    """What goes out of the prefix: the documents' folder only if nothing else is in it."""
    folder = layout.documents
    documents_go = folder.is_dir() and set(folder.iterdir()) <= set(documents)
    gone = (layout.program, *layout.environments())
    return (*gone, folder) if documents_go else gone


def _older_environments(layout: Layout, new: Path) -> list[Action]:
    """All but the new one and the one before, which a service that is on its way out still reads."""
    before = layout.program.readlink().name if layout.program.is_symlink() else ""
    return [RemoveTree(path) for path in layout.environments() if path.name not in {new.name, before}]


def _due(actions: Sequence[Action]) -> list[Action]:
    return [action for action in actions if action.is_due()]


def _command(environ: Mapping[str, str], due: bool, *argv: str | Path) -> Command:
    return Command(tuple(str(word) for word in argv), environ, due)


def _documents(tree: Path) -> list[Path]:
    """The pages, and what belongs to them: the dashboard for Grafana, the rules for Prometheus."""
    return sorted(path for path in (tree / "docs").iterdir() if path.suffix in (".md", ".json", ".yml"))


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")
