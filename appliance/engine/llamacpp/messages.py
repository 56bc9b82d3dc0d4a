"""What daemon and worker say to each other: typed values in msgpack, one frame each.

A frame is its length in four bytes, big-endian, then that many bytes. ``PROTOCOL`` changes with any change here; the
worker says its own first, and the daemon refuses another one.
"""

from __future__ import annotations

import struct

import msgspec

PROTOCOL = 4
MAX_FRAME_BYTES = 64 * 1024 * 1024
"""Longest frame; a longer one means that the two sides have lost each other, and ends the worker."""

_LENGTH = struct.Struct(">I")
HEADER_BYTES = _LENGTH.size


class WorkerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How the worker loads its model.

    ``seats`` sequences run at the same time and each may hold ``seat_context`` tokens. ``cache_slots`` more keep what
    ended requests left, in cells that no running one needs. ``gpu_layers`` -1 puts all layers on the cards, 0 none.
    ``backend_dirs`` are folders with loadable ggml backends (CPU variants, CUDA, CANN).
    ``extra_buffers`` False keeps weights as they are in the file: no repacking, no AMX.
    ``draft_tokens`` of a sequence are guessed ahead at most, 0 for none; a small model that guesses too is at
    ``draft_model_path`` and goes onto the ``draft_device``-th device when this one is on cards.
    ``visible_tokens`` are control tokens that the text shows nevertheless, such as ``</think>`` where a converter
    marked it as control. ``tensor_split`` has the number of layers of each device.
    ``experts_on_host`` keeps the routed experts of a mixture in the host's memory and has the processor compute them.
    ``tier_memory_bytes`` bounds what is kept of idle chats in the host's memory, outside of the KV cache, and
    ``tier_disk_bytes`` what is kept in files below ``tier_dir``, sealed with the key in ``tier_key_file`` and bound to
    ``model_sha256``; 0 keeps nothing.
    """

    model_path: str
    seats: int
    seat_context: int
    threads: int
    cache_slots: int = 8
    batch_tokens: int = 2048
    ubatch_tokens: int = 512
    chunk_beside_decode: int = 128
    gpu_layers: int = -1
    flash_attention: bool | None = None
    kv_type: str = "f16"
    check_tensors: bool = False
    extra_buffers: bool = True
    backend_dirs: tuple[str, ...] = ()
    visible_tokens: tuple[str, ...] = ()
    tensor_split: tuple[int, ...] = ()
    draft_tokens: int = 24
    draft_model_path: str = ""
    draft_device: int = 0
    experts_on_host: bool = False
    tier_memory_bytes: int = 0
    tier_disk_bytes: int = 0
    tier_dir: str = ""
    tier_key_file: str = ""
    model_sha256: str = ""


class Sampling(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``appliance.engine.request.SamplingParams`` on the wire, with the seed decided."""

    seed: int
    temperature: float = 0.6
    top_p: float = 0.95
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repeat_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()


class Structure(msgspec.Struct, frozen=True):
    """``appliance.engine.request.Structure`` on the wire."""

    kind: str
    text: str = ""


class Thinking(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``appliance.engine.request.ThinkingControl`` on the wire."""

    opened: bool
    open_tokens: tuple[int, ...]
    close_tokens: tuple[int, ...]
    landing_tokens: tuple[int, ...]
    budget_tokens: int | None = None
    breaks_loops: bool = True


# -- daemon to worker ------------------------------------------------------------------------------------------


class Load(msgspec.Struct, frozen=True, tag="load"):
    """The first message: load this."""

    config: WorkerConfig


class Generate(msgspec.Struct, frozen=True, tag="generate"):
    """Start a sequence. ``owner`` is who is charged for it where seats are scarce; ``priority`` 0 goes before 1.
    ``structure``, ``logprobs`` and ``answer_tokens`` as in ``GenerationRequest``. ``repeatable``: its client gave the
    seed, so it takes no guesses. ``keeps_answer`` as in ``GenerationRequest``."""

    request_id: str
    prompt: list[int]
    max_tokens: int
    sampling: Sampling
    owner: str | None = None
    priority: int = 0
    structure: Structure | None = None
    logprobs: int | None = None
    thinking: Thinking | None = None
    answer_tokens: int | None = None
    repeatable: bool = False
    keeps_answer: bool = True


class Abort(msgspec.Struct, frozen=True, tag="abort"):
    """End a sequence; it answers with an ending unless it has ended already."""

    request_id: str


class AnswerNow(msgspec.Struct, frozen=True, tag="answer_now"):
    """End a sequence's thought soon; nothing where there is none."""

    request_id: str


class Tokenize(msgspec.Struct, frozen=True, tag="tokenize"):
    """Count and encode: (text, trusted) in order; only trusted text may hold control tokens."""

    call_id: int
    segments: list[tuple[str, bool]]
    add_bos: bool


class Share(msgspec.Struct, frozen=True, tag="share"):
    """From now on the worker may use so many threads, and keep so many bytes of idle chats in the host's memory and on
    disk: ``appliance.engine.shares``. Only what it was loaded with can change, not what was off."""

    threads: int
    tier_memory_bytes: int
    tier_disk_bytes: int


class Shutdown(msgspec.Struct, frozen=True, tag="shutdown"):
    """End the worker; it may take ``save_s`` seconds to write idle chats to disk."""

    save_s: float = 3.0


ToWorker = Load | Generate | Abort | AnswerNow | Tokenize | Share | Shutdown


# -- worker to daemon ------------------------------------------------------------------------------------------


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """The worker is up, before it loads anything."""

    protocol: int
    pid: int


class LoadProgress(msgspec.Struct, frozen=True, tag="load_progress"):
    """Fraction of the model file that is loaded, 0..1."""

    fraction: float


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The model is loaded; sizes as llama.cpp reports them. ``draft_problem`` is why its draft model is not used."""

    build: str
    backends: tuple[str, ...]
    seats: int
    seat_context: int
    vocabulary_size: int
    longest_token_bytes: int
    model_bytes: int
    draft_problem: str = ""


class LoadFailed(msgspec.Struct, frozen=True, tag="load_failed"):
    """The model cannot be loaded; the worker ends."""

    code: str
    message: str


TokenLogprob = tuple[bytes, float, tuple[tuple[bytes, float], ...]]
"""``appliance.engine.request.TokenLogprob`` on the wire."""


class Output(msgspec.Struct, frozen=True, array_like=True):
    """What one sequence got in a step: text of ``count`` new tokens, and its ending when ``finish`` is set.
    ``logprobs`` has one entry for each token of a request that asked for them."""

    request_id: str
    text: str = ""
    count: int = 0
    finish: str | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    message: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()
    thinking_end: str | None = None
    answer_looped: bool = False


class Counters(msgspec.Struct, frozen=True, array_like=True):
    """Totals since the load. ``decode_s`` is inside llama_decode, ``busy_s`` from a step's start to the next one's.

    The rest is as in ``appliance.engine.base.EngineStats``.
    """

    active: int = 0
    waiting: int = 0
    steps: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    preemptions: int = 0
    decode_s: float = 0.0
    busy_s: float = 0.0
    shared_tokens: int = 0
    prefix_waits: int = 0
    evictions: int = 0
    evicted_tokens: int = 0
    cells_used: int = 0
    cells: int = 0
    step_counts: tuple[int, ...] = ()
    step_s: float = 0.0
    longest_step_s: float = 0.0
    tier_hits: int = 0
    tier_hit_tokens: int = 0
    tier_saves: int = 0
    tier_saved_bytes: int = 0
    tier_restored_bytes: int = 0
    tier_drops: int = 0
    tier_failures: int = 0
    tier_memory_bytes: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    model_drafted_tokens: int = 0
    model_accepted_tokens: int = 0
    tier_disk_bytes: int = 0
    tier_disk_drops: int = 0


class Step(msgspec.Struct, frozen=True, tag="step"):
    """Everything that came out of one step."""

    outputs: list[Output]
    counters: Counters


class Tokens(msgspec.Struct, frozen=True, tag="tokens"):
    """Answer to ``Tokenize``."""

    call_id: int
    tokens: list[int]


FromWorker = Hello | LoadProgress | Ready | LoadFailed | Step | Tokens

_encoder = msgspec.msgpack.Encoder()
to_worker_decoder: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
from_worker_decoder: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)


class FrameError(Exception):
    """The other side sent something that is no frame of this protocol."""


def encode_frame(message: ToWorker | FromWorker) -> bytes:
    """The message as one frame. Raises FrameError when it is longer than a frame may be."""
    body = _encoder.encode(message)
    if len(body) > MAX_FRAME_BYTES:
        raise FrameError(f"a message of {len(body):,} bytes is longer than a frame may be ({MAX_FRAME_BYTES:,})")
    return _LENGTH.pack(len(body)) + body


def frame_length(header: bytes) -> int:
    """Length of the body that follows a header. Raises FrameError when no frame is that long."""
    (length,) = _LENGTH.unpack(header)
    if length > MAX_FRAME_BYTES:
        raise FrameError(f"a frame of {length:,} bytes was announced; the most is {MAX_FRAME_BYTES:,}")
    return int(length)
