"""Where R1 Box keeps its files. XDG Base Directory Specification 0.8 for an ordinary user, settings for a service."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import StateNotWritable


@dataclass(frozen=True, slots=True)
class StatePaths:
    """The files in the state folder."""

    state_dir: Path
    database: Path


def default_state_dir(environ: Mapping[str, str] | None = None) -> Path:
    """``$XDG_STATE_HOME/r1box``, else ``~/.local/state/r1box``."""
    return _xdg(environ, "XDG_STATE_HOME", ".local/state") / "r1box"


def default_models_dir(environ: Mapping[str, str] | None = None) -> Path:
    """``$XDG_DATA_HOME/r1box/models``, else ``~/.local/share/r1box/models``."""
    return _xdg(environ, "XDG_DATA_HOME", ".local/share") / "r1box" / "models"


def default_admin_socket(state_dir: Path, environ: Mapping[str, str] | None = None) -> Path:
    """``admin.sock`` in systemd's ``RUNTIME_DIRECTORY`` (systemd.exec(5)), else in the state folder."""
    values = os.environ if environ is None else environ
    given = values.get("RUNTIME_DIRECTORY", "").split(":")[0]
    return (Path(given) if given else state_dir) / "admin.sock"


def config_candidates(environ: Mapping[str, str] | None = None) -> tuple[Path, ...]:
    """Settings files that are looked for, in this order, when ``R1BOX_CONFIG`` names none; the first there counts."""
    return (_xdg(environ, "XDG_CONFIG_HOME", ".config") / "r1box" / "config.toml", Path("/etc/r1box/config.toml"))


def prepare_state(state_dir: Path) -> StatePaths:
    """Create the state folder for this user alone (0700) and prove that a file can be written in it.

    A folder that is already there keeps its mode: the operator may have given a group access on purpose.
    Raises StateNotWritable.
    """
    try:
        state_dir.parent.mkdir(parents=True, exist_ok=True)
        state_dir.mkdir(mode=0o700, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=state_dir, prefix=".writable-") as probe:
            probe.write(b"r1box")
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        in_the_way = isinstance(error, FileExistsError)
        reason = "a file is in the way" if in_the_way else (error.strerror or type(error).__name__).lower()
        raise StateNotWritable(path=str(state_dir), reason=reason) from error
    return StatePaths(state_dir=state_dir, database=state_dir / "r1box.db")


def _xdg(environ: Mapping[str, str] | None, variable: str, below_home: str) -> Path:
    values = os.environ if environ is None else environ
    given = values.get(variable, "")
    # The specification: "If an implementation encounters a relative path ... it should consider the path invalid".
    if given and Path(given).is_absolute():
        return Path(given)
    home = values.get("HOME", "")
    # A service without HOME has no folder of its own: "/" is then refused by prepare_state with a plain reason.
    return Path(home or "/") / below_home
