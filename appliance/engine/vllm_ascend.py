"""vLLM-Ascend: vLLM with Huawei's plugin. Pure.

Sources: vLLM-Ascend's tutorials for DeepSeek-R1 (A3: data parallel 4 x tensor parallel 4; A2 over two machines) and for
the distilled models, its pages on quantization and environment variables, 0.13 to 0.23; CANN's ``set_env.sh``, whose
variables are written out here because a server is never started through a shell.
"""

from __future__ import annotations

import json
from pathlib import Path

from appliance.engine.external.launch import Launch
from appliance.engine.serve_order import ServeOrder, Site
from appliance.engine.vllm import finish, node_environment, quiet_environment, serve_arguments
from models.types import EngineName

_MODEL_SLIM = frozenset({"W8A8", "W4A8", "W8A8_DYNAMIC", "ASCEND"})
"""Forms that Huawei's ModelSlim makes; their config.json does not say so, so vLLM has to be told."""


def vllm_ascend_launch(order: ServeOrder, site: Site) -> Launch:
    """vLLM-Ascend on Atlas A2 and A3."""
    arguments = serve_arguments(order, site)
    if order.quantization.upper() in _MODEL_SLIM:
        arguments += ["--quantization", "ascend"]
    if order.is_mixture:
        # Graphs for decoding alone: what the tutorial for R1 runs with.
        graphs = {"cudagraph_mode": "FULL_DECODE_ONLY"}
        arguments += ["--compilation-config", json.dumps(graphs, separators=(",", ":"))]
    environment = {
        **quiet_environment(site),
        **cann_environment(site.root),
        "HCCL_OP_EXPANSION_MODE": "AIV",
        "OMP_PROC_BIND": "false",
        "PYTORCH_NPU_ALLOC_CONF": "expandable_segments:True",
        "TASK_QUEUE_ENABLE": "1",
    }
    if order.visible:
        environment["ASCEND_RT_VISIBLE_DEVICES"] = ",".join(order.visible)
    environment |= node_environment(order)
    if order.node is not None:
        # The cards' own library of collectives; buffers as in the tutorial over two machines.
        environment["HCCL_IF_IP"] = order.node.address
        environment["HCCL_BUFFSIZE"] = "1024"
        if order.node.interface is not None:
            environment["HCCL_SOCKET_IFNAME"] = f"={order.node.interface}"
            environment.pop("NCCL_SOCKET_IFNAME", None)
    if order.plan.data_parallel > 1:
        environment["VLLM_ASCEND_BALANCE_SCHEDULING"] = "1"
    return finish(EngineName.VLLM_ASCEND, order, site, arguments, environment)


def cann_environment(root: Path) -> dict[str, str]:
    """What ``ascend-toolkit/set_env.sh`` and ``nnal/atb/set_env.sh`` below ``root`` set."""
    toolkit = root / "ascend-toolkit" / "latest"
    transformer = root / "nnal" / "atb" / "latest" / "atb" / "cxx_abi_1"
    libraries = (
        toolkit / "lib64",
        toolkit / "lib64" / "plugin" / "opskernel",
        toolkit / "lib64" / "plugin" / "nnengine",
        toolkit / "opp" / "built-in" / "op_impl" / "ai_core" / "tbe" / "op_tiling",
        transformer / "lib",
        root / "driver" / "lib64" / "common",
        root / "driver" / "lib64" / "driver",
    )
    packages = (toolkit / "python" / "site-packages", toolkit / "opp" / "built-in" / "op_impl" / "ai_core" / "tbe")
    return {
        "ASCEND_AICPU_PATH": str(toolkit),
        "ASCEND_HOME_PATH": str(toolkit),
        "ASCEND_OPP_PATH": str(toolkit / "opp"),
        "ASCEND_TOOLKIT_HOME": str(toolkit),
        "ATB_HOME_PATH": str(transformer),
        "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
        "PYTHONPATH": ":".join(map(str, packages)),
        "TOOLCHAIN_HOME": str(toolkit / "toolkit"),
    }
