"""Every error speaks plainly, says what next and can be written as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models import errors

SAMPLES: list[errors.ModelError] = [
    errors.CatalogueInvalid("a typing error", "catalogue.toml"),
    errors.NotGguf(Path("a.bin"), "a PyTorch file"),
    errors.NotGguf(Path("a.bin")),
    errors.GitLfsPointer(Path("a.gguf"), 4_683_073_248),
    errors.GgufTruncated(Path("a.gguf"), 100, 60, "tensor 'x'"),
    errors.UnsupportedGgufVersion(Path("a.gguf"), 7),
    errors.UnsupportedGgufVersion(Path("a.gguf"), 3, big_endian=True),
    errors.CorruptHeader(Path("a.gguf"), "general.alignment", "is 3", 77),
    errors.UnsupportedArchitecture(Path("a.gguf"), "warp"),
    errors.UnsupportedTensorType(Path("a.gguf"), "x", 99),
    errors.SplitSetIncomplete(Path("a-00001-of-00009.gguf"), [f"a-0000{n}-of-00009.gguf" for n in range(2, 10)], 9),
    errors.SplitSetInconsistent(Path("a.gguf"), "is part 2 of 3, its name says something else"),
    errors.ModelFolderUnusable(Path("folder"), "it holds 2 models (a, b)", "Give the file."),
    errors.PickleRefused(Path("folder"), ["pytorch_model.bin"]),
    errors.TemplateRefused(Path("a.gguf"), "line 3: unexpected end of template"),
    errors.NeedsOtherEngine("r1", "safetensors"),
    errors.ModelIsDefault("r1"),
    errors.ModelInUse("r1"),
    errors.ImportRunning("bundle r1"),
    errors.BudgetExceeded(Path("store"), 50, 70, 100, ["r1-q8_0"]),
    errors.BudgetExceeded(Path("store"), 50, 70, 100, []),
    errors.NotAChatModel(Path("a.gguf"), "it brings no tokenizer"),
    errors.ImportSourceUnreadable(Path("a.gguf"), "there is no such file", "Check the path."),
    errors.ImportSourceChanged(Path("a.gguf"), "it was written to"),
    errors.TooLarge("R1", 100, 50, "host", 4, 8192),
    errors.CannotCompute("R1", "K-quants are computed on the processor"),
    errors.MemoryUnknown("host"),
    errors.ContextTooLong("R1", 9, 8),
    errors.VariantUnknown("R1-9B", ["R1-7B"]),
    errors.VariantUnknown("R1-9B", []),
    errors.ModelNotFound("x", ["y"]),
    errors.ModelNotFound("x", [], empty=True),
    errors.ModelNotFound("x", []),
    errors.ModelIdAmbiguous("r1", ["r1-a", "r1-b"]),
    errors.ModelDamaged("r1", "its bytes have changed"),
    errors.NoSpace(Path("store"), 100, 50),
    errors.NoSpace(Path("store"), 100, 50, ["r1-q8_0"]),
    errors.StoreNotWritable(Path("store"), "Permission denied"),
]


@pytest.mark.parametrize("error", SAMPLES, ids=lambda e: type(e).__name__)
def test_error_is_plain_actionable_and_json(error: errors.ModelError) -> None:
    assert error.message[0].isupper() or error.message[0] in "'a"
    assert error.message.endswith(".")
    assert error.hint
    assert 400 <= error.http_status < 600
    assert str(error) == error.message
    assert json.loads(json.dumps(error.details)) == error.details


def test_every_error_class_is_sampled_and_has_its_own_code() -> None:
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.ModelError)]
    leaves = [c for c in classes if c not in (errors.ModelError, errors.ModelFileError)]
    assert {type(e) for e in SAMPLES} == set(leaves)
    assert len({c.code for c in leaves}) == len(leaves)


def test_names_from_a_file_cannot_steer_a_terminal() -> None:
    error = errors.CorruptHeader(Path("a.gguf"), "evil\x1b[2J\u202ekey", "bad")
    assert "\x1b" not in error.message
    assert "\u202e" not in error.message


@pytest.mark.parametrize(
    ("size", "said"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (98_362_432, "93.8 MiB"), (4_683_073_248, "4.4 GiB")],
)
def test_human_bytes(size: int, said: str) -> None:
    assert errors.human_bytes(size) == said
