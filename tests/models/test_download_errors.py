"""Every error of a download speaks plainly, says what next and can be written as JSON."""

from __future__ import annotations

import json

import pytest

from models import download_errors as errors
from models import errors as base

SAMPLES: list[errors.DownloadError] = [
    errors.TargetUnusable("a/b/c", "it is not OWNER/REPOSITORY"),
    errors.NotPublished("Q9", "R1-671B", ["Q8_0"]),
    errors.NotPublished("Q9", "R1-671B", []),
    errors.ChoiceAmbiguous("R1", ["R1-671B", "R1-0528-671B"]),
    errors.NothingFits("R1", "R1-Distill-Qwen-1.5B Q4_K_M: too large."),
    errors.NothingFits("R1", None),
    errors.HubUnreachable("huggingface.co", "there is no route to it"),
    errors.HubUnreachable("huggingface.co", "there is no route to it", ["https://x  1 bytes  sha256 y"]),
    errors.HubRefused("huggingface.co", "a/b", 403, with_token=True, variable="HF_TOKEN"),
    errors.HubRefused("huggingface.co", "a/b", 401, with_token=False, variable="HF_TOKEN"),
    errors.RepositoryUnknown("huggingface.co", "a/b"),
    errors.RepositoryUnknown("huggingface.co", "a/b", "v1"),
    errors.HubBusy("huggingface.co", 503),
    errors.HubBusy("huggingface.co", 429, 60.0),
    errors.HubAnswerUnusable("huggingface.co", "a web page, 'Sign in'", is_page=True),
    errors.HubAnswerUnusable("huggingface.co", "HTTP 418"),
    errors.DownloadInterrupted("a.gguf", "huggingface.co", "the connection broke", 5),
    errors.HubFileChanged("a.gguf", "huggingface.co", "it has 5 bytes, 6 were listed"),
    errors.HashMismatch("a.gguf", "a" * 64, "b" * 64),
    errors.HashMismatch("a.gguf", "a" * 64, "b" * 64, [1, 2]),
    errors.CatalogueHashConflict("a.gguf", "c" * 40, "a" * 64, "b" * 64),
    errors.HubFileReplaced("a.gguf", "acme/R1", "c" * 40, "a" * 64, "b" * 64, where="in the catalogue"),
    errors.CertificatesUnusable("/etc/r1box/ca.pem", "it holds no certificates"),
    errors.TokenFileUnsafe("/etc/r1box/token", "others may read it (mode 0644)"),
]


@pytest.mark.parametrize("error", SAMPLES, ids=lambda e: type(e).__name__)
def test_error_is_plain_actionable_and_json(error: errors.DownloadError) -> None:
    assert error.message.endswith(".")
    assert error.hint
    assert 400 <= error.http_status < 600
    assert json.loads(json.dumps(error.details)) == error.details


def test_every_error_is_sampled_and_has_its_own_code() -> None:
    classes = {c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.DownloadError)}
    leaves = classes - {errors.DownloadError}
    assert {type(e) for e in SAMPLES} == leaves
    others = {c.code for c in vars(base).values() if isinstance(c, type) and issubclass(c, base.ModelError)}
    codes = [c.code for c in leaves]
    assert len(set(codes)) == len(codes)
    assert not others & set(codes)
