"""The catalogue's data, and that a typing error in it never passes."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from models.catalogue import kv_elements_per_token, parse_catalogue
from models.errors import CatalogueInvalid
from models.types import Catalogue, Profile

TEXT = resources.files("models").joinpath("catalogue.toml").read_text(encoding="utf-8")

# Parameters, Q4_K_M tensor bytes, K+V elements per token: computed from the published shapes by llama.cpp 0c1e57098.
FACTS = {
    "R1-Distill-Qwen-1.5B": (1_777_088_000, 1_111_370_240, 14_336),
    "R1-Distill-Qwen-7B": (7_615_616_512, 4_677_120_000, 28_672),
    "R1-0528-Qwen3-8B": (8_190_735_360, 5_021_827_072, 73_728),
    "R1-Distill-Llama-8B": (8_030_261_248, 4_912_898_304, 65_536),
    "R1-Distill-Qwen-14B": (14_770_033_664, 8_982_142_976, 98_304),
    "R1-Distill-Qwen-32B": (32_763_876_352, 19_845_357_568, 131_072),
    "R1-Distill-Llama-70B": (70_553_706_496, 42_512_531_712, 163_840),
    "R1-671B": (671_026_419_200, 404_488_847_360, 35_136),
    "R1-0528-671B": (671_026_419_200, 404_488_847_360, 35_136),
}


def test_eight_variants_and_both_generations_of_the_largest(catalogue: Catalogue) -> None:
    assert {v.id for v in catalogue.variants} == set(FACTS)
    assert len({v.family for v in catalogue.variants}) == 8


@pytest.mark.parametrize("variant_id", FACTS)
def test_figures_are_those_of_the_facts(catalogue: Catalogue, variant_id: str) -> None:
    variant = catalogue.variant(variant_id)
    assert variant is not None
    size = variant.quantizations["Q4_K_M"]
    assert (variant.parameters, size.tensor_bytes, variant.kv_elements_per_token) == FACTS[variant_id]
    assert kv_elements_per_token(variant.shape) == variant.kv_elements_per_token


def test_published_files_are_tensor_bytes_and_metadata(catalogue: Catalogue) -> None:
    """Sizes of real files (gpt4all's list, huggingface.co) are met to 30 kB."""
    checked = 0
    for variant in catalogue.variants:
        for file in variant.files:
            if file.size_bytes is not None:
                computed = variant.quantizations[file.quantization].tensor_bytes + variant.metadata_bytes
                assert abs(computed - file.size_bytes) < 30_000, file.path
                checked += 1
    assert checked == 5


def test_profiles_and_licences(catalogue: Catalogue) -> None:
    second = {v.id for v in catalogue.variants if v.profile is Profile.R1_0528}
    assert second == {"R1-0528-671B", "R1-0528-Qwen3-8B"}
    for variant in catalogue.variants:
        assert variant.licence.name == "MIT"
        assert ("Llama" in variant.id) == (variant.licence.notice is not None)


def test_order_of_the_variants_is_that_of_gpqa(catalogue: Catalogue) -> None:
    ranked = sorted(catalogue.variants, key=lambda v: v.rank)
    scores = [v.scores.gpqa_diamond for v in ranked]
    assert scores == sorted(scores, reverse=True)


def test_order_of_the_quantizations_is_that_of_the_rule(catalogue: Catalogue) -> None:
    rule = ["Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "IQ4_XS", "Q4_0", "Q3_K_M", "IQ3_M", "IQ3_XXS", "Q2_K", "IQ1_S"]
    ranks = [catalogue.quantization_rank(name) for name in rule]
    assert ranks == sorted(ranks)
    with pytest.raises(KeyError):
        catalogue.quantization_rank("Q9_K")


def test_floors(catalogue: Catalogue) -> None:
    """1.5B nothing below Q5_K_M, 7B to 14B nothing below four bits, from 32B on three bits."""
    floors = {v.id: v.floor for v in catalogue.variants}
    assert floors["R1-Distill-Qwen-1.5B"] == "Q5_K_M"
    assert {floors[i] for i in FACTS if i.endswith(("7B", "8B", "14B"))} == {"Q4_0-pure"}
    assert floors["R1-Distill-Qwen-32B"] == floors["R1-Distill-Llama-70B"] == "IQ3_M"


def test_variant_is_found_whatever_the_case(catalogue: Catalogue) -> None:
    found = catalogue.variant("r1-distill-qwen-7b")
    assert found is not None
    assert found.id == "R1-Distill-Qwen-7B"
    assert catalogue.variant("R1-Distill-Qwen-8B") is None


def replaced(pattern: str, by: str, count: int = 1) -> str:
    text, done = re.subn(pattern, by, TEXT, count=count, flags=re.MULTILINE)
    assert done == count
    return text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("variants = 3", "variants"),
        ("schema = [", ""),
        (replaced(r"^schema = 1", "schema = 2"), "schema 2"),
        (replaced(r"^architecture = ", "architektur = "), "architektur"),
        (replaced(r"^profile = \"r1\"", 'profile = "r2"'), "r2"),
        (replaced(r"^parameters = 7615616512", 'parameters = "7615616512"'), "parameters"),
        (replaced(r"^layers = 28", "layers = 27"), "kv_elements_per_token"),
        (replaced(r"^layers = 28", "layers = 0"), "shape.layers"),
        (replaced(r"^Q4_K_M = ", "Q4_KM = "), "Q4_KM"),
        (replaced(r"tensor_bytes = 4677120000", "tensor_bytes = 467712000"), "bits per weight"),
        (replaced(r"^floor = \"IQ3_M\"", 'floor = "IQ3"'), "IQ3"),
        (replaced(r"sha256 = \"[0-9a-f]{64}\"", 'sha256 = "abc"'), "not a sha256"),
        (replaced(r"sha256 = \"([0-9a-f]{64})\"", r'sha256 = "\1", revision = "main"'), "a whole commit"),
        (replaced(r"^rank = 3", "rank = 4"), "rank 4 stands twice"),
        (replaced(r"layers = \[\[3, ", "layers = [[4, "), "62 layers are listed"),
        (replaced(r"layers = \[\[80, ", "layers = [[80, 1"), "bytes, "),
        (replaced(r"layers = \[\[80, ", "layers = [[79, 855638016], [1, -"), "runs of"),
        (replaced(r"^same_shape_as = \"R1-671B\"", 'same_shape_as = "R1-670B"'), "same_shape_as"),
        (replaced(r"^repository = \"deepseek-ai/", 'repository = "deepseek-ai '), "OWNER/NAME"),
        (replaced(r"^demoted_rank = 5\n", ""), "demoted"),
        (replaced(r"token_embd_bytes = 306561024", "token_embd_bytes = 5306561024"), "within the tensor bytes"),
    ],
)
def test_a_typing_error_is_a_typed_error_that_names_it(text: str, said: str) -> None:
    with pytest.raises(CatalogueInvalid) as caught:
        parse_catalogue(text, "changed.toml")
    assert said in caught.value.message
    assert "changed.toml" in caught.value.message
