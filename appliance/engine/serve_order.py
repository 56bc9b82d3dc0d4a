"""What a big engine is to serve, and where it is installed: values that the builders of its start take.

``engine.vllm``, ``engine.vllm_ascend`` and ``engine.mindie`` turn an order and a site into a ``Launch``: arguments,
environment, files, and how its start is read from its log. All pure, so that every plan of the machine table has a
golden file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from models.types import FitPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One box's part in a model over several: ``rank`` of ``nodes``. Rank 0 has the server, the others compute for it.

    ``address`` is this box's own on the link between them, ``interface`` what the kernel calls it (``None`` where that
    is not known); ``master_address`` and ``master_port`` are where the ranks meet. Of ``pipeline_parallel`` stages each
    box has some of the layers. The plan's tensor and data parallel sizes are those over all boxes, its devices are this
    box's.
    """

    rank: int
    nodes: int
    address: str
    master_address: str
    master_port: int
    interface: str | None = None
    pipeline_parallel: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOrder:
    """``folder`` has the weights. ``visible`` are the plan's devices as the vendor's variable takes them: logic ids of
    Ascend, PCI order of NVIDIA. ``quantization`` and ``architecture`` as the store has them; ``half`` where the chip
    has no BF16. ``chat_template`` is the store's; ``is_mixture`` of a model with routed experts.
    ``cache_gib`` is the memory of the cache on a processor, which vLLM does not find out itself. ``node`` for a model
    over several boxes.
    """

    name: str
    folder: Path
    plan: FitPlan
    quantization: str
    architecture: str
    visible: tuple[str, ...] = ()
    half: bool = False
    is_mixture: bool = False
    chat_template: str | None = None
    cache_gib: int = 1
    node: Node | None = None


@dataclass(frozen=True, slots=True)
class Container:
    """An image that has the engine; ``runtime`` is ``docker`` or ``podman``."""

    runtime: str
    image: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where an engine is, and what it may use here.

    ``python`` is the interpreter of its own environment, ``root`` the folder of MindIE; with a ``container`` both are
    paths in there. ``run_dir`` belongs to this one server, ``cache_dir`` keeps compiled kernels over restarts.
    ``secret`` is generated anew for every start. ``ports`` are free ones of the loopback for a server that has no unix
    socket. ``more`` are arguments that the operator adds.
    """

    run_dir: Path
    cache_dir: Path
    secret: str = field(repr=False)
    python: Path = Path("python3")
    root: Path = Path("/usr/local/Ascend")
    container: Container | None = None
    ports: tuple[int, ...] = ()
    more: tuple[str, ...] = ()
