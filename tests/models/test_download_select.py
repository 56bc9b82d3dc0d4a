"""What the operator's words mean, and which files of a repository they are."""

from __future__ import annotations

import pytest

from models.download_errors import ChoiceAmbiguous, NothingFits, NotPublished, TargetUnusable
from models.download_select import Request, make_request, pick_files
from models.errors import VariantUnknown
from models.hubs import HubName, Listing, RemoteFile
from models.planner import plan
from models.store_types import ModelFormat
from models.types import Catalogue, EngineName, PlanResult
from tests.models.machines import ALL, CPU_4, EIGHT_H20, RTX_4090, TWO_910B3

GGUF, SAFETENSORS = ModelFormat.GGUF, ModelFormat.SAFETENSORS


def no_plans() -> PlanResult:
    raise AssertionError("nobody asked for auto")


def request(catalogue: Catalogue, target: str, form: ModelFormat = GGUF, revision: str | None = None) -> Request:
    return make_request(catalogue, target, form, revision, no_plans)


def listing(*paths: str) -> Listing:
    files = tuple(RemoteFile(path, 100, f"http://hub/{path}") for path in paths)
    return Listing(HubName.HUGGINGFACE, "acme/R1", "c" * 40, files)


def names(files: tuple[RemoteFile, ...]) -> list[str]:
    return [file.path for file in files]


# --- targets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["R1-Distill-Qwen-7B:Q4_K_M", "qwen 7b:q4_k_m", "qwen-7b: Q4_K_M "])
def test_a_variant_in_a_quantization(catalogue: Catalogue, target: str) -> None:
    wanted = request(catalogue, target)
    assert wanted.variant is not None
    assert (wanted.variant.id, wanted.wanted, wanted.title) == (
        "R1-Distill-Qwen-7B", "Q4_K_M", "R1-Distill-Qwen-7B:Q4_K_M",
    )  # fmt: skip
    first = wanted.candidates[0]
    assert first.names[HubName.HUGGINGFACE] == "bartowski/DeepSeek-R1-Distill-Qwen-7B-GGUF"
    assert first.names[HubName.MODELSCOPE] == "bartowski/DeepSeek-R1-Distill-Qwen-7B-GGUF"
    assert [entry.quantization for entry in first.known] == ["Q4_K_M"]
    assert len(wanted.candidates) == len(wanted.variant.gguf_repositories)


def test_a_repository_with_a_known_hash_goes_first(catalogue: Catalogue) -> None:
    candidates = request(catalogue, "qwen 7b:Q6_K").candidates
    assert candidates[0].names[HubName.HUGGINGFACE] == "lmstudio-community/DeepSeek-R1-Distill-Qwen-7B-GGUF"
    assert candidates[0].known


def test_every_published_form_of_every_variant_can_be_asked_for(catalogue: Catalogue) -> None:
    published = {q.name for q in catalogue.quantizations if q.published}
    for variant in catalogue.variants:
        for name in variant.quantizations:
            if name in published:
                assert request(catalogue, f"{variant.id}:{name}").candidates, (variant.id, name)
        for form in variant.hub_forms:
            assert request(catalogue, f"{variant.id}:{form.form}", SAFETENSORS).candidates, (variant.id, form)


def test_a_form_only_one_hub_has(catalogue: Catalogue) -> None:
    (candidate,) = request(catalogue, "qwen 32b:GPTQ-Int4", SAFETENSORS).candidates
    assert candidate.names == {HubName.MODELSCOPE: "tclf90/deepseek-r1-distill-qwen-32b-gptq-int4"}


def test_what_nobody_publishes_is_made_here(catalogue: Catalogue) -> None:
    with pytest.raises(NotPublished) as caught:
        request(catalogue, "qwen 7b:Q4_0-pure")
    assert caught.value.hint == "Pull R1-Distill-Qwen-7B:BF16 and make it here: r1box models requantize"


def test_a_safetensors_form_must_be_asked_for(catalogue: Catalogue) -> None:
    with pytest.raises(NotPublished) as caught:
        request(catalogue, "qwen 32b:AWQ")
    assert "--format safetensors" in str(caught.value.hint)


@pytest.mark.parametrize("target", ["qwen 7b:Q9_X", "qwen 7b:UD-Q2_K_XL"])
def test_a_form_that_is_not_published(catalogue: Catalogue, target: str) -> None:
    with pytest.raises(NotPublished) as caught:
        request(catalogue, target)
    assert "Q4_K_M" in str(caught.value.details["there"])


def test_two_generations_are_not_one(catalogue: Catalogue) -> None:
    with pytest.raises(ChoiceAmbiguous) as caught:
        request(catalogue, "R1:Q4_K_M")
    assert caught.value.details["candidates"] == ["R1-671B", "R1-0528-671B"]


def test_an_unknown_variant(catalogue: Catalogue) -> None:
    with pytest.raises(VariantUnknown):
        request(catalogue, "gemma:Q4_K_M")


@pytest.mark.parametrize(
    ("target", "repository", "revision", "file"),
    [
        ("acme/R1", "acme/R1", None, None),
        ("acme/R1:Q4_0", "acme/R1", None, "Q4_0"),
        ("acme/R1@v1.0:sub/R1-Q4_0.gguf", "acme/R1", "v1.0", "sub/R1-Q4_0.gguf"),
    ],
)
def test_a_repository(
    catalogue: Catalogue, target: str, repository: str, revision: str | None, file: str | None
) -> None:
    wanted = request(catalogue, target)
    (candidate,) = wanted.candidates
    assert set(candidate.names.values()) == {repository}
    assert (candidate.revision, wanted.wanted, wanted.variant) == (revision, file, None)


def test_a_revision_given_beside(catalogue: Catalogue) -> None:
    assert request(catalogue, "acme/R1", revision="v2").candidates[0].revision == "v2"
    assert request(catalogue, "acme/R1@v2", revision="v2").candidates[0].revision == "v2"
    with pytest.raises(TargetUnusable, match="the revision v1"):
        request(catalogue, "acme/R1@v1", revision="v2")
    with pytest.raises(TargetUnusable, match="belongs to a repository"):
        request(catalogue, "qwen 7b:Q4_0", revision="v2")


@pytest.mark.parametrize(
    "target", ["", ":", ":Q4_0", "a/b/c", "https://hub/acme/R1", "acme/", "/R1", "acme/R1@", "../..", "a/.."]
)
def test_what_means_nothing(catalogue: Catalogue, target: str) -> None:
    with pytest.raises(TargetUnusable):
        request(catalogue, target)


def test_a_file_of_a_safetensors_repository(catalogue: Catalogue) -> None:
    with pytest.raises(TargetUnusable, match="as a whole"):
        request(catalogue, "acme/R1:config.json", SAFETENSORS)


# --- auto ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", ALL)
@pytest.mark.parametrize("form", [GGUF, SAFETENSORS])
def test_auto_is_the_planners_best_that_is_published(catalogue: Catalogue, machine: str, form: ModelFormat) -> None:
    result = plan(catalogue, ALL[machine], engines=tuple(EngineName))
    published = {q.name for q in catalogue.quantizations if q.published}
    is_gguf = form is GGUF
    good = [
        p for p in result.plans
        if (p.engine is EngineName.LLAMA_CPP) == is_gguf and p.quantization in published
    ]  # fmt: skip
    if not good:
        with pytest.raises(NothingFits):
            make_request(catalogue, "auto", form, None, lambda: result)
        return
    wanted = make_request(catalogue, "auto", form, None, lambda: result)
    assert wanted.title == f"{good[0].variant}:{good[0].quantization}"
    assert wanted.notes[0].startswith(f"Best published form for this machine: {good[0].variant}")


def test_auto_of_one_variant(catalogue: Catalogue) -> None:
    result = plan(catalogue, RTX_4090)
    for target in ("qwen 7b", "qwen 7b:auto", "qwen 7b:AUTO"):
        assert make_request(catalogue, target, GGUF, None, lambda: result).title == "R1-Distill-Qwen-7B:Q8_0"


def test_auto_says_what_would_rank_higher_if_somebody_made_it(catalogue: Catalogue) -> None:
    pure = [p for p in plan(catalogue, TWO_910B3).plans if p.quantization == "Q4_0-pure"]
    assert pure
    only = PlanResult((pure[0], *plan(catalogue, TWO_910B3).plans), ())
    wanted = make_request(catalogue, "auto", GGUF, None, lambda: only)
    assert wanted.notes[1] == (
        f"{pure[0].variant} Q4_0-pure would rank higher here; nobody publishes it: r1box models requantize makes it."
    )


def test_auto_where_nothing_fits(catalogue: Catalogue) -> None:
    result = plan(catalogue, CPU_4)
    rejected = next(r for r in result.rejections if r.variant == "R1-Distill-Llama-70B")
    with pytest.raises(NothingFits) as caught:
        make_request(catalogue, "llama 70b", GGUF, None, lambda: result)
    assert rejected.reason in caught.value.message


def test_auto_of_the_large_model_is_either_generation(catalogue: Catalogue) -> None:
    result = plan(catalogue, EIGHT_H20)
    wanted = make_request(catalogue, "R1", GGUF, None, lambda: result)
    assert wanted.variant is not None
    assert wanted.variant.family == "R1-671B"


# --- files -----------------------------------------------------------------------------------------------------------

BARTOWSKI = listing(
    ".gitattributes", "README.md", "X.imatrix", "X-Q4_K_M.gguf", "X-Q4_K_L.gguf", "X-Q8_0.gguf", "X-f16.gguf",
    "X-IQ4_XS.gguf", "mmproj-X-f16.gguf", "X-imatrix.gguf",
)  # fmt: skip
UNSLOTH = listing(
    *(f"UD-Q2_K_XL/X-UD-Q2_K_XL-0000{n}-of-00003.gguf" for n in (3, 1, 2)),
    *(f"Q2_K/X-Q2_K-0000{n}-of-00002.gguf" for n in (1, 2)),
    "X-UD-IQ1_S.gguf", "X-BF16.gguf", "broken/X-Q6_K-00001-of-00003.gguf", "broken/X-Q6_K-00003-of-00003.gguf",
)  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "path"),
    [
        ("Q4_K_M", "X-Q4_K_M.gguf"),
        ("Q4_K_L", "X-Q4_K_L.gguf"),
        ("q8_0", "X-Q8_0.gguf"),
        ("F16", "X-f16.gguf"),
        ("X-IQ4_XS.gguf", "X-IQ4_XS.gguf"),
    ],
)
def test_one_file(wanted: str, path: str) -> None:
    assert names(pick_files(BARTOWSKI, GGUF, wanted)) == [path]


@pytest.mark.parametrize(
    "wanted", ["UD-Q2_K_XL", "ud-q2_k_xl", "X-UD-Q2_K_XL-00002-of-00003.gguf", UNSLOTH.files[0].path]
)
def test_all_parts_of_a_set_in_order(wanted: str) -> None:
    assert names(pick_files(UNSLOTH, GGUF, wanted)) == [
        f"UD-Q2_K_XL/X-UD-Q2_K_XL-0000{n}-of-00003.gguf" for n in (1, 2, 3)
    ]


def test_a_dynamic_form_is_not_the_plain_one() -> None:
    assert names(pick_files(UNSLOTH, GGUF, "Q2_K"))[0] == "Q2_K/X-Q2_K-00001-of-00002.gguf"
    with pytest.raises(NotPublished):
        pick_files(UNSLOTH, GGUF, "IQ1_S")
    with pytest.raises(NotPublished):
        pick_files(UNSLOTH, GGUF, "F16")


def test_an_unfinished_upload() -> None:
    with pytest.raises(NotPublished) as caught:
        pick_files(UNSLOTH, GGUF, "Q6_K")
    assert "Missing: X-Q6_K-00002-of-00003.gguf" in str(caught.value.hint)


def test_the_only_model_needs_no_name() -> None:
    assert names(pick_files(listing("a.gguf", "README.md"), GGUF, None)) == ["a.gguf"]
    with pytest.raises(ChoiceAmbiguous):
        pick_files(BARTOWSKI, GGUF, None)
    with pytest.raises(NotPublished, match="no GGUF file"):
        pick_files(listing("README.md"), GGUF, None)


def test_two_files_of_one_quantization() -> None:
    with pytest.raises(ChoiceAmbiguous) as caught:
        pick_files(listing("a-Q8_0.gguf", "b-Q8_0.gguf"), GGUF, "Q8_0")
    assert caught.value.details["candidates"] == ["acme/R1:a-Q8_0.gguf", "acme/R1:b-Q8_0.gguf"]


def test_a_whole_safetensors_repository() -> None:
    files = listing(
        "model-00002-of-00002.safetensors", "config.json", "model-00001-of-00002.safetensors", "tokenizer.json",
        "model.safetensors.index.json", "pytorch_model.bin", "weights.pt", "modeling_x.py", ".gitattributes",
        "onnx/model.onnx", "original/consolidated.00.pth", "LICENSE", "figures/bench.jpg", "x.gguf", "bad name.json",
    )  # fmt: skip
    assert names(pick_files(files, SAFETENSORS, None)) == [
        "config.json", "LICENSE", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
        "model.safetensors.index.json", "tokenizer.json",
    ]  # fmt: skip


@pytest.mark.parametrize("paths", [["config.json", "pytorch_model.bin"], ["model.safetensors"], ["sub/config.json"]])
def test_no_safetensors_model(paths: list[str]) -> None:
    with pytest.raises(NotPublished):
        pick_files(listing(*paths), SAFETENSORS, None)
