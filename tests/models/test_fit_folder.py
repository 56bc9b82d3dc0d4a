"""Plans for models in safetensors that are in the store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from drivers.types import Vendor
from models.catalogue import load_catalogue
from models.errors import CannotCompute, ContextTooLong, NeedsOtherEngine, TooLarge
from models.fit_folder import FolderFacts, fit_folder, needs_half
from models.store_types import ModelFile, ModelFormat
from models.types import HOST, EngineName, FitPlan, InstalledModel
from tests.models.golden_machines import build

CATALOGUE = load_catalogue()
GIB = 1024**3


def stored(variant: str, form: str, gib: float, *, architecture: str = "qwen2", file: str = "") -> FolderFacts:
    names = ["config.json", "model.safetensors", *([file] if file else [])]
    files = tuple(ModelFile(n, int(gib * GIB) if n.endswith("tensors") else 1000, "0", Path(n)) for n in names)
    shape = CATALOGUE.variant(variant)
    assert shape is not None
    model = InstalledModel(
        id=f"{variant}-{form}".lower(), name=variant, architecture=architecture, quantization=form,
        size_bytes=int(gib * GIB), sha256="0", path=Path("config.json"), parameters=1, context_length_trained=131072,
        has_chat_template=True, imported_at="2026-01-01T00:00:00+00:00", source="x", files=files,
        format=ModelFormat.SAFETENSORS, variant=variant,
    )  # fmt: skip
    return FolderFacts(model, shape.shape)


def fit(facts: FolderFacts, line: str, *engines: EngineName, **wish: int) -> FitPlan:
    return fit_folder(facts, CATALOGUE, build(line), engines=engines or tuple(EngineName), **wish)


LLAMA_70B = stored("R1-Distill-Llama-70B", "FP8", 67.7, architecture="llama")
R1 = stored("R1-671B", "BF16", 640, architecture="deepseek2", file="quant_model_description.json")


def test_nvidia_takes_vllm_over_all_cards_that_pay() -> None:
    plan = fit(LLAMA_70B, "8 L20 44.5 / host 1024")
    assert (plan.engine, plan.tensor_parallel, plan.data_parallel) == (EngineName.VLLM, len(plan.devices), 1)
    assert (plan.seats, plan.context_tokens, plan.reduced) == (16, 32768, False)
    assert all(line.total_bytes <= line.available_bytes for line in plan.memory)


def test_ascend_takes_vllm_ascend_before_mindie_and_knows_model_slims_form() -> None:
    plan = fit(R1, "16 910C 64 / host 2048")
    assert (plan.engine, plan.quantization) == (EngineName.VLLM_ASCEND, "W8A8")
    assert (plan.tensor_parallel, plan.data_parallel) == (4, 4)
    assert fit(R1, "16 910C 64 / host 2048", EngineName.MINDIE).engine is EngineName.MINDIE


def test_a_chip_without_bf16_runs_it_in_f16() -> None:
    facts = stored("R1-0528-Qwen3-8B", "BF16", 15.3, architecture="qwen3")
    plan = fit(facts, "2 310P3 21.5 / host 64")
    assert (plan.engine, needs_half(plan)) == (EngineName.MINDIE, True)
    assert not needs_half(fit(facts, "1 910B3 64 / host 256"))


def test_seats_and_context_that_are_given_are_kept() -> None:
    plan = fit(LLAMA_70B, "8 L20 44.5 / host 1024", seats=3, context_tokens=5000)
    assert (plan.seats, plan.context_tokens) == (3, 5000)
    with pytest.raises(ContextTooLong):
        fit(LLAMA_70B, "8 L20 44.5 / host 1024", context_tokens=200_000)


def test_what_does_not_fit_has_its_numbers() -> None:
    with pytest.raises(TooLarge) as raised:
        fit(LLAMA_70B, "1 L20 44.5 / host 128")
    assert raised.value.details["needed_bytes"] > raised.value.details["available_bytes"] > 0


def test_an_engine_that_is_missing_is_named() -> None:
    with pytest.raises(CannotCompute, match="vllm serves safetensors on these cards, and none is installed"):
        fit(LLAMA_70B, "8 L20 44.5 / host 1024", EngineName.MINDIE)
    with pytest.raises(NeedsOtherEngine, match="vLLM"):
        fit_folder(LLAMA_70B, CATALOGUE, build("/ host 256"), engines=())


def test_a_form_that_the_cards_do_not_compute_is_said() -> None:
    with pytest.raises(CannotCompute, match="AWQ is not among them"):
        fit_folder(
            stored("R1-Distill-Qwen-32B", "AWQ", 18), CATALOGUE, build("8 910B3 64 / host 1024"),
            engines=tuple(EngineName), allow_cpu=False,
        )  # fmt: skip


def test_the_processor_serves_only_where_there_are_no_cards_or_it_may() -> None:
    facts = stored("R1-Distill-Qwen-1.5B", "BF16", 3.3)
    plan = fit(facts, "/ host 32")
    assert (plan.engine, plan.devices, plan.memory[0].device) == (EngineName.VLLM, (), HOST)
    with pytest.raises(CannotCompute):
        fit_folder(
            stored("R1-Distill-Qwen-32B", "AWQ", 18), CATALOGUE, build("8 910B3 64 / host 1024"),
            engines=tuple(EngineName), allow_cpu=False,
        )  # fmt: skip


def test_a_model_of_nobody_is_planned_from_its_config() -> None:
    facts = stored("R1-Distill-Qwen-7B", "BF16", 14.2)
    unknown = replace(facts, model=replace(facts.model, variant=None))
    plan = fit(unknown, "1 A100-80 80 / host 256")
    assert plan.variant == "R1-Distill-Qwen-7B"
    assert plan.tensor_parallel == 1


def test_vendors_are_not_mixed() -> None:
    plan = fit(stored("R1-Distill-Qwen-7B", "BF16", 14.2), "1 L20 44.5 + 1 310P3 21.5 / host 256")
    assert all(key.startswith(Vendor.NVIDIA) for key in plan.devices)
