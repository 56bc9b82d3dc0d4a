"""From what was decided about a model to the engine that runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from appliance.engine.base import Engine
from appliance.engine.llamacpp.engine import LlamaCppEngine
from appliance.engine.llamacpp.messages import WorkerConfig
from appliance.engine.shares import BoxShares


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """What to run and how: the outcome of a fit plan. ``gpu_layers`` -1 is all of them, 0 none; fewer than all are the
    last ones. ``experts_on_host`` keeps the routed experts of those layers in the host's memory.

    ``tensor_split`` has the layers of each device, in the order in which ``environment`` shows them to the engine.
    ``visible_tokens`` are control tokens that belong in the text (a profile's thinking and tool tags).
    ``tier_memory_bytes`` of the host's memory may keep idle chats, and ``tier_disk_bytes`` of ``tier_dir``, sealed with
    the key in ``tier_key_file`` and bound to ``model_sha256``. ``speculates``: tokens are guessed ahead where that
    pays, by the model at ``draft_model_path`` too, which goes onto the ``draft_device``-th device.
    ``on_processor``: the processor computes a part of it at least.
    """

    model_path: Path
    seats: int
    context_tokens: int
    threads: int
    gpu_layers: int = 0
    kv_type: str = "f16"
    flash_attention: bool | None = None
    ubatch_tokens: int = 512
    tensor_split: tuple[int, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    backend_dirs: tuple[Path, ...] = ()
    visible_tokens: tuple[str, ...] = ()
    experts_on_host: bool = False
    tier_memory_bytes: int = 0
    tier_disk_bytes: int = 0
    tier_dir: Path | None = None
    tier_key_file: Path | None = None
    model_sha256: str = ""
    speculates: bool = True
    draft_model_path: Path | None = None
    draft_device: int = 0
    on_processor: bool = True


DRAFT_TOKENS = 24
"""Tokens of a sequence that are guessed ahead at most."""


def worker_config(spec: EngineSpec) -> WorkerConfig:
    """The spec in the worker's words."""
    return WorkerConfig(
        model_path=str(spec.model_path),
        seats=spec.seats,
        seat_context=spec.context_tokens,
        threads=spec.threads,
        batch_tokens=max(512, spec.seats),
        ubatch_tokens=spec.ubatch_tokens,
        gpu_layers=spec.gpu_layers,
        kv_type=spec.kv_type,
        flash_attention=spec.flash_attention,
        backend_dirs=tuple(str(folder) for folder in spec.backend_dirs),
        visible_tokens=spec.visible_tokens,
        tensor_split=spec.tensor_split,
        draft_tokens=DRAFT_TOKENS if spec.speculates else 0,
        draft_model_path="" if spec.draft_model_path is None else str(spec.draft_model_path),
        draft_device=spec.draft_device,
        experts_on_host=spec.experts_on_host,
        tier_memory_bytes=spec.tier_memory_bytes,
        tier_disk_bytes=spec.tier_disk_bytes,
        tier_dir=str(spec.tier_dir or ""),
        tier_key_file=str(spec.tier_key_file or ""),
        model_sha256=spec.model_sha256,
    )


class LlamaCppFactory:
    """Makes the engines of one model, one after the other: a restart makes a new one.

    A later engine starts as the one before ended up starting, so that kernels that crash here are tried once, not at
    every restart. Must be called inside the event loop that will use the engine.
    """

    def __init__(self, spec: EngineSpec, shares: BoxShares | None = None) -> None:
        """``shares`` divides what the box has once among the engines of all its models."""
        self._shares = shares
        self._on_processor = spec.on_processor
        self._environment = spec.environment
        self._config = worker_config(spec)
        self._last: LlamaCppEngine | None = None

    def __call__(self) -> Engine:
        """An engine that has not been started."""
        if self._last is not None:
            self._config = self._last.config
        self._last = LlamaCppEngine(
            self._config, environment=self._environment, shares=self._shares, on_processor=self._on_processor
        )
        return self._last
