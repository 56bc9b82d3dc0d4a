"""A server to be started, or one that runs already: values that pure functions make (``engine.vllm`` and others)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from appliance.engine.external.dialect import Dialect


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a server is and how it is spoken to. ``model`` is its own name of the model.

    With ``unix_socket`` the host of ``url`` means nothing. ``health_url`` where health is asked for at another address
    (MindIE's management plane). ``ca_file``: a PEM that the server's certificate is checked with. With
    ``own_certificate`` and ``own_key`` (PEM) the box shows who it is. With ``server_name`` the server's certificate has
    to be for that name, whatever its address is; such a server is told whom a request is for.
    """

    url: str
    model: str
    dialect: Dialect
    unix_socket: Path | None = None
    api_key: str | None = field(default=None, repr=False)
    health_url: str | None = None
    metrics_url: str | None = None
    ca_file: Path | None = None
    own_certificate: Path | None = None
    own_key: Path | None = None
    server_name: str | None = None


@dataclass(frozen=True, slots=True)
class LaunchFile:
    """A file that the server reads at its start; only the box's own user may read it."""

    path: Path
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogWords:
    """What a server's log says about its start.

    ``steps`` are pairs of a regular expression and the share of the start that is done when a line matches it. In one
    with a group ``part`` (a percentage) and a second share, the first share is that of 0 % and the second that of
    100 %. ``causes`` find the reason of a failure (group ``cause``), the telling ones first; a line that matches one of
    ``echoes`` only repeats that something failed.
    """

    steps: tuple[tuple[str, float, float | None], ...] = ()
    causes: tuple[str, ...] = ()
    echoes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How a server is started. ``secrets`` are what must never be shown; ``cleanup`` is run when it has ended (a
    container outlives the program that started it)."""

    engine: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    endpoint: Endpoint
    words: LogWords
    files: tuple[LaunchFile, ...] = ()
    folder: Path | None = None
    cleanup: tuple[str, ...] = ()
    secrets: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long things may take. A server that gives no token for ``stall_s`` (``first_s`` for the first) has hung as
    far as that request goes; one that does not answer ``health_failures`` times in a row has hung altogether."""

    connect_s: float = 10.0
    first_s: float = 900.0
    stall_s: float = 180.0
    poll_s: float = 0.25
    health_s: float = 30.0
    health_every_s: float = 10.0
    health_failures: int = 3
    metrics_every_s: float = 5.0
