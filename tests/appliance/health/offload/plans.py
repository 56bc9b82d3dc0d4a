"""Plans and placements to judge."""

from __future__ import annotations

from pathlib import Path

from appliance.engine.base import BufferBytes, LoadPlacement
from appliance.engine.llamacpp.load_log import read_placement
from models.types import HOST, EngineName, FitPlan, KvType, MemoryEstimate, SpeedBand

MIB = 1024**2
GIB = 1024**3
LOGS = Path(__file__).parents[3] / "fixtures" / "load_logs"


BAND = SpeedBand(20.0, 30.0)


def plan(weights_mib: dict[str, float], speed: SpeedBand | None = BAND) -> FitPlan:
    """A plan with these weights on its devices; without devices all is on the host."""
    memory = [
        MemoryEstimate(key, int(size * MIB), 512 * MIB, 256 * MIB, GIB, 80 * GIB) for key, size in weights_mib.items()
    ]
    host = MemoryEstimate(HOST, 418 * MIB, 0, 16 * MIB, GIB, 200 * GIB)
    layers = 64
    return FitPlan(
        variant="R1-Distill-Qwen-32B",
        quantization="Q4_K_M",
        engine=EngineName.LLAMA_CPP,
        devices=tuple(weights_mib),
        seats=4,
        context_tokens=8192,
        kv_type=KvType.F16,
        flash_attention=True,
        ubatch_tokens=512,
        gpu_layers=layers + 1 if weights_mib else 0,
        tensor_split=(layers + 1,) if len(weights_mib) == 1 else (layers // 2, layers // 2 + 1),
        memory=(*memory, host),
        file_bytes=19 * GIB,
        decode_tokens_per_s=speed,
    )


def logged(name: str) -> LoadPlacement:
    """The placement that a published log tells."""
    found = read_placement((LOGS / name).read_text(encoding="utf-8").splitlines())
    assert found is not None
    return found


def placed(splits: int | None = 2, **weights_mib: float) -> LoadPlacement:
    """A placement of these weights, with 512 MiB of cache on each card."""
    buffers = {
        name: BufferBytes(int(size * MIB), 0 if name == HOST else 512 * MIB, 0) for name, size in weights_mib.items()
    }
    return LoadPlacement(buffers=buffers, layers_on_cards=65, layers=65, graph_splits=splits)
