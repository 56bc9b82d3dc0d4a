"""From what was decided about a model to the server that runs it: the counterpart of ``LlamaCppFactory``."""

from __future__ import annotations

import hashlib
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from appliance.engine.base import Engine
from appliance.engine.external.engine import ExternalEngine, ExternalSpec
from appliance.engine.external.launch import Endpoint, Launch
from appliance.engine.external.server import AttachedServer, LaunchedServer, Server
from appliance.engine.mindie import PORTS, mindie_launch
from appliance.engine.serve_order import Container, ServeOrder, Site
from appliance.engine.vllm import vllm_launch
from appliance.engine.vllm_ascend import vllm_ascend_launch
from models.types import EngineName

_SECRET_BYTES = 32
_BUILDERS = {
    EngineName.VLLM: vllm_launch,
    EngineName.VLLM_ASCEND: vllm_ascend_launch,
    EngineName.MINDIE: mindie_launch,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """Where a big engine is and what it may write: ``run_dir`` and ``cache_dir`` are the box's, a folder for each model
    is made in the first. The rest is as in ``Site``."""

    run_dir: Path
    cache_dir: Path
    python: Path = Path("python3")
    root: Path = Path("/usr/local/Ascend")
    container: Container | None = None
    more: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSpec:
    """What to serve, with which engine, and where that is installed; with ``attached`` a server that runs already."""

    engine: EngineName
    order: ServeOrder
    installation: Installation
    backends: tuple[str, ...]
    attached: Endpoint | None = None
    weights_bytes: int | None = None


class ServerFactory:
    """Makes the engines of one model, one after the other; each start has a key and ports of its own. Must be called
    inside the event loop that will use the engine."""

    def __init__(self, spec: ServerSpec, server: Callable[[ServerSpec], Server] | None = None) -> None:
        """``server`` makes the server of a start where it is none of this box alone."""
        self._spec = spec
        self._server = server or server_of

    def __call__(self) -> Engine:
        """An engine that has not been started."""
        spec = self._spec
        server = self._server(spec)
        plan = spec.order.plan
        return ExternalEngine(
            server,
            ExternalSpec(
                engine=spec.engine.value if spec.attached is None else "attached",
                folder=spec.order.folder,
                seats=plan.seats,
                context_tokens=plan.context_tokens,
                backends=spec.backends,
                weights_bytes=spec.weights_bytes,
            ),
        )


def server_of(spec: ServerSpec) -> Server:
    """The spec's server: this box's own, or one that runs already."""
    return AttachedServer(spec.attached) if spec.attached is not None else LaunchedServer(launch_of(spec))


def launch_of(spec: ServerSpec) -> Launch:
    """One start of the spec's engine."""
    place = spec.installation
    # Short whatever the model is called: Linux bounds the path of a unix socket.
    name = hashlib.sha256(spec.order.name.encode()).hexdigest()[:8]
    site = Site(
        run_dir=place.run_dir / name,
        cache_dir=place.cache_dir,
        secret=secrets.token_urlsafe(_SECRET_BYTES),
        python=place.python,
        root=place.root,
        container=place.container,
        ports=free_ports(PORTS) if spec.engine is EngineName.MINDIE else (),
        more=place.more,
    )
    return _BUILDERS[spec.engine](spec.order, site)


def free_ports(count: int) -> tuple[int, ...]:
    """Ports of the loopback that are free now. Held together until all are found, so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return tuple(one.getsockname()[1] for one in sockets)
    finally:
        for one in sockets:
            one.close()
