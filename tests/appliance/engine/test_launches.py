"""What each engine is started with, for every plan of the machine table: golden files, read and reviewed as such.

``python -m tests.appliance.engine.test_launches`` writes them anew; the diff is what is reviewed.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.engine.external.launch import Launch
from appliance.engine.mindie import mindie_launch
from appliance.engine.serve_order import Container, Node, ServeOrder, Site
from appliance.engine.vllm import socket_path, vllm_launch
from appliance.engine.vllm_ascend import vllm_ascend_launch
from models.catalogue import load_catalogue
from models.planner import plan
from models.types import EngineName, FitPlan, KvType
from tests.models.golden_machines import LINES, build

GOLDEN = Path(__file__).parents[2] / "fixtures" / "golden" / "launches"
CATALOGUE = load_catalogue()
BUILDERS = {
    EngineName.VLLM: vllm_launch,
    EngineName.VLLM_ASCEND: vllm_ascend_launch,
    EngineName.MINDIE: mindie_launch,
}
ASCEND_HEADS = {32, 64, 128}


def site(**more: Any) -> Site:
    return Site(
        run_dir=Path("/var/lib/r1box/engines/0a1b2c3d"),
        cache_dir=Path("/var/lib/r1box/engine-cache"),
        secret="SECRET",
        python=Path("/opt/engine/bin/python"),
        ports=(41025, 41026, 41027),
        **more,
    )


def best_plans(line: str) -> dict[EngineName, FitPlan]:
    """The best plan of each big engine for a machine."""
    found: dict[EngineName, FitPlan] = {}
    for one in plan(CATALOGUE, build(line), engines=tuple(BUILDERS)).plans:
        found.setdefault(one.engine, one)
    return found


def ids(line: str, found: FitPlan) -> tuple[str, ...]:
    """What selects the plan's devices: the logic ids of Ascend, the PCI order of NVIDIA."""
    by_key = {device.key: device for device in build(line).devices}
    return tuple(str(by_key[key].index) for key in found.devices)


def order(line: str, found: FitPlan) -> ServeOrder:
    variant = CATALOGUE.variant(found.variant)
    assert variant is not None
    return ServeOrder(
        name=f"{found.variant}-{found.quantization}".lower(),
        folder=Path(f"/var/lib/r1box/models/{found.variant.lower()}"),
        plan=found,
        quantization=found.quantization,
        architecture=variant.architecture,
        visible=ids(line, found),
        half=any("F16" in note for note in found.notes),
        is_mixture=variant.shape.experts is not None,
        chat_template="{{ messages }}",
    )


def told(launch: Launch) -> dict[str, Any]:
    """A launch as the golden files have it: what differs between machines."""
    return {
        "argv": list(launch.argv),
        "environment": dict(sorted(launch.environment.items())),
        "files": {str(file.path): _lines(file.text) for file in launch.files},
        "endpoint": launch.endpoint.url if launch.endpoint.unix_socket is None else str(launch.endpoint.unix_socket),
        **({"cleanup": list(launch.cleanup)} if launch.cleanup else {}),
    }


def _lines(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def launches(engine: EngineName) -> dict[str, Any]:
    """For every machine that the engine has a plan for."""
    found = {}
    for line in LINES:
        best = best_plans(line).get(engine)
        if best is not None:
            shown = f"{best.variant} {best.quantization} x{len(best.devices)} {best.seats}x{best.context_tokens}"
            found[f"{line}: {shown}"] = told(BUILDERS[engine](order(line, best), site()))
    return found


A2 = "8 910B3 64 / host 1024"
OVER_BOXES: dict[str, tuple[str, EngineName, str, dict[str, int]]] = {
    "671B over two A2": (A2, EngineName.VLLM_ASCEND, "W8A8", {"tensor": 4, "data": 4, "pipeline": 1}),
    "70B over two boxes of L20": ("8 L20 44.5 / host 1024", EngineName.VLLM, "BF16", {"tensor": 8, "pipeline": 2}),
    "one model over two processors": ("/ host 64", EngineName.VLLM, "BF16", {"tensor": 2, "pipeline": 1}),
}


def over_boxes(name: str, rank: int) -> Launch:
    """A start of one of two boxes; sizes as ``models.fit_boxes`` gives them (tests/models/test_fit_boxes.py)."""
    line, engine, quantization, sizes = OVER_BOXES[name]
    devices = tuple(device.key for device in build(line).devices)
    found = FitPlan(
        variant="R1", quantization=quantization, engine=engine, devices=devices, seats=16, context_tokens=32768,
        kv_type=KvType.F16, flash_attention=True, ubatch_tokens=8192, gpu_layers=0, tensor_split=(), memory=(),
        file_bytes=1, tensor_parallel=sizes["tensor"], data_parallel=sizes.get("data", 1),
    )  # fmt: skip
    node = Node(
        rank=rank,
        nodes=2,
        address=f"10.0.0.{rank + 1}",
        interface="bond0",
        master_address="10.0.0.1",
        master_port=41028,
        pipeline_parallel=sizes["pipeline"],
    )
    served = ServeOrder(
        name="r1",
        folder=Path("/var/lib/r1box/models/r1"),
        plan=found,
        quantization=quantization,
        architecture="deepseek2" if "671B" in name else "llama",
        visible=tuple(str(number) for number in range(len(devices))),
        is_mixture="671B" in name,
        node=node,
    )
    return BUILDERS[engine](served, site())


def cluster_launches() -> dict[str, Any]:
    return {f"{name}: rank {rank}": told(over_boxes(name, rank)) for name in OVER_BOXES for rank in (0, 1)}


def test_ranks_over_boxes_are_started_as_reviewed() -> None:
    assert cluster_launches() == json.loads((GOLDEN / "cluster.json").read_text(encoding="utf-8"))


def test_only_rank_zero_answers_and_all_meet_at_one_place() -> None:
    for name in OVER_BOXES:
        first, second = (over_boxes(name, rank) for rank in (0, 1))
        assert first.endpoint.unix_socket is not None
        assert second.endpoint.unix_socket is None
        assert ("--headless" in first.argv, "--headless" in second.argv) == (False, True)
        assert "--uds" not in second.argv
        for launch in (first, second):
            assert "10.0.0.1" in launch.argv
            assert "41028" in launch.argv
            assert launch.environment["GLOO_SOCKET_IFNAME"] == "bond0"
        assert second.environment["VLLM_HOST_IP"] == "10.0.0.2"


def test_a_container_of_a_rank_has_the_machines_network() -> None:
    order_ = replace(order(EIGHT_L4, best_plans(EIGHT_L4)[EngineName.VLLM]), node=Node(
        rank=1, nodes=2, address="10.0.0.2", master_address="10.0.0.1", master_port=1))  # fmt: skip
    argv = vllm_launch(order_, site(container=Container("docker", "vllm:1"))).argv
    assert argv[argv.index("--network") + 1] == "host"


def text_of(engine: EngineName) -> str:
    return json.dumps(launches(engine), indent=1, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("engine", BUILDERS)
def test_every_plan_of_the_machine_table_is_started_as_reviewed(engine: EngineName) -> None:
    golden = json.loads((GOLDEN / f"{engine.value}.json").read_text(encoding="utf-8"))
    assert launches(engine) == golden


@pytest.mark.parametrize("line", LINES)
def test_what_a_start_says_is_what_the_plan_holds(line: str) -> None:
    """Sizes, devices and seats of the plan, whatever the builder does; no secret where a process list shows it."""
    for engine, found in best_plans(line).items():
        launch = BUILDERS[engine](order(line, found), site())
        assert "SECRET" not in " ".join(launch.argv)
        assert "SECRET" not in repr(launch)
        count = found.tensor_parallel * found.data_parallel
        variable = "CUDA_VISIBLE_DEVICES" if engine is EngineName.VLLM else "ASCEND_RT_VISIBLE_DEVICES"
        assert launch.environment[variable].split(",") == list(ids(line, found))
        assert len(found.devices) == count
        variant = CATALOGUE.variant(found.variant)
        assert variant is not None
        heads = variant.shape.heads / found.tensor_parallel
        assert heads.is_integer()
        if engine is EngineName.MINDIE:
            backend = json.loads(launch.files[0].text)["BackendConfig"]
            model = backend["ModelDeployConfig"]["ModelConfig"][0]
            assert backend["npuDeviceIds"] == [list(range(count))]
            assert model["worldSize"] == count
            assert backend["ModelDeployConfig"]["maxSeqLen"] == found.context_tokens
            assert backend["ScheduleConfig"]["maxBatchSize"] == found.seats
            assert backend["ScheduleConfig"]["maxPrefillTokens"] >= backend["ModelDeployConfig"]["maxInputTokenLen"]
            continue
        said = dict(zip(launch.argv, launch.argv[1:], strict=False))
        assert int(said["--tensor-parallel-size"]) * int(said.get("--data-parallel-size", "1")) == count
        assert int(said["--max-num-seqs"]) * int(said.get("--data-parallel-size", "1")) >= found.seats
        assert int(said["--max-model-len"]) == found.context_tokens
        assert int(said["--max-num-batched-tokens"]) >= int(said["--max-num-seqs"])
        if engine is EngineName.VLLM_ASCEND and variant.shape.kv_lora_rank is not None:
            assert int(heads) in ASCEND_HEADS
        if found.quantization == "W8A8" and engine is EngineName.VLLM_ASCEND:
            assert said["--quantization"] == "ascend"


EIGHT_L4 = "8 L4 22.5 / host 512"
A3 = "16 910C 64 / host 2048"


def test_cards_without_bf16_run_in_half() -> None:
    line = "4 T4 15 / host 128"
    t4 = next(p for p in plan(CATALOGUE, build(line), engines=(EngineName.VLLM,)).plans
              if p.quantization == "BF16")  # fmt: skip
    argv = vllm_launch(order(line, t4), site()).argv
    assert argv[argv.index("--dtype") + 1] == "half"


def test_a_container_gets_the_plans_cards_the_model_and_no_network() -> None:
    nvidia = best_plans(EIGHT_L4)[EngineName.VLLM]
    docker = vllm_launch(order(EIGHT_L4, nvidia), site(container=Container("docker", "vllm:1")))
    argv = " ".join(docker.argv)
    assert argv.startswith("docker run --rm --init --name r1box-")
    assert "--network none" in argv
    assert '--gpus "device=0,1,2,3,4,5,6,7"' in argv
    assert "--pull never" in argv
    assert "--env VLLM_API_KEY --" in argv
    assert "SECRET" not in argv
    assert "CUDA_VISIBLE_DEVICES" not in argv
    assert argv.endswith(" ".join(vllm_launch(order(EIGHT_L4, nvidia), site()).argv[1:]))
    assert docker.cleanup[:3] == ("docker", "rm", "--force")
    assert docker.cleanup[3] in docker.argv
    podman = vllm_launch(order(EIGHT_L4, nvidia), site(container=Container("podman", "vllm:1")))
    assert "nvidia.com/gpu=7" in podman.argv
    ascend = best_plans(A3)[EngineName.VLLM_ASCEND]
    huawei = " ".join(vllm_ascend_launch(order(A3, ascend), site(container=Container("docker", "a:1"))).argv)
    assert "--device /dev/davinci15 --device /dev/davinci_manager" in huawei
    assert "/usr/local/Ascend/driver/lib64:/usr/local/Ascend/driver/lib64:ro" in huawei


def test_what_the_operator_adds_comes_last() -> None:
    found = best_plans(EIGHT_L4)[EngineName.VLLM]
    assert vllm_launch(order(EIGHT_L4, found), site(more=("--kv-cache-dtype", "fp8"))).argv[-2:] == (
        "--kv-cache-dtype",
        "fp8",
    )


def test_a_socket_path_that_linux_would_not_take_is_refused() -> None:
    with pytest.raises(ValueError, match="too long"):
        socket_path(Path("/" + "x" * 100))


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name in BUILDERS:
        (GOLDEN / f"{name.value}.json").write_text(text_of(name), encoding="utf-8")
    (GOLDEN / "cluster.json").write_text(
        json.dumps(cluster_launches(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
