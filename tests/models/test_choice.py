"""Why this engine: the sentence names the rule that decided."""

from __future__ import annotations

import pytest

from models.catalogue import load_catalogue
from models.choice import choose_engine, why_served_by
from models.planner import plan
from models.ranking import is_slow
from models.types import EngineName, PlanResult
from tests.models.golden_machines import LINES, build

CATALOGUE = load_catalogue()


def planned(line: str, installed: frozenset[EngineName] | None = None) -> PlanResult:
    return plan(CATALOGUE, build(line), engines=tuple(EngineName), installed=installed)


BETTER_VARIANT = "it has room for {}, {} for {}."


@pytest.mark.parametrize(
    ("line", "taken", "other", "why"),
    [
        (
            "16 910C 64 / host 2048",
            "vllm-ascend",
            "llama.cpp",
            BETTER_VARIANT.format("R1-0528-671B", "llama.cpp", "R1-Distill-Llama-70B"),
        ),
        (
            "8 L4 22.5 / host 512",
            "vllm",
            "llama.cpp",
            "FP8 keeps more of R1-Distill-Llama-70B than Q5_K_M, the best that fits with llama.cpp.",
        ),
        (
            "1 A100-80 80 / host 256",
            "llama.cpp",
            "vllm",
            BETTER_VARIANT.format("R1-Distill-Llama-70B", "vllm", "R1-Distill-Qwen-32B"),
        ),
    ],
)
def test_the_rule_that_decided_is_named(line: str, taken: str, other: str, why: str) -> None:
    choice = choose_engine(CATALOGUE, planned(line))
    assert choice is not None
    assert choice.reason == f"{taken} and not {other}: {why}"


def test_without_cards_there_is_no_other_engine() -> None:
    choice = choose_engine(CATALOGUE, planned("/ host 32"))
    assert choice is not None
    assert choice.reason == "llama.cpp: no other engine is for this machine."


def test_an_engine_that_is_not_installed_is_the_reason() -> None:
    choice = choose_engine(CATALOGUE, planned("16 910C 64 / host 2048", frozenset({EngineName.LLAMA_CPP})))
    assert choice is not None
    assert choice.taken.engine is EngineName.LLAMA_CPP
    assert choice.reason.endswith("is not installed on this box.")


@pytest.mark.parametrize("line", LINES)
def test_every_machine_has_its_reason_and_it_is_true(line: str) -> None:
    result = planned(line)
    choice = choose_engine(CATALOGUE, result)
    assert (choice is None) == (not result.plans)
    if choice is None:
        return
    assert choice.taken == result.plans[0]
    if choice.other is not None:
        assert (choice.other.engine is EngineName.LLAMA_CPP) != (choice.taken.engine is EngineName.LLAMA_CPP)
        assert "level" not in choice.reason
        if "too slow" in choice.reason:
            assert is_slow(choice.other)
            assert not is_slow(choice.taken)


def test_a_stored_models_engine_has_a_reason() -> None:
    best = planned("16 910C 64 / host 2048").plans
    big = next(one for one in best if one.engine is EngineName.VLLM_ASCEND)
    small = next(one for one in best if one.engine is EngineName.LLAMA_CPP)
    both = frozenset({EngineName.VLLM_ASCEND, EngineName.MINDIE})
    assert "goes before mindie" in why_served_by(big, both)
    assert why_served_by(small, frozenset()) == "llama.cpp serves GGUF."
    assert "would need it in safetensors" in why_served_by(small, both)
