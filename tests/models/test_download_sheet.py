"""The sheet of what to fetch elsewhere: from a hub's listing, and from the catalogue alone."""

from __future__ import annotations

import shlex

import pytest

from models.download_select import make_request, pick_files
from models.download_sheet import Sheet, known_sheet, sheet_of, size_text
from models.hubs import DEFAULT_BRANCHES, HubAccess, HubName, Listing, RemoteFile, make_hub
from models.store_types import ModelFormat
from models.types import Catalogue
from tests.models.download_parts import NO_PLANS

HF = make_hub(HubAccess(HubName.HUGGINGFACE, "https://huggingface.co"))
MS = make_hub(HubAccess(HubName.MODELSCOPE, "https://modelscope.cn"))
BOTH = {HubName.HUGGINGFACE: HF, HubName.MODELSCOPE: MS}


def known(catalogue: Catalogue, target: str, form: ModelFormat = ModelFormat.GGUF) -> Sheet:
    request = make_request(catalogue, target, form, None, lambda: NO_PLANS)
    sheet = known_sheet(request, BOTH, DEFAULT_BRANCHES)
    assert sheet is not None
    assert not sheet.from_hub
    return sheet


def test_a_file_the_catalogue_knows_to_the_byte(catalogue: Catalogue) -> None:
    sheet = known(catalogue, "qwen 7b:Q4_0")
    (row,) = sheet.rows
    assert row.url == (
        "https://huggingface.co/bartowski/DeepSeek-R1-Distill-Qwen-7B-GGUF/resolve/main/"
        "DeepSeek-R1-Distill-Qwen-7B-Q4_0.gguf"
    )
    sha256 = "5cd4ee65211770f1d99b4f6f4951780b9ef40e29314bd6542bb5bd0ad0bc29d1"
    assert row.line() == f"{row.url}  4,444,121,056 bytes  sha256 {sha256}"
    assert size_text(sheet) == "4.1 GiB"
    curl, aria = sheet.commands()
    assert shlex.split(curl) == ["curl", "-fL", "-C", "-", "-o", row.name, row.url]
    assert shlex.split(aria) == ["aria2c", "-c", "-x", "4", "-o", row.name, f"--checksum=sha-256={sha256}", row.url]


def test_a_size_that_was_reckoned_says_so(catalogue: Catalogue) -> None:
    (row,) = known(catalogue, "qwen 32b:Q5_K_S").rows
    assert row.name == "DeepSeek-R1-Distill-Qwen-32B-Q5_K_S.gguf"
    assert not row.is_exact
    assert "about 22,6" in row.line()
    assert "sha256 not known here" in row.line()


def test_reckoned_sizes_are_those_that_are_known(catalogue: Catalogue) -> None:
    """The four files whose size and quantization's bytes are both known lie within 20 kB."""
    checked = 0
    for variant in catalogue.variants:
        for file in variant.files:
            if file.size_bytes is not None and file.repository.startswith("bartowski/"):
                size = variant.quantizations[file.quantization].tensor_bytes + variant.metadata_bytes
                assert abs(size - file.size_bytes) < 64 * 1024, file.path
                checked += 1
    assert checked >= 4


def test_parts_of_a_set(catalogue: Catalogue) -> None:
    first, second = known(catalogue, "llama 70b:Q8_0").rows
    assert first.path.endswith("-Q8_0/DeepSeek-R1-Distill-Llama-70B-Q8_0-00001-of-00002.gguf")
    assert second.path.endswith("-Q8_0/DeepSeek-R1-Distill-Llama-70B-Q8_0-00002-of-00002.gguf")
    assert (first.sha256 is None, second.sha256) == (False, None)
    # Published in two parts too, under the same pattern; the hash is not known.
    assert len(known(catalogue, "llama 70b:Q6_K").rows) == 2


def test_a_repository_whose_names_are_not_known(catalogue: Catalogue) -> None:
    sheet = known(catalogue, "R1-671B:Q8_0")
    assert sheet.rows == ()
    assert sheet.lines() == ["https://huggingface.co/unsloth/DeepSeek-R1-GGUF-UD  (file names are not known here)"]
    assert sheet.commands() == []
    assert size_text(sheet) == "size not known here"


def test_a_safetensors_form(catalogue: Catalogue) -> None:
    sheet = known(catalogue, "qwen 32b:GPTQ-Int4", ModelFormat.SAFETENSORS)
    assert sheet.page_url == "https://modelscope.cn/models/tclf90/deepseek-r1-distill-qwen-32b-gptq-int4"


def test_a_named_file_of_a_named_repository(catalogue: Catalogue) -> None:
    (row,) = known(catalogue, "acme/R1@v1:R1 a$b.gguf").rows
    assert row.url == "https://huggingface.co/acme/R1/resolve/v1/R1%20a%24b.gguf"
    assert shlex.split(known(catalogue, "acme/R1@v1:R1 a$b.gguf").commands()[0])[5] == "R1 a$b.gguf"


@pytest.mark.parametrize("hub", [HF, MS])
def test_what_a_hub_lists(hub: HubAccess) -> None:
    files = tuple(
        RemoteFile(f"X-Q8_0-0000{n}-of-00002.gguf", 10 * n, f"https://hub/{n}", sha256=f"{n}" * 64) for n in (1, 2)
    )
    listing = Listing(HubName.HUGGINGFACE, "acme/R1", "c" * 40, files)
    sheet = sheet_of(hub, listing, pick_files(listing, ModelFormat.GGUF, "Q8_0"))  # type: ignore[arg-type]
    assert sheet.from_hub
    assert sheet.size_bytes == 30
    assert [row.sha256 for row in sheet.rows] == ["1" * 64, "2" * 64]
    assert len(sheet.commands()) == 3
