"""A site's own catalogue entries."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.catalogue import load_catalogue
from models.errors import CatalogueInvalid
from models.planner import plan
from models.site_catalogue import MAX_FILE_BYTES, load_site_catalogue, parse_site_file, site_schema
from models.types import EngineName
from tests.models.golden_machines import build

SHA256 = "ab" * 32
ADDITION = f"""
schema = 1
[[additions]]
variant = "r1-distill-qwen-14b"
gguf_repositories = ["our-hub/R1-14B-GGUF"]
files = [
  {{ repository = "our-hub/R1-14B-GGUF", path = "r1-14b-q8_0.gguf", quantization = "Q8_0", sha256 = "{SHA256}" }},
]
hub_forms = [{{ form = "W8A8", engines = ["vllm-ascend"], repository = "our-hub/R1-14B-W8A8" }}]
"""


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    return folder


def test_without_a_folder_it_is_the_one_that_ships(tmp_path: Path) -> None:
    assert load_site_catalogue(None) == load_catalogue()
    assert load_site_catalogue(tmp_path / "absent") == load_catalogue()


def test_additions_are_planned(tmp_path: Path) -> None:
    catalogue = load_site_catalogue(write(tmp_path / "site", ours=ADDITION))
    variant = catalogue.variant("R1-Distill-Qwen-14B")
    assert variant is not None
    assert variant.gguf_repositories[0] == "our-hub/R1-14B-GGUF"
    assert variant.files[0].sha256 == SHA256
    plans = plan(catalogue, build("1 910B3 64 / host 256"), engines=(EngineName.VLLM_ASCEND,)).plans
    found = next(p for p in plans if p.repository == "our-hub/R1-14B-W8A8")
    assert (found.variant, found.quantization) == ("R1-Distill-Qwen-14B", "W8A8")


def test_a_sites_hash_replaces_ours(tmp_path: Path) -> None:
    ours = load_catalogue().variant("R1-Distill-Qwen-7B")
    assert ours is not None
    old = ours.files[0]
    text = f"""
schema = 1
[[additions]]
variant = "R1-Distill-Qwen-7B"
files = [{{ repository = "{old.repository}", path = "{old.path}", quantization = "{old.quantization}", sha256 = "{SHA256}" }}]
"""  # noqa: E501
    variant = load_site_catalogue(write(tmp_path / "site", a=text)).variant("R1-Distill-Qwen-7B")
    assert variant is not None
    assert [file.sha256 for file in variant.files if file.path == old.path] == [SHA256]
    assert len(variant.files) == len(ours.files)


def test_a_whole_variant(tmp_path: Path) -> None:
    text = """
schema = 1
[[variants]]
id = "R1-Ward-1.5B"
family = "R1-Ward-1.5B"
architecture = "qwen2"
profile = "r1"
parameters = 1777088000
rank = 99
rank_reason = "trained on the ward's own questions"
floor = "Q8_0"
floor_reason = "small"
kv_elements_per_token = 14336
metadata_bytes = 5950000
repository = "our-hub/R1-Ward"
gguf_repositories = ["our-hub/R1-Ward-GGUF"]
licence = { name = "MIT" }
scores = { aime24_pass1 = 28.9, gpqa_diamond = 33.8 }
[variants.shape]
layers = 28
embedding_length = 1536
feed_forward_length = 8960
heads = 12
kv_heads = 2
key_length = 128
value_length = 128
vocab_size = 151936
context_length = 131072
[variants.quantizations]
Q8_0 = { tensor_bytes = 1888581632, token_embd_bytes = 247959552, output_bytes = 247959552 }
"""
    catalogue = load_site_catalogue(write(tmp_path / "site", ward=text))
    plans = plan(catalogue, build("1 T4 15 / host 32")).plans
    assert any(p.variant == "R1-Ward-1.5B" for p in plans)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("schema = 2", "schema 2"),
        ("schema = ", "Invalid value"),
        ("schema = 1\nadditons = []", "additons"),
        ('schema = 1\n[[additions]]\nvariant = "R1-Nope"', "no variant 'R1-Nope'"),
        (ADDITION.replace(SHA256, "xyz"), "not a sha256"),
        (ADDITION.replace("our-hub/R1-14B-GGUF", "../../etc"), "is not OWNER/NAME"),
        (ADDITION.replace('"W8A8"', '"W3A3"'), "W3A3"),
        (ADDITION.replace('["vllm-ascend"]', '["llama.cpp"]'), "not llama.cpp"),
    ],
)
def test_a_mistake_names_file_and_entry(tmp_path: Path, text: str, says: str) -> None:
    folder = write(tmp_path / "site", a=ADDITION, b=text)
    with pytest.raises(CatalogueInvalid) as caught:
        load_site_catalogue(folder)
    assert "b.toml" in caught.value.message
    assert says in caught.value.message


def test_a_variant_that_ships_cannot_be_given_anew() -> None:
    shipped = load_catalogue().variants[0]
    with pytest.raises(CatalogueInvalid, match=r"x\.toml"):
        parse_site_file(f'schema = 1\n[[variants]]\nid = "{shipped.id}"', "x.toml")


def test_files_are_bounded(tmp_path: Path) -> None:
    with pytest.raises(CatalogueInvalid, match="larger than"):
        load_site_catalogue(write(tmp_path / "large", a="#" * (MAX_FILE_BYTES + 1)))
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "a.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(CatalogueInvalid, match="not UTF-8"):
        load_site_catalogue(tmp_path / "odd")


def test_schema_describes_a_file() -> None:
    schema = site_schema()
    assert set(schema["$defs"]["SiteFile"]["properties"]) == {"schema", "additions", "variants"}
