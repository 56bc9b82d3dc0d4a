"""`python3 -m installer.bootstrap [run|dev]`: make the environment of this source tree, or find it made already.

1. Look at the stamp: nothing to do when it covers what is asked for.
2. Check Python, the compilers and the disk before anything is downloaded.
3. Make the environment, take uv with pip, then everything else with uv.
4. Load the native library once, write the stamp.

Exit codes: 0 ready, 1 a step failed (the log says why), 2 the machine lacks something, 130 interrupted.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):  # noqa: UP036  a plain line for an older system Python, not a traceback
    sys.exit(
        "R1 Box needs Python 3.11 or newer; this is "
        + sys.version.split()[0]
        + ".\nInstall a newer one and name it: make setup PYTHON=python3.11"
    )

import argparse
import dataclasses
import math
import os
import platform
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NoReturn

from installer.bootstrap import build_log, checks, child, compilers, index_settings, stamp, steps
from installer.bootstrap.progress import Progress

_STEPS = 5
_STEP_TIMEOUT_S = 600.0
_INSTALL_TIMEOUT_S = 3 * 3600.0
"""A slow line or a slow processor is no failure; a hung download is uv's own affair (UV_HTTP_TIMEOUT)."""

_COMPILE_CORE_S = 500.0
"""llama.cpp took 440 s of processor time in all (x86-64 with AVX-512, gcc 12)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Setup:
    """One run's fixed values."""

    tree: steps.Tree
    wanted: stamp.Stamp
    found: stamp.Stamp | None
    environ: Mapping[str, str]
    jobs: int
    progress: Progress
    log: BinaryIO
    as_wheel: bool


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m installer.bootstrap", description="Make this tree's environment.")
    parser.add_argument("level", choices=stamp.LEVELS, help="run: what the daemon needs; dev: the tests' tools as well")
    parser.add_argument("--venv", type=Path, help="the environment's folder (default: .venv beside pyproject.toml)")
    parser.add_argument(
        "--wheel", action="store_true", help="put the project in as a package that needs no source tree"
    )
    parser.add_argument("--force", action="store_true", help="go through all steps even if nothing has changed")
    options = parser.parse_args(arguments)
    root = Path(__file__).resolve().parents[2]
    tree = steps.Tree(root, (options.venv or root / ".venv").absolute())
    found = stamp.read(tree.venv)
    try:
        wanted = wanted_stamp(tree, options.level, options.wheel)
    except OSError as error:
        return _say(f"{error.filename} cannot be read: {error.strerror}. Is this clone complete? git status", 2)
    if not options.force and is_made(tree, wanted):
        return 0
    if found is not None and found.level == "dev":
        wanted = dataclasses.replace(wanted, level="dev")  # who once asked for the tests' tools keeps them
    if problems := _machine_problems(tree):
        return _say(problems, 2)
    return _set_up(tree, wanted, found, options.wheel)


def wanted_stamp(tree: steps.Tree, level: str, as_wheel: bool) -> stamp.Stamp:
    """The stamp of a finished environment of this tree. Raises OSError when a file of the tree cannot be read."""
    features = checks.processor_features()
    return stamp.Stamp(
        form=stamp.FORM,
        level=level,
        requirements=stamp.fingerprint(tree.pinned_files()),
        build=steps.build_key(compilers.with_safe_flags(os.environ, features), features),
        python=platform.python_version(),
        root=f"wheel {stamp.contents(tree.root, tree.project_files())}" if as_wheel else str(tree.root),
    )


def is_made(tree: steps.Tree, wanted: stamp.Stamp) -> bool:
    """Whether the environment is there, finished, and covers what is wanted."""
    found = stamp.read(tree.venv)
    return found is not None and found.covers(wanted) and _usable(tree)


def _usable(tree: steps.Tree) -> bool:
    return tree.python.exists() and (tree.venv / "bin" / "r1box").exists()


def _machine_problems(tree: steps.Tree) -> str | None:
    problems = checks.missing_tools(os.environ)
    place = next(folder for folder in tree.venv.parents if folder.is_dir())
    if not tree.venv.exists() and (full := checks.disk_problem(place)):
        problems.append(full)
    if not problems:
        return None
    lines = ["R1 Box cannot be set up yet:", *(f"  - {problem.message}" for problem in problems)]
    if apt_line := checks.apt_line(problems):
        lines += ["Next, on Debian or Ubuntu:", f"  {apt_line}"]
    return "\n".join(lines)


def _set_up(tree: steps.Tree, wanted: stamp.Stamp, found: stamp.Stamp | None, as_wheel: bool) -> int:
    interactive = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    progress = Progress(sys.stdout, interactive, _STEPS)
    log_path = tree.venv / "setup.log"
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        tree.venv.mkdir(parents=True, exist_ok=True)
        stamp.remove(tree.venv)
        with log_path.open("wb") as log:
            cores = len(os.sched_getaffinity(0))
            jobs = checks.build_jobs(cores, checks.available_memory_bytes())
            environ = _environment(compilers.with_safe_flags(os.environ, checks.processor_features()), jobs)
            if as_wheel:
                # The service may not write beside the modules, so nobody would compile them later.
                environ.setdefault("UV_COMPILE_BYTECODE", "1")
            print(f"Setting up R1 Box in {tree.venv} (log: {log_path})", flush=True)
            _steps(Setup(tree, wanted, found, environ, jobs, progress, log, as_wheel))
        stamp.write(tree.venv, wanted)
    except child.Failed as error:
        progress.end("failed")
        return _say(_failure(error, log_path), 1)
    except OSError as error:
        return _say(
            f"{error.filename or tree.venv}: {error.strerror}. Make room or rights there, then run it again.", 1
        )
    except KeyboardInterrupt:
        progress.end("interrupted")
        return _say("Interrupted. The next run goes on from here; what was downloaded and built is kept.", 130)
    return 0


def _steps(setup: Setup) -> None:
    tree, progress = setup.tree, setup.progress

    progress.begin("virtual environment")
    if not _reusable(tree):
        _child(setup, steps.make_venv(tree, sys.executable, clear=tree.python.is_symlink()), _STEP_TIMEOUT_S)
    progress.end()

    progress.begin("uv, the package installer")
    _child(setup, steps.install_uv(tree), _STEP_TIMEOUT_S)
    pip_lines = _child(setup, steps.list_pip_config(tree), _STEP_TIMEOUT_S)
    settings = index_settings.uv_settings(setup.environ, index_settings.parse_pip_config(pip_lines), _has_uv_config())
    progress.end()

    with_index = dataclasses.replace(setup, environ={**setup.environ, **settings.environ})
    progress.begin("packages")
    if setup.found is None or setup.found.build != setup.wanted.build:
        _child(with_index, steps.remove_native(tree), _STEP_TIMEOUT_S)
    argv = steps.install_packages(tree, setup.wanted.level, settings.flags, setup.wanted.build)
    _child(with_index, argv, _INSTALL_TIMEOUT_S)
    progress.end()

    progress.begin("R1 Box itself")
    _child(with_index, steps.install_project(tree, settings.flags, setup.as_wheel), _STEP_TIMEOUT_S)
    progress.end()

    progress.begin("check: llama.cpp loads")
    _child(setup, steps.check_native(tree), _STEP_TIMEOUT_S)
    progress.end()


def _child(setup: Setup, argv: list[str], timeout_s: float) -> list[str]:
    progress = setup.progress

    def on_line(line: str) -> None:
        match build_log.read_line(line):
            case build_log.Compiled(done, total):
                progress.bar(done, total, "building llama.cpp")
            case build_log.BuildStarted(package) if package.startswith(steps.NATIVE_PACKAGE):
                minutes = math.ceil(_COMPILE_CORE_S / setup.jobs / 60)
                progress.say(
                    f"      llama.cpp is now compiled for this machine: about {minutes} minutes with {setup.jobs} at a "
                    "time, once per machine and user"
                )
                progress.note("fetching the build tools")
            case build_log.BuildStarted(package):
                progress.note(f"building {package}")
            case build_log.Note(text):
                progress.note(text)
            case None:
                progress.tick()

    return child.run(argv, setup.environ, setup.log, on_line, progress.tick, timeout_s)


def _reusable(tree: steps.Tree) -> bool:
    """Whether the environment there was made by this Python, in this place, and still works.

    Scripts of an environment name its folder in their first line: one that was moved or copied is made anew.
    """
    interpreter = tree.venv / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    try:
        first_line = (tree.venv / "bin" / "pip").read_text(encoding="utf-8", errors="replace").partition("\n")[0]
    except OSError:
        return False
    return tree.python.exists() and interpreter.is_dir() and str(tree.venv / "bin") in first_line


def _environment(environ: Mapping[str, str], jobs: int) -> dict[str, str]:
    """The user's environment, without what would make uv or pip work on another environment than ours."""
    dropped = {
        "VIRTUAL_ENV",
        "PYTHONHOME",
        "PYTHONPATH",
        "PIP_TARGET",
        "PIP_PREFIX",
        "PIP_USER",
        "UV_PYTHON",
        "RUST_LOG",
    }
    kept = {name: value for name, value in environ.items() if name not in dropped}
    kept.setdefault("CMAKE_BUILD_PARALLEL_LEVEL", str(jobs))
    # Another clone's set-up may be compiling llama.cpp: wait for its wheel, longer than uv's own five minutes.
    kept.setdefault("UV_LOCK_TIMEOUT", str(round(_INSTALL_TIMEOUT_S)))
    return kept


def _has_uv_config() -> bool:
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return (home / "uv" / "uv.toml").exists() or Path("/etc/uv/uv.toml").exists()


def _failure(error: child.Failed, log_path: Path) -> str:
    lines = build_log.telling_lines(list(error.lines))
    text = "\n".join(lines).lower()
    if any(word in text for word in ("certificate", "invalid peer", "ssl:", "tls")):
        hint = (
            "the line's certificate is not trusted. Name your organization's certificates: "
            "SSL_CERT_FILE=/path/to/ca.pem PIP_CERT=/path/to/ca.pem, or UV_SYSTEM_CERTS=1 for the system's own."
        )
    elif any(word in text for word in ("no space left", "disk quota")):
        hint = "make room on the disk (about 3 GiB), then run it again."
    elif any(word in text for word in ("hash mismatch", "do not match the hashes")):
        hint = "a file from your package index is not the one this repository names. Ask who runs the index."
    elif any(
        word in text
        for word in ("dns error", "failed to fetch", "connection", "timed out", "unreachable", "no matching")
    ):
        hint = (
            "check the way to the package index. Behind a mirror: PIP_INDEX_URL=https://...; behind a proxy: "
            "HTTPS_PROXY=http://host:port. Then run it again."
        )
    elif any(word in text for word in ("killed signal", "cannot allocate memory", "out of memory")):
        hint = "memory ran out. Compile less at once: CMAKE_BUILD_PARALLEL_LEVEL=1 make setup"
    else:
        hint = "read the log, mend what it names, then run it again; finished downloads are kept."
    shown = "\n".join(f"    {line[:200]}" for line in lines)
    return f"{error}\n{shown}\n\nLog:  {log_path}\nNext: {hint}"


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _say(text: str, code: int) -> int:
    print(text, file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
