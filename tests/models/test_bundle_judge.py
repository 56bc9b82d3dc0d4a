"""A bundle is judged by its manifest as its model is judged after the import."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import msgspec
import pytest

from drivers.types import HardwareSnapshot, Vendor
from models.bundle.create import CreateOptions, Sticks, make_manifest, source_of_path
from models.bundle.facts import gguf_hardware
from models.bundle.judge import header_of, judge
from models.bundle.layout import StickSpace
from models.bundle.manifest import BundleManifest
from models.errors import ModelError
from models.fit import fit_installed
from models.gguf import read_header
from models.gguf_header import GgufHeader
from models.store_types import ModelFormat
from models.types import EngineName, FitPlan, ModelShape
from tests.fakes.gguf_writer import small_metadata, small_tensors, write_gguf
from tests.models import machines
from tests.models.store_samples import write_hub_folder

GIB = 1024**3


def manifest_of(path: Path) -> BundleManifest:
    sticks = Sticks((StickSpace(),), lambda *_: path)
    return make_manifest(source_of_path(path), sticks, options=CreateOptions(chunk_bytes=2**26))


def outcome(header: GgufHeader, snapshot: HardwareSnapshot) -> dict[str, object] | tuple[str, object]:
    """What the planner says, without the name of the model."""
    try:
        plan = fit_installed(header, snapshot)
    except ModelError as error:
        return error.code, {k: v for k, v in error.details.items() if k != "model"}
    return {f.name: getattr(plan, f.name) for f in fields(FitPlan) if f.name != "variant"}


def model(path: Path, kind: str) -> Path:
    """A file of that kind; its data is a hole, so that it may have the size of a real model."""
    options: dict[str, object] = {}
    architecture, tensors = "qwen2", small_tensors()
    if kind == "tied":
        tensors = small_tensors(output=False)
    elif kind == "mixed types":
        tensors += [("blk.1.ffn_down.weight", (256, 300), "Q4_K"), ("blk.0.x.weight", (64, 9), "F16")]
    elif kind == "unequal layers":
        tensors.append(("blk.1.ffn_down.weight", (32, 4000), "Q8_0"))
    elif kind == "mla":
        architecture, options = "deepseek2", {**MLA, **SPLIT_MLA}
    elif kind == "legacy mla":
        architecture, options = "deepseek2", dict(MLA)
    elif kind == "seven billion":
        options = {"block_count": 28, "embedding_length": 3584, "feed_forward_length": 18944, "context_length": 131072}
        options |= {"attention.head_count": 28, "attention.head_count_kv": 4}
        tensors = [("token_embd.weight", (3584, 152064), "Q8_0"), ("output.weight", (3584, 152064), "Q8_0")]
        tensors += [(f"blk.{n}.all.weight", (3584, 65_000), "Q8_0") for n in range(28)]
    metadata = small_metadata(architecture)
    metadata |= {f"{architecture}.{name}": value for name, value in options.items()}
    return write_gguf(path, metadata, tensors)


MLA = {
    "attention.kv_lora_rank": 32,
    "rope.dimension_count": 16,
    "attention.key_length": 48,
    "attention.value_length": 32,
    "expert_count": 8,
    "expert_used_count": 2,
}
SPLIT_MLA = {"attention.key_length_mla": 24, "attention.value_length_mla": 16}
KINDS = ["plain", "tied", "mixed types", "mla", "legacy mla", "unequal layers", "seven billion"]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> BundleManifest:
    return manifest_of(model(tmp_path_factory.mktemp("m") / "Small-R1-Q8_0.gguf", "plain"))


def manifest_for(small: BundleManifest, header: GgufHeader) -> BundleManifest:
    """The manifest of a model whose bytes nobody needs to hash for this."""
    hardware = gguf_hardware(header, header.shape(), None)
    replaced = msgspec.structs.replace
    named = replaced(small.model, architecture=header.architecture, quantization=header.quantization)
    file = replaced(small.files[0], size_bytes=header.file_bytes)
    return replaced(small, hardware=hardware, model=named, files=(file,))


@pytest.mark.parametrize("kind", KINDS)
def test_the_manifest_gives_the_verdict_of_the_file(tmp_path: Path, small: BundleManifest, kind: str) -> None:
    real = read_header(model(tmp_path / "Model.gguf", kind))
    made = header_of(manifest_for(small, real))
    assert made.shape() == real.shape()
    assert made.matrix_types == real.matrix_types
    assert made.is_legacy_mla == real.is_legacy_mla == (kind == "legacy mla")
    assert made.quantization == real.quantization
    assert made.tensor_bytes == real.tensor_bytes
    for name, snapshot in machines.ALL.items():
        assert outcome(made, snapshot) == outcome(real, snapshot), name


def test_what_fits_and_what_does_not(tmp_path: Path, small: BundleManifest) -> None:
    manifest = manifest_for(small, read_header(model(tmp_path / "Model.gguf", "seven billion")))
    fits = judge(manifest, machines.RTX_4090)
    assert fits.fits is True
    assert fits.plan is not None
    assert fits.plan.devices == ("nvidia:0",)
    assert fits.engine is EngineName.LLAMA_CPP
    assert "seats x" in fits.reason
    too_small = judge(manifest, machines.CPU_4)
    assert too_small.fits is False
    assert too_small.needed_bytes is not None
    assert too_small.available_bytes is not None
    assert too_small.needed_bytes > too_small.available_bytes
    assert "GiB are there" in too_small.reason
    gate = judge(manifest, machines.ONE_DUO_96)  # Q8_0: the 310P computes F16 alone
    assert gate.fits is False
    assert gate.needed_bytes is None
    assert judge(manifest, machines.CPU_24).fits is True


def test_never_silently_on_the_processor(tmp_path: Path, small: BundleManifest) -> None:
    """A card that is taken, and host memory enough: it is not used."""
    manifest = manifest_for(small, read_header(model(tmp_path / "Model.gguf", "seven billion")))
    crowded = replace(machines.RTX_4090.devices[0], memory_free_bytes=4 * machines.GIB)
    verdict = judge(manifest, replace(machines.RTX_4090, devices=(crowded,)))
    assert verdict.fits is False
    other = [Vendor.ASCEND]  # llama.cpp without CUDA: only the processor is left
    assert judge(manifest, machines.T4, usable_vendors=other).fits is False
    assert judge(manifest, machines.T4, usable_vendors=other, allow_cpu=True).fits is True


def test_unknown_memory_is_not_guessed(small: BundleManifest) -> None:
    host = replace(machines.CPU_24.host, memory_available_bytes=None)
    verdict = judge(small, replace(machines.CPU_24, host=host))
    assert verdict.fits is None
    assert "not known" in verdict.reason


R1 = ModelShape(
    layers=61, embedding_length=7168, feed_forward_length=18432, heads=128, kv_heads=1, key_length=192,
    value_length=128, vocab_size=129280, context_length=163840, kv_lora_rank=512, rope_length=64, experts=256,
    experts_used=8,
)  # fmt: skip


def safetensors_manifest(
    small: BundleManifest, form: str, weights: int, engines: tuple[EngineName, ...]
) -> BundleManifest:
    replaced = msgspec.structs.replace
    hardware = replaced(
        small.hardware, shape=R1, weights_bytes=weights, repeating_bytes=weights, expert_bytes=weights * 95 // 100,
        embedding_bytes=0, output_bytes=0, engines=engines, matrix_types=(),
    )  # fmt: skip
    named = replaced(small.model, format=ModelFormat.SAFETENSORS, quantization=form, architecture="deepseek2")
    return replaced(small, hardware=hardware, model=named)


@pytest.mark.parametrize(
    ("form", "weights_gb", "engines", "machine", "fits"),
    [
        ("FP8", 690, (EngineName.VLLM,), "8xH20", True),
        ("FP8", 690, (EngineName.VLLM,), "rtx-4090", False),
        ("W8A8", 690, (EngineName.VLLM_ASCEND, EngineName.MINDIE), "8x910B1", False),
        ("W8A8", 50, (EngineName.VLLM_ASCEND, EngineName.MINDIE), "8x910B1", True),
        ("FP8", 50, (EngineName.VLLM,), "8x910B1", False),
        ("FP8", 50, (EngineName.VLLM,), "cpu-24", False),
    ],
)
def test_safetensors_are_placed_on_cards(
    small: BundleManifest, form: str, weights_gb: int, engines: tuple[EngineName, ...], machine: str, fits: bool
) -> None:
    verdict = judge(safetensors_manifest(small, form, weights_gb * 10**9, engines), machines.ALL[machine])
    assert verdict.fits is fits
    assert verdict.reason
    if fits:
        assert verdict.engine in engines


def test_safetensors_of_a_real_folder(tmp_path: Path) -> None:
    manifest = manifest_of(write_hub_folder(tmp_path / "R1-Small"))
    assert judge(manifest, machines.RTX_4090).fits is True
    assert judge(manifest, machines.CPU_24).fits is False
