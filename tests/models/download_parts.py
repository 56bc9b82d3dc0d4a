"""What the tests of downloads share: a patience that waits for nobody, hubs on the fake server, a pull."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from models.catalogue import load_catalogue
from models.download import Choice, PullContext, choose, pull
from models.download_http import Patience
from models.download_select import make_request
from models.download_transfer import TransferOptions
from models.hubs import Hub, HubAccess, HubName, make_hub
from models.importer import ImportResult
from models.model_store import ModelStore
from models.store_types import ModelFormat
from models.types import PlanResult
from tests.fakes.hub import NO_FAULT, FakeHub, Fault, Seen
from tests.models.store_samples import write_dense

KIB = 1024
CHUNK_BYTES = 64 * KIB
OPTIONS = TransferOptions(workers=4, chunk_bytes=CHUNK_BYTES, run_chunks=2, commit_bytes=4 * CHUNK_BYTES)
RUN_BYTES = OPTIONS.run_chunks * CHUNK_BYTES
NAME = "Dense-Q8_0.gguf"
BOTH = (HubName.HUGGINGFACE, HubName.MODELSCOPE)
NO_PLANS = PlanResult((), ())


@dataclass
class Waits:
    """A patience's pauses: noted instead of waited."""

    seconds: list[float] = field(default_factory=list)

    def patience(self, attempts: int = 4) -> Patience:
        return Patience(attempts=attempts, pause=self._note, jitter=lambda: 1.0)

    def _note(self, _stop: threading.Event, seconds: float) -> None:
        self.seconds.append(seconds)


def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the machine's own proxies, mirrors and tokens."""
    import os

    for name in list(os.environ):
        if name.upper().endswith("_PROXY") or name.startswith(("HF_", "HUGGING", "MODELSCOPE_", "R1BOX_", "SSL_CERT")):
            monkeypatch.delenv(name)


def hub_at(
    fake: FakeHub, name: HubName = HubName.HUGGINGFACE, *, patience: Patience | None = None, token: str | None = None
) -> Hub:
    patience = patience or Waits().patience()
    return make_hub(HubAccess(name, fake.url, token=token, patience=patience, timeout_s=20))


def model_bytes(folder: Path, kib: int = 1024, seed: int = 0) -> bytes:
    """A sound small GGUF of about so many KiB, no two of them alike."""
    return write_dense(folder / f"dense-{kib}-{seed}.gguf", kib * KIB, seed=seed).read_bytes()


def choice_of(hubs: Hub | Sequence[Hub], target: str, form: ModelFormat = ModelFormat.GGUF) -> Choice:
    request = make_request(load_catalogue(), target, form, None, lambda: NO_PLANS)
    return choose(hubs if isinstance(hubs, Sequence) else [hubs], request)


def pull_from(
    store: ModelStore,
    hubs: Hub | Sequence[Hub],
    target: str,
    context: PullContext | None = None,
    *,
    form: ModelFormat = ModelFormat.GGUF,
) -> ImportResult:
    hubs = hubs if isinstance(hubs, Sequence) else [hubs]
    context = context or PullContext()
    if context.options == TransferOptions():
        context = replace(context, options=OPTIONS, others=hubs)
    return pull(store, choice_of(hubs, target, form), context)


def storage(fault: Callable[[Seen], Fault | None]) -> Callable[[Seen], Fault]:
    """Faults of the storage alone."""
    return lambda seen: (fault(seen) if seen.server == "storage" else None) or NO_FAULT


def at_request(number: int, fault: Fault) -> Callable[[Seen], Fault]:
    return storage(lambda seen: fault if seen.number == number else None)
