"""Values of ``models``: what the catalogue says, what is installed, what fits and what does not.

Values that come straight out of a reviewed data file are msgspec structs, because msgspec checks the file against them
(unknown or missing fields are errors); everything else is a frozen dataclass.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import msgspec

from models.store_types import ModelFile, ModelFormat, Provenance, RecognisedBy

HOST = "host"
"""Name of the host's memory among devices in plans and errors."""


EXPERT_TENSORS = r"\.ffn_(up|down|gate|gate_up)_(ch|)exps"
"""Names of the routed experts' tensors in a GGUF, as a regular expression of C++ and Python (llama.cpp: --cpu-moe)."""


class EngineName(StrEnum):
    """What runs a model."""

    LLAMA_CPP = "llama.cpp"
    VLLM = "vllm"
    VLLM_ASCEND = "vllm-ascend"
    MINDIE = "mindie"


class KvType(StrEnum):
    """How keys and values of the context are stored."""

    F16 = "f16"
    Q8_0 = "q8_0"
    Q4_0 = "q4_0"


class Profile(StrEnum):
    """Which R1 contract a model keeps: ``r1`` (no system prompt, forced think tag) or ``r1-0528``."""

    R1 = "r1"
    R1_0528 = "r1-0528"


# --- the catalogue (checked by msgspec) ------------------------------------------------------------------------------


class ModelShape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Dimensions of a model, enough for every memory formula.

    ``kv_heads`` and ``key_length``/``value_length`` are as the attention computes them; with MLA (``kv_lora_rank`` set)
    the cache holds ``kv_lora_rank + rope_length`` elements per token and layer instead. ``context_length`` is what the
    model was trained for.
    """

    layers: int
    embedding_length: int
    feed_forward_length: int
    heads: int
    kv_heads: int
    key_length: int
    value_length: int
    vocab_size: int
    context_length: int
    rope_theta: float | None = None
    rope_scaling: str | None = None
    kv_lora_rank: int | None = None
    rope_length: int | None = None
    experts: int | None = None
    experts_used: int | None = None


class Licence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Under which terms the weights may be used, and what they derive from."""

    name: str
    derived_from: str | None = None
    notice: str | None = None


class Scores(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Published benchmark results in percent; ``None`` where none was published."""

    aime24_pass1: float
    gpqa_diamond: float
    math500: float | None = None
    livecodebench: float | None = None
    codeforces: int | None = None


class QuantizationBytes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Size of one variant in one quantization, without the GGUF's metadata.

    ``token_embd_bytes`` stay in host memory when all layers are on cards. ``exact`` is false where only a rounded size
    was published. ``bytes_per_token`` is what one decoded token reads (mixture of experts only).
    ``layers`` are the layers in their order, as runs of (how many, bytes of each), where the types of their tensors are
    known: mixtures such as Q4_K_M give some layers more bits, and the first three of the 671B are small.
    """

    tensor_bytes: int
    token_embd_bytes: int
    output_bytes: int
    exact: bool = True
    bytes_per_token: int | None = None
    layers: tuple[tuple[int, int], ...] = ()


class CatalogueFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A published GGUF whose hash is known. ``parts`` > 1: the path names the first file of a set. ``revision`` is the
    commit of the repository at which the hash was seen, where it is known: ``pull`` takes the file from there."""

    repository: str
    path: str
    quantization: str
    sha256: str
    size_bytes: int | None = None
    parts: int = 1
    source: str | None = None
    revision: str | None = None


class HubForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A published form in safetensors, for engines other than llama.cpp.

    ``form`` is a quantization of the catalogue (``AWQ``, ``W8A8``, ``BF16``, ...), ``repository`` its name on Hugging
    Face and ``modelscope`` that on ModelScope, either may be missing. ``weights_bytes`` where it was published, else
    the formula of ``models.hub_forms`` holds. ``experimental``: the engine's own document calls it so.
    """

    form: str
    engines: tuple[EngineName, ...]
    repository: str | None = None
    modelscope: str | None = None
    weights_bytes: int | None = None
    experimental: bool = False
    source: str | None = None


class Variant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One R1 model. ``rank`` orders variants by quality, 1 is the best.

    Below the quantization ``demoted_below`` the variant ranks as ``demoted_rank`` instead. ``floor`` is the lowest
    quantization that may be planned. ``family`` is the same for both generations of the 671B.
    """

    id: str
    family: str
    architecture: str
    profile: Profile
    parameters: int
    rank: int
    rank_reason: str
    floor: str
    floor_reason: str
    shape: ModelShape
    licence: Licence
    scores: Scores
    kv_elements_per_token: int
    metadata_bytes: int
    repository: str
    gguf_repositories: tuple[str, ...]
    quantizations: dict[str, QuantizationBytes]
    files: tuple[CatalogueFile, ...] = ()
    hub_forms: tuple[HubForm, ...] = ()
    demoted_below: str | None = None
    demoted_rank: int | None = None


class Quantization(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A way to store weights. ``added_perplexity`` is llama.cpp's own measurement on Llama-3-8B; the order of the
    quantizations in the catalogue is the order of quality. ``published`` is false where one has to make the file."""

    name: str
    added_perplexity: float | None = None
    published: bool = True
    note: str | None = None


class Catalogue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All variants and the order of the quantizations (best first)."""

    schema: int
    quantizations: tuple[Quantization, ...]
    variants: tuple[Variant, ...]

    def variant(self, variant_id: str) -> Variant | None:
        """The variant of this id, letter case aside."""
        wanted = variant_id.casefold()
        return next((v for v in self.variants if v.id.casefold() == wanted), None)

    def quantization_rank(self, name: str) -> int:
        """Place in the order of quality, 0 is the best. Raises ``KeyError`` for a name the catalogue lacks."""
        for place, quantization in enumerate(self.quantizations):
            if quantization.name == name:
                return place
        raise KeyError(name)


# --- plans -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """What one device (a ``Device.key`` or ``host``) holds of a plan. ``available_bytes`` is what is free there now;
    ``reserve_bytes`` is kept for the driver's context, pools and other programs and is part of ``total_bytes``, as is
    ``draft_bytes``, all that the draft model takes there: weights, cache and buffers."""

    device: str
    weights_bytes: int
    kv_bytes: int
    compute_bytes: int
    reserve_bytes: int
    available_bytes: int
    draft_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.kv_bytes + self.compute_bytes + self.reserve_bytes + self.draft_bytes


@dataclass(frozen=True, slots=True)
class SpeedBand:
    """Expected tokens per second of one stream."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class CounterOffer:
    """The largest seats x context that does fit where the wish did not."""

    seats: int
    context_tokens: int


@dataclass(frozen=True, slots=True)
class FitPlan:
    """A model with engine, placement and seats that fits.

    ``devices`` are ``Device.key`` in the order the layers lie on them, empty on the CPU. ``gpu_layers`` is 0 or all
    (layers + 1, the output counted); ``tensor_split`` has the layers of each device in the same order, the output
    counted on the last. The context is shared: the engine opens ``seats * context_tokens`` in one unified cache.
    ``reduced`` says that less than the wished or usual seats x context fitted. Engines other than llama.cpp split every
    layer over ``tensor_parallel`` devices, ``data_parallel`` times over, and take their weights from ``repository``;
    ``installed`` is false when the box does not have the engine yet. ``host_layers`` and ``experts_on_host`` say what
    stays in the host's memory because the operator allowed it. ``draft`` is the id of the model that guesses for it.
    ``attached``: a server that somebody else runs has it.
    """

    variant: str
    quantization: str
    engine: EngineName
    devices: tuple[str, ...]
    seats: int
    context_tokens: int
    kv_type: KvType
    flash_attention: bool
    ubatch_tokens: int
    gpu_layers: int
    tensor_split: tuple[int, ...]
    memory: tuple[MemoryEstimate, ...]
    file_bytes: int
    decode_tokens_per_s: SpeedBand | None = None
    reduced: bool = False
    notes: tuple[str, ...] = ()
    tensor_parallel: int = 1
    data_parallel: int = 1
    repository: str | None = None
    installed: bool = True
    host_layers: int = 0
    experts_on_host: bool = False
    draft: str | None = None
    attached: bool = False

    @property
    def total_context_tokens(self) -> int:
        return self.seats * self.context_tokens


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a variant in a quantization is not among the plans. Byte counts are ``None`` where memory is not the
    reason."""

    variant: str
    quantization: str
    engine: EngineName
    code: str
    reason: str
    needed_bytes: int | None = None
    available_bytes: int | None = None
    counter_offer: CounterOffer | None = None


@dataclass(frozen=True, slots=True)
class PlanResult:
    """``plans`` best first; ``rejections`` the nearest first. ``notes`` concern the machine (a card left out and
    why)."""

    plans: tuple[FitPlan, ...]
    rejections: tuple[Rejection, ...]
    notes: tuple[str, ...] = ()


# --- the store -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """A model in the store. ``imported_at`` is UTC in ISO 8601; ``source`` is the name of the file it came from,
    without its folder.

    ``path`` is the first of ``files`` (for a split GGUF the part that llama.cpp is given; it finds the others by their
    names) and ``size_bytes`` the sum of all. ``sha256`` is that of the file, or of the list of files where there are
    several (``store_manifest.content_sha256``). ``warnings`` were found when it was imported.
    """

    id: str
    name: str
    architecture: str
    quantization: str
    size_bytes: int
    sha256: str
    path: Path
    parameters: int
    context_length_trained: int
    has_chat_template: bool
    imported_at: str
    source: str
    files: tuple[ModelFile, ...] = ()
    format: ModelFormat = ModelFormat.GGUF
    variant: str | None = None
    recognised_by: RecognisedBy | None = None
    profile: Profile | None = None
    licence: Licence | None = None
    provenance: Provenance | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DamagedModel:
    """A folder of the store that does not hold what its manifest says."""

    id: str
    problem: str


@dataclass(frozen=True, slots=True)
class StoreListing:
    """What is installed, sorted by id, and what could not be read."""

    models: tuple[InstalledModel, ...]
    damaged: tuple[DamagedModel, ...] = field(default=())
