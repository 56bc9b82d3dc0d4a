"""Tokenizer, chat template and catalogue: what an import warns of, refuses, and recognises."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from models.errors import TemplateRefused
from models.gguf import read_header
from models.import_checks import (
    NO_PRE_TOKENIZER,
    NO_TEMPLATE,
    PRE_TOKENIZERS,
    ChatTemplateFacts,
    gguf_template,
    recognise,
    tokenizer_warnings,
)
from models.import_copy import hole_warnings
from models.importer import import_gguf, import_path
from models.model_store import ModelStore
from models.store_types import RecognisedBy
from models.types import Catalogue, CatalogueFile, Profile
from tests.fakes.gguf_writer import TEMPLATE, write_small
from tests.models.smollm2 import SMOLLM2
from tests.models.store_samples import ADDED, write_dense, write_hub_folder
from tests.models.test_gguf import write_r1_7b


@dataclass(frozen=True)
class Found:
    """What a template check says."""

    refusal: str | None = None
    warnings: tuple[str, ...] = ()


def test_a_known_pre_tokenizer_is_nothing_to_say(tmp_path: Path) -> None:
    assert {"deepseek-r1-qwen", "deepseek-v3", "llama-bpe", "qwen2", "deepseek-llm"} <= PRE_TOKENIZERS
    for name in ("deepseek-r1-qwen", "llama-bpe"):
        assert tokenizer_warnings(read_header(write_small(tmp_path / "a.gguf", tokenizer__ggml__pre=name))) == []
    assert tokenizer_warnings(read_header(SMOLLM2)) == []


def test_a_doubtful_pre_tokenizer_is_a_warning(store: ModelStore, tmp_path: Path) -> None:
    assert tokenizer_warnings(read_header(write_small(tmp_path / "a.gguf"))) == [NO_PRE_TOKENIZER]
    model = import_gguf(store, write_small(tmp_path / "b.gguf", tokenizer__ggml__pre="warp\x1b[9")).model
    assert any("'warp[9'" in w for w in model.warnings)
    spm = write_small(tmp_path / "c.gguf", tokenizer__ggml__model="llama")
    assert tokenizer_warnings(read_header(spm)) == []


def test_the_template_check_sees_the_models_tokens(store: ModelStore) -> None:
    seen: list[ChatTemplateFacts] = []

    def check(facts: ChatTemplateFacts) -> Found:
        seen.append(facts)
        return Found(warnings=("It is odd.",))

    model = import_gguf(store, SMOLLM2, check_template=check).model
    assert len(seen) == 1
    assert (seen[0].bos_token, seen[0].eos_token) == ("<|im_start|>", "<|im_end|>")
    assert "<|im_start|>" in seen[0].control_tokens
    assert seen[0].name == "SmolLM2-135M-Instruct"
    assert model.warnings == ("It is odd.",)
    assert store.get(model.id).warnings == model.warnings


def test_the_template_of_a_folder_is_checked_with_its_added_tokens(store: ModelStore, tmp_path: Path) -> None:
    seen: list[ChatTemplateFacts] = []

    def check(facts: ChatTemplateFacts) -> Found:
        seen.append(facts)
        return Found()

    import_path(store, write_hub_folder(tmp_path / "hub"), check_template=check)
    assert seen[0].control_tokens == frozenset(ADDED)
    assert (seen[0].bos_token, seen[0].eos_token) == (ADDED[0], ADDED[1])


def test_a_template_that_cannot_be_used_is_a_refusal(store: ModelStore, tmp_path: Path) -> None:
    with pytest.raises(TemplateRefused, match="it never ends") as caught:
        import_gguf(store, write_small(tmp_path / "a.gguf"), check_template=lambda _: Found("it never ends"))
    assert caught.value.hint
    assert store.list().models == ()


def test_no_template_is_a_warning_and_is_not_checked(store: ModelStore, tmp_path: Path) -> None:
    path = write_small(tmp_path / "a.gguf", tokenizer__chat_template=None)
    model = import_gguf(store, path, check_template=lambda _: pytest.fail("there is none")).model
    assert NO_TEMPLATE in model.warnings
    assert not model.has_chat_template
    assert gguf_template(read_header(path), "a") is None


def test_a_file_with_holes_is_suspected_of_being_unfinished(store: ModelStore, tmp_path: Path) -> None:
    sparse = write_small(tmp_path / "sparse.gguf", filler_bytes=20_000_000)
    model = import_gguf(store, sparse).model
    assert any("never written" in w for w in model.warnings)
    assert model.path.stat().st_blocks * 512 < 2_000_000, "the holes were kept"
    assert store.verify(model.id).sha256 == hashlib.sha256(sparse.read_bytes()).hexdigest()
    dense = import_gguf(store, write_dense(tmp_path / "dense.gguf", 5_000_000)).model
    assert not any("never written" in w for w in dense.warnings)
    assert hole_warnings(()) == []


def test_a_published_file_is_recognised_by_its_sha256(store: ModelStore, tmp_path: Path, catalogue: Catalogue) -> None:
    path = write_small(tmp_path / "anything.gguf")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    published = CatalogueFile("somebody/GGUF", "x.gguf", "Q8_0", sha256)
    variants = [
        msgspec.structs.replace(v, files=(*v.files, published)) if v.id == "R1-0528-Qwen3-8B" else v
        for v in catalogue.variants
    ]
    model = import_gguf(store, path, catalogue=msgspec.structs.replace(catalogue, variants=tuple(variants))).model
    assert (model.variant, model.recognised_by) == ("R1-0528-Qwen3-8B", RecognisedBy.SHA256)
    assert model.profile is Profile.R1_0528
    assert model.licence == catalogue.variants[[v.id for v in variants].index("R1-0528-Qwen3-8B")].licence
    assert store.get(model.id) == model
    with_own_licence = write_small(tmp_path / "other.gguf", seed=1, general__license="apache-2.0")
    other = import_gguf(store, with_own_licence).model
    assert (other.variant, other.recognised_by, other.profile) == (None, None, None)
    assert other.licence is not None
    assert other.licence.name == "apache-2.0"


def test_the_published_7b_header_is_recognised_by_its_shape(tmp_path: Path, catalogue: Catalogue) -> None:
    header = read_header(write_r1_7b(tmp_path / "weights.gguf"))

    def variant(**changes: object) -> str | None:
        facts = {
            "architecture": header.architecture,
            "shape": header.shape(),
            "parameters": header.parameters,
            "names": ["weights"],
            "template": header.chat_template,
        } | changes
        found = recognise(catalogue, set(), **facts)  # type: ignore[arg-type]
        assert found is None or found.by is RecognisedBy.SHAPE
        return found.variant.id if found else None

    assert variant() == "R1-Distill-Qwen-7B"
    assert variant(template=None) is None, "Qwen2.5-Math-7B has this shape too"
    assert variant(template=TEMPLATE, names=["DeepSeek-R1-Distill-Qwen-7B"]) == "R1-Distill-Qwen-7B"
    assert variant(template=None, names=["xr1x"]) is None
    assert variant(parameters=header.parameters // 2) is None
    assert variant(parameters=None) == "R1-Distill-Qwen-7B"
    assert variant(architecture="llama") is None


def test_the_generations_of_one_shape_are_told_apart_by_name(catalogue: Catalogue) -> None:
    old, new = catalogue.variant("R1-671B"), catalogue.variant("R1-0528-671B")
    assert old is not None
    assert new is not None
    for names, wanted in ((["DeepSeek-R1-Q8_0"], old.id), (["model", "DeepSeek-R1-0528"], new.id)):
        found = recognise(
            catalogue,
            set(),
            architecture="deepseek2",
            shape=old.shape,
            parameters=old.parameters,
            names=names,
            template=None,
        )
        assert found is not None
        assert found.variant.id == wanted
    v3 = recognise(
        catalogue,
        set(),
        architecture="deepseek2",
        shape=old.shape,
        parameters=old.parameters,
        names=["DeepSeek-V3.1"],
        template="{% if thinking %}<｜Assistant｜><think>{% else %}<｜Assistant｜></think>{% endif %}",
    )
    assert v3 is None
