"""The same start inside a container. Pure.

The image brings the engine and its libraries; model, sockets and caches are the box's own folders at the same paths.
vLLM gets no network at all, unless it is to meet other boxes: it is spoken to through its unix socket. Secrets go
through the environment of the program that starts the container, never through its arguments. Sources: Docker's and
Podman's ``run``, the NVIDIA Container Toolkit, vLLM-Ascend's installation page (device nodes and files of the driver).
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from appliance.engine.external.launch import Launch
from appliance.engine.serve_order import Container, ServeOrder

_ASCEND_NODES = ("/dev/davinci_manager", "/dev/devmm_svm", "/dev/hisi_hdc")
_ASCEND_FILES = (
    "/usr/local/dcmi",
    "/usr/local/bin/npu-smi",
    "/usr/local/Ascend/driver/lib64",
    "/usr/local/Ascend/driver/version.info",
    "/etc/ascend_install.info",
)
_VISIBLE = ("ASCEND_RT_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_VISIBLE_DEVICES")


def in_container(launch: Launch, order: ServeOrder, container: Container, run_dir: Path) -> Launch:
    """``launch`` carried out by ``container.runtime``; the container is removed when it ends, whatever ended it."""
    name = container_name(run_dir)
    has_socket = launch.endpoint.unix_socket is not None
    argv = [
        container.runtime, "run", "--rm", "--init", "--name", name,
        "--network", "none" if has_socket and order.node is None else "host",
        "--shm-size", "16g",
        "--pull", "never",
        "--security-opt", "no-new-privileges",
        "--workdir", str(run_dir),
        "--volume", f"{order.folder}:{order.folder}:ro",
        "--volume", f"{run_dir}:{run_dir}",
        *_devices(order, container.runtime),
    ]  # fmt: skip
    cache = launch.environment.get("VLLM_CACHE_ROOT")
    if cache is not None:
        argv += ["--volume", f"{cache}:{cache}"]
    for variable in sorted(launch.environment):
        # The container sees the plan's devices alone, numbered anew from 0.
        if not (order.visible and variable in _VISIBLE):
            argv += ["--env", variable]
    program, *arguments = launch.argv
    argv += ["--entrypoint", program, container.image, *arguments]
    return replace(launch, argv=tuple(argv), cleanup=(container.runtime, "rm", "--force", name))


def container_name(run_dir: Path) -> str:
    """One name for each folder, so that what an earlier daemon left is found."""
    return f"r1box-{hashlib.sha256(str(run_dir).encode()).hexdigest()[:12]}"


def _devices(order: ServeOrder, runtime: str) -> list[str]:
    if not order.plan.devices:
        return []
    if order.plan.devices[0].startswith("nvidia"):
        if runtime == "podman":
            return [part for one in order.visible for part in ("--device", f"nvidia.com/gpu={one}")]
        return ["--gpus", f'"device={",".join(order.visible)}"']
    found: list[str] = []
    for node in (*(f"/dev/davinci{one}" for one in order.visible), *_ASCEND_NODES):
        found += ["--device", node]
    for file in _ASCEND_FILES:
        found += ["--volume", f"{file}:{file}:ro"]
    return found
