"""MindIE: Huawei's own engine. It is started with a configuration file; everything is in there. Pure.

Source: MindIE LLM user guide 2.2, "Configuration parameters (serving)" with the pages on data parallel, expert parallel
and prefix cache; the environment variables' page. What matters:

- ``npuDeviceIds`` count from 0 within ``ASCEND_RT_VISIBLE_DEVICES``, in its order;
- prompt plus answer is ``maxSeqLen``; the prompt alone may be one token shorter, and a prefill takes the whole of it;
- its port is plain HTTP on the loopback: TLS there would need certificates in its own installation, and a key it has
  none, so every program of this machine could ask it (docs/engines.md says so);
- it refuses weights that others may read unless told otherwise; the store has checked them by their hashes.
"""

from __future__ import annotations

import json
from typing import Any

from appliance.engine.containers import in_container
from appliance.engine.external.infer_token import MindieTokens
from appliance.engine.external.launch import Endpoint, Launch, LaunchFile, LogWords
from appliance.engine.serve_order import ServeOrder, Site
from appliance.engine.vllm_ascend import cann_environment

CONFIG_FILE = "config.json"
LOOPBACK = "127.0.0.1"
PORTS = 3
"""Free ports that a start needs: service, management, metrics."""

_MOST_SECONDS_PER_TOKEN = 3600
_MOST_SECONDS_PER_ANSWER = 65_535
_BLOCK_TOKENS = 128
_CPU_CACHE_GB = 5
_PREFIX_CACHE = '{"plugin_type":"prefix_cache"}'
_PREFIX_CACHE_FORMS = frozenset({"BF16", "F16", "W8A8", "W4A8"})

WORDS = LogWords(
    steps=(
        (r"[Ss]tart(ing)? (to )?(initialize|init) (the )?(LlmManager|backend|model)", 0.05, None),
        (r"load(ing)? (safetensors|weights).*?(?P<part>\d+)%", 0.10, 0.80),
        (r"(weight|model) (is )?load(ed)? (done|success|finish)", 0.85, None),
        (r"kv ?cache|npu_?memory", 0.90, None),
        (r"Daemon start success", 0.99, None),
    ),
    causes=(
        r"(?P<cause>(NPU )?out of memory.*)",
        r"(?P<cause>Failed to (init|load|parse|get|check|read).+)",
        r"\[(?:ERROR|error|CRITICAL|critical)\][^:]*:?\s*(?P<cause>\S.+)",
        r"(?P<cause>(?:[\w.]*\.)?[A-Z]\w*(?:Error|Exception): .+)",
    ),
    echoes=(r"Daemon is killed|Killing the process group|process exit",),
)


def mindie_launch(order: ServeOrder, site: Site) -> Launch:
    """MindIE on Atlas cards. ``site.ports`` are three free ports."""
    service, management, metrics = site.ports
    home = site.root / "mindie" / "latest" / "mindie-service"
    environment = {
        **cann_environment(site.root),
        "ATB_WORKSPACE_MEM_ALLOC_ALG_TYPE": "3",
        "MIES_CONFIG_JSON_PATH": str(site.run_dir / CONFIG_FILE),
        "MIES_INSTALL_PATH": str(home),
        "MINDIE_CHECK_INPUTFILES_PERMISSION": "0",
        "MINDIE_LLM_HOME_PATH": str(site.root / "mindie" / "latest" / "mindie-llm"),
        "MINDIE_LOG_TO_FILE": "0",
        "MINDIE_LOG_TO_STDOUT": "1",
        "NPU_MEMORY_FRACTION": "0.9",
        "PYTORCH_NPU_ALLOC_CONF": "expandable_segments:True",
    }
    environment["LD_LIBRARY_PATH"] = f"{home / 'lib'}:{home / 'lib' / 'grpc'}:{environment['LD_LIBRARY_PATH']}"
    if order.visible:
        environment["ASCEND_RT_VISIBLE_DEVICES"] = ",".join(order.visible)
    config = mindie_config(order, site.ports)
    launch = Launch(
        engine="MindIE",
        argv=(str(home / "bin" / "mindieservice_daemon"), *site.more),
        environment=environment,
        endpoint=Endpoint(
            url=f"http://{LOOPBACK}:{service}",
            model=order.name,
            dialect=MindieTokens(),
            health_url=f"http://{LOOPBACK}:{management}{MindieTokens.health_path}",
            metrics_url=f"http://{LOOPBACK}:{metrics}/metrics",
        ),
        words=WORDS,
        files=(LaunchFile(site.run_dir / CONFIG_FILE, json.dumps(config, indent=1, ensure_ascii=False) + "\n"),),
        # It writes into its working folder, and its installation is read-only.
        folder=site.run_dir,
    )
    return launch if site.container is None else in_container(launch, order, site.container, site.run_dir)


def mindie_config(order: ServeOrder, ports: tuple[int, ...]) -> dict[str, Any]:
    """The configuration file's content."""
    service, management, metrics = ports
    plan = order.plan
    return {
        "Version": "1.0.0",
        "ServerConfig": {
            "ipAddress": LOOPBACK,
            "managementIpAddress": LOOPBACK,
            "port": service,
            "managementPort": management,
            "metricsPort": metrics,
            "allowAllZeroIpListening": False,
            "maxLinkNum": max(2 * plan.seats, 16),
            "httpsEnabled": False,
            "fullTextEnabled": False,
            "inferMode": "standard",
            "interCommTLSEnabled": False,
            "openAiSupport": "vllm",
            "tokenTimeout": _MOST_SECONDS_PER_TOKEN,
            "e2eTimeout": _MOST_SECONDS_PER_ANSWER,
            "distDPServerEnabled": False,
        },
        "BackendConfig": {
            "backendName": "mindieservice_llm_engine",
            "modelInstanceNumber": 1,
            "npuDeviceIds": [list(range(len(plan.devices)))],
            "tokenizerProcessNumber": 1,
            "multiNodesInferEnabled": False,
            "interNodeTLSEnabled": False,
            "ModelDeployConfig": {
                "maxSeqLen": plan.context_tokens,
                "maxInputTokenLen": plan.context_tokens - 1,
                "truncation": False,
                "ModelConfig": [_model(order)],
            },
            "ScheduleConfig": {
                "templateType": "Standard",
                "templateName": "Standard_LLM",
                "cacheBlockSize": _BLOCK_TOKENS,
                "maxPrefillBatchSize": plan.seats,
                "maxPrefillTokens": max(plan.ubatch_tokens, plan.context_tokens),
                "prefillTimeMsPerReq": 150,
                "prefillPolicyType": 2,
                "decodeTimeMsPerReq": 50,
                "decodePolicyType": 2,
                "maxBatchSize": plan.seats,
                "maxIterTimes": plan.context_tokens,
                "maxPreemptCount": 0,
                "supportSelectBatch": False,
                "maxQueueDelayMicroseconds": 5000,
            },
        },
        "LogConfig": {"dynamicLogLevel": "", "dynamicLogLevelValidHours": 2, "dynamicLogLevelValidTime": ""},
    }


def _model(order: ServeOrder) -> dict[str, Any]:
    plan = order.plan
    model: dict[str, Any] = {
        "modelInstanceType": "Standard",
        "modelName": order.name,
        "modelWeightPath": str(order.folder),
        "worldSize": len(plan.devices),
        "cpuMemSize": _CPU_CACHE_GB,
        "npuMemSize": -1,
        "backendType": "atb",
        "trustRemoteCode": False,
    }
    if order.quantization.upper() in _PREFIX_CACHE_FORMS:
        model["plugin_params"] = _PREFIX_CACHE
    if plan.data_parallel > 1:
        model |= {"tp": plan.tensor_parallel, "dp": plan.data_parallel}
    if order.is_mixture:
        model["moe_tp"], model["moe_ep"] = 1, len(plan.devices)
        model["models"] = {"deepseekv2": {"ep_level": 1, "kv_cache_options": {"enable_nz": True}}}
    return model
