"""Loads a model, runs step plans, tokenizes.

C calls through ``llama_cpp.llama_cpp`` (ctypes); the order of calls follows ``llama.h`` of llama.cpp 0c1e57098, which
llama-cpp-python 0.3.36 carries. Nothing here is asynchronous; ``tokenize`` may be called from another thread than
``run``, because a vocabulary is read-only after the load.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import llama_cpp

from appliance.engine.llamacpp.messages import Ready, Sampling, WorkerConfig
from appliance.engine.llamacpp.runner.backends import host_overrides, install_log, load_backends
from appliance.engine.llamacpp.runner.batch import Batch
from appliance.engine.llamacpp.runner.draft import DraftModel, Proposals
from appliance.engine.llamacpp.runner.errors import LoadError
from appliance.engine.llamacpp.runner.sampling import Sampler
from appliance.engine.llamacpp.runner.state import SequenceState, state_identity
from appliance.engine.llamacpp.runner.structure import StructureCompiler
from appliance.engine.llamacpp.runner.warm_up import PROMPT_TOKENS, warm_up
from appliance.engine.llamacpp.sampler import Draw, SamplingFailed
from appliance.engine.llamacpp.step import (
    DecodeStatus,
    Measured,
    SlotCopy,
    SlotSave,
    SlotTokens,
    SlotTrim,
    StepPlan,
    StepResult,
)
from appliance.engine.llamacpp.thought import word_marks
from models.types import EXPERT_TENSORS

_KV_TYPES = {"f16": 1, "q8_0": 8, "q4_0": 2}
"""enum ggml_type (ggml.h) of the KV types that are offered."""

_CONTROL_ATTRIBUTE = 1 << 3
"""LLAMA_TOKEN_ATTR_CONTROL (llama.h)."""


class Runner:
    """One loaded model with one context. Close it before the interpreter ends: llama.cpp frees device memory then."""

    def __init__(self, config: WorkerConfig, on_progress: Callable[[float], None]) -> None:
        """Load the model. Raises LoadError; what was loaded is freed again then."""
        self._config = config
        self._samplers: dict[str, Sampler] = {}
        self._drops_tails = True
        self.blocks: dict[bytes, Any] = {}
        """Bytes of saved blocks by their names; the worker forgets and adds them between steps."""
        self.bytes_per_token = 0.0
        """What a token takes when it is saved, from ``warm_up`` on."""
        self._model: Any = None
        self._context: Any = None
        self._draft: DraftModel | None = None
        self._draft_problem = ""
        install_log()
        self._backends = load_backends(config.backend_dirs)
        llama_cpp.llama_backend_init()
        try:
            self._load_model(on_progress)
            self._create_context()
        except BaseException:
            self.close()
            raise
        self._vocab = llama_cpp.llama_model_get_vocab(self._model)
        self._memory = llama_cpp.llama_get_memory(self._context)
        self.vocabulary_size = int(llama_cpp.llama_vocab_n_tokens(self._vocab))
        self._texts, self._pieces = self._read_pieces()
        self.marks = word_marks(self._pieces)
        self.breaks = frozenset(token for token, piece in enumerate(self._pieces) if piece and not piece.strip(b"\n"))
        self._structures: StructureCompiler | None = None
        self._batch = Batch(config.batch_tokens)
        self._state = SequenceState(self._context, self._memory, spare=self.slots)
        self._load_draft()

    # -- loading ----------------------------------------------------------------------------------------------------

    def _load_model(self, on_progress: Callable[[float], None]) -> None:
        config = self._config
        parameters = llama_cpp.llama_model_default_params()
        parameters.n_gpu_layers = config.gpu_layers
        parameters.check_tensors = config.check_tensors
        parameters.use_extra_bufts = config.extra_buffers
        if len(config.tensor_split) > 1:
            split = (ctypes.c_float * llama_cpp.llama_max_devices())(*config.tensor_split)
            parameters.tensor_split = ctypes.cast(split, ctypes.POINTER(ctypes.c_float))

        overrides = host_overrides(EXPERT_TENSORS) if config.experts_on_host else host_overrides()
        parameters.tensor_buft_overrides = ctypes.cast(overrides, ctypes.c_void_p)

        def progress(fraction: float, _user_data: object) -> bool:
            on_progress(float(fraction))
            return True

        # The reference must live as long as the load: ctypes frees the thunk with it.
        callback = llama_cpp.llama_progress_callback(progress)
        parameters.progress_callback = callback
        self._model = llama_cpp.llama_model_load_from_file(config.model_path.encode(), parameters)
        if not self._model:
            raise LoadError("model_load_failed", "llama.cpp cannot load this file; the log above says why")
        if llama_cpp.llama_model_has_encoder(self._model) or not llama_cpp.llama_model_has_decoder(self._model):
            raise LoadError("not_a_chat_model", "the file holds no decoder model, so it cannot answer")

    def _create_context(self) -> None:
        config = self._config
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = config.seats * config.seat_context
        parameters.n_batch = config.batch_tokens
        parameters.n_ubatch = min(config.ubatch_tokens, config.batch_tokens)
        # One more than the slots: a sequence through which parts of slots are saved and restored.
        parameters.n_seq_max = self.slots + 1
        # llama.cpp would otherwise reserve n_batch rows of logits, which for R1's vocabulary is most of the compute
        # buffer.
        parameters.n_outputs_max = self.outputs
        parameters.n_threads = config.threads
        parameters.n_threads_batch = config.threads
        parameters.type_k = parameters.type_v = _KV_TYPES[config.kv_type]
        if config.flash_attention is not None:
            parameters.flash_attn_type = int(config.flash_attention)
        # One pool of cells for all sequences: a step that mixes them is then one ubatch.
        parameters.kv_unified = True
        # What lies on the host is copied to a card for prompts; experts are not: hundreds of gigabytes for 512 tokens.
        parameters.op_offload = not config.experts_on_host
        parameters.no_perf = True
        self._context = llama_cpp.llama_init_from_model(self._model, parameters)
        if not self._context:
            raise LoadError(
                "context_failed",
                f"no memory for {config.seats} seats of {config.seat_context:,} tokens; lower --seats or --context",
            )

    def _load_draft(self) -> None:
        """Load the draft model. The model works without it, so what is wrong with it is only told."""
        if self._config.draft_model_path and self._config.draft_tokens and self.shares:
            try:
                self._draft = DraftModel(self._config, self._vocab)
            except LoadError as problem:
                self._draft_problem = str(problem)

    def ready(self) -> Ready:
        """What was loaded, as llama.cpp reports it."""
        description = ctypes.create_string_buffer(256)
        llama_cpp.llama_model_desc(self._model, description, len(description))
        return Ready(
            build=f"llama-cpp-python {llama_cpp.__version__}; {description.value.decode(errors='replace')}",
            backends=self._backends,
            seats=self._config.seats,
            seat_context=self._config.seat_context,
            vocabulary_size=self.vocabulary_size,
            longest_token_bytes=max(map(len, self._pieces), default=1) or 1,
            model_bytes=int(llama_cpp.llama_model_size(self._model)),
            draft_problem=self._draft_problem,
        )

    def identity(self) -> bytes | None:
        """What saved bytes depend on: equal for runners that share them; None when the model has no name."""
        return state_identity(self._model, self._context, self._config, self.ready())

    @property
    def shares(self) -> bool:
        """Whether a slot can drop its tail and give its beginning to another: recurrent, hybrid and sliding-window
        memories cannot (llama.cpp #13194), nor what else refused to drop a tail when it was tried."""
        return self._drops_tails and not (
            llama_cpp.llama_model_is_recurrent(self._model)
            or llama_cpp.llama_model_is_hybrid(self._model)
            or llama_cpp.llama_model_n_swa(self._model) > 0
        )

    @property
    def slots(self) -> int:
        """Sequences that the memory keeps apart: the seats, and more that only keep what was computed. A recurrent
        model's slots have a state each that costs memory, and could not be shared: it has none beyond its seats."""
        more = self._config.cache_slots if self.shares else 0
        return max(
            self._config.seats, min(self._config.seats + more, int(llama_cpp.llama_max_parallel_sequences()) - 1)
        )

    @property
    def outputs(self) -> int:
        """Tokens of a step that may have logits: one for each sequence that can run, so that those which do not are
        room for guesses. llama.cpp wants no fewer than its sequences, which are one more than the slots."""
        return self.slots + 1

    def warm_up(self) -> list[Measured]:
        """Compute what is usual, before the first user; how long that took (``warm_up``). Raises LoadError."""
        draft = self._config.draft_tokens if self.shares else 0
        tokens = [token % self.vocabulary_size for token in range(1, PROMPT_TOKENS + 1)]
        tokens = tokens[: self._config.seat_context - 2]
        room = min(self.outputs, draft + 1, self._config.seat_context - len(tokens))
        measured, held = warm_up(self.run, tokens, room)
        if self.shares:
            self.bytes_per_token = self._state.size_bytes(0) / held
        self._drops_tails = bool(llama_cpp.llama_memory_seq_rm(self._memory, 0, held // 2, -1))
        llama_cpp.llama_memory_clear(self._memory, True)
        self._samplers.clear()
        if self._draft is not None:
            measured.append(Measured(1, 0, 0.0, draft_pass_s=self._draft.warm_up()))
        return measured

    # -- vocabulary -------------------------------------------------------------------------------------------------

    def _read_pieces(self) -> tuple[list[bytes], list[bytes]]:
        """Bytes of every token, and what of them is shown: nothing of control tokens.

        Read once: about 0.1 s for 150,000 tokens, then a list look-up per token.
        """
        size = 256
        buffer = ctypes.create_string_buffer(size)
        visible = {text.encode() for text in self._config.visible_tokens}
        texts: list[bytes] = []
        pieces: list[bytes] = []
        for token in range(self.vocabulary_size):
            length = llama_cpp.llama_token_to_piece(self._vocab, token, buffer, size, 0, True)
            if length < 0:
                size = -length
                buffer = ctypes.create_string_buffer(size)
                length = llama_cpp.llama_token_to_piece(self._vocab, token, buffer, size, 0, True)
            piece = buffer.raw[:length]
            control = llama_cpp.llama_vocab_get_attr(self._vocab, token) & _CONTROL_ATTRIBUTE
            texts.append(piece)
            pieces.append(b"" if control and piece not in visible else piece)
        return texts, pieces

    def piece(self, token: int) -> bytes:
        """Bytes that a token adds to the text; none for control tokens."""
        return self._pieces[token]

    def token_text(self, token: int) -> bytes:
        """Bytes of a token, a control token's name too."""
        return self._texts[token]

    @property
    def structures(self) -> StructureCompiler:
        """What compiles structured answers' forms; made on first use (0.2 s for 49,000 tokens), which may be in
        another thread than ``run``'s, but always in the same one."""
        if self._structures is None:
            self._structures = StructureCompiler(self._vocab, self._texts)
        return self._structures

    def tokenize(self, segments: Sequence[tuple[str, bool]], *, add_bos: bool) -> list[int]:
        """Tokens of (text, trusted) segments; in a segment that is not trusted control tokens are plain text."""
        tokens: list[int] = []
        for index, (text, trusted) in enumerate(segments):
            data = text.encode()
            count = -(len(data) + 2)
            while count < 0:
                buffer = (llama_cpp.llama_token * -count)()
                begins = add_bos and index == 0
                count = llama_cpp.llama_tokenize(self._vocab, data, len(data), buffer, len(buffer), begins, trusted)
            tokens.extend(buffer[:count])
        return tokens

    # -- steps ------------------------------------------------------------------------------------------------------

    def run(self, plan: StepPlan) -> StepResult:
        """Compute one plan: save, change the memory, restore, decode once, sample. Never raises for what llama_decode
        returns."""
        for request_id in plan.ended:
            self._samplers.pop(request_id, None)
            if self._draft is not None:
                self._draft.forget(request_id)
        if not (plan.saves or plan.restores):
            return self._compute(plan, [])
        started = time.perf_counter()
        saved = [self._save(save) for save in plan.saves]
        save_s = time.perf_counter() - started
        restored: list[bool] = []
        result = self._compute(plan, restored)
        return replace(result, saved=saved, restored=restored, save_s=save_s)

    def _save(self, save: SlotSave) -> int:
        """Bytes that were saved, 0 when llama.cpp did not give them."""
        data = self._state.save(save.slot, save.start, save.end)
        if data is None:
            return 0
        self.blocks[save.key] = data
        return len(data)

    def _compute(self, plan: StepPlan, restored: list[bool]) -> StepResult:
        """The step after its saves; ``restored`` gets whether each restore was done."""
        if not all(self._change(change) for change in plan.memory):
            for change in plan.memory:
                slot = change.target if isinstance(change, SlotCopy) else change.slot
                llama_cpp.llama_memory_seq_rm(self._memory, slot, -1, -1)
            return StepResult(DecodeStatus.TRIM_REFUSED)
        restoring = time.perf_counter()
        restored += self._state.restore_all(plan.restores, self.blocks)
        restore_s = time.perf_counter() - restoring if plan.restores else 0.0
        if not all(restored):
            return StepResult(DecodeStatus.RESTORE_FAILED, restore_s=restore_s)
        return replace(self._decode(plan), restore_s=restore_s)

    def _decode(self, plan: StepPlan) -> StepResult:
        if not plan.work:
            return StepResult(DecodeStatus.DONE)
        proposals = Proposals()
        if any(entry.propose for entry in plan.work):
            proposals = self._draft.propose(plan.work) if self._draft is not None else proposals
            plan = replace(plan, work=[proposals.into(entry) for entry in plan.work])
        outputs = self._batch.fill(plan)
        started = time.perf_counter()
        code = llama_cpp.llama_decode(self._context, self._batch.value)
        decode_s = time.perf_counter() - started
        if code != 0:
            return self._failed(plan, code)
        return replace(
            self._sample(plan, outputs, decode_s),
            drafts=proposals.drafts,
            draft_s=proposals.duration_s,
            draft_passes=proposals.passes,
            draft_caught_up=proposals.caught_up,
        )

    def _sample(self, plan: StepPlan, outputs: list[int], decode_s: float) -> StepResult:
        """Draw the next token of each entry that wants one, and as long as it is the guessed one, the one after it.

        Each is drawn from the logits behind all tokens before it by the request's own sampler, in order, exactly as in
        steps of one token: so guesses change neither what may be said nor how likely it is. A token that cannot be
        drawn ends its own request alone.
        """
        result = StepResult(DecodeStatus.DONE, decode_s=decode_s)
        positions = iter(outputs)
        for entry in plan.work:
            sampler = self._samplers.get(entry.request_id)
            if sampler is None and entry.sample:
                sampler = self._new_sampler(entry.request_id, entry.sampling)
            if sampler is None:
                continue
            sampler.catch_up(entry.position, entry.tokens)
            if not entry.sample:
                continue
            run: list[tuple[int, bool]] = []
            result.sampled.append(run)
            try:
                self._draw(sampler, entry, next(positions), run)
            except SamplingFailed as problem:
                result.problems[entry.request_id] = str(problem)
                run.append((0, True))
            if chances := sampler.take_chances():
                result.chances[entry.request_id] = chances
        return result

    def _draw(self, sampler: Sampler, entry: SlotTokens, position: int, run: list[tuple[int, bool]]) -> None:
        """Add to ``run`` what is drawn for an entry whose logits begin at a batch position. Raises SamplingFailed."""
        for guess in [*entry.draft, None]:
            token = sampler.sample(self._context, position + len(run))
            run.append((token, bool(llama_cpp.llama_vocab_is_eog(self._vocab, token))))
            if run[-1][1] or token != guess:
                return

    def _change(self, change: SlotTrim | SlotCopy) -> bool:
        """Change the memory; False when it cannot drop a part of a slot."""
        if isinstance(change, SlotTrim):
            return bool(llama_cpp.llama_memory_seq_rm(self._memory, change.slot, change.keep, -1))
        llama_cpp.llama_memory_seq_cp(self._memory, change.source, change.target, 0, change.tokens)
        return True

    def _failed(self, plan: StepPlan, code: int) -> StepResult:
        """The failures of llama_decode (llama.h): 1 leaves the memory as it was, after others part of it is there."""
        if code == 1:
            return StepResult(DecodeStatus.NO_KV_SLOT)
        if code < -1:
            return StepResult(DecodeStatus.FATAL, message=f"llama_decode ended with {code}")
        for entry in plan.work:
            llama_cpp.llama_memory_seq_rm(self._memory, entry.slot, -1, -1)
        status = DecodeStatus.ABORTED if code == 2 else DecodeStatus.INVALID_BATCH
        return StepResult(status, message=f"llama.cpp refused the step (llama_decode returned {code})")

    def _new_sampler(self, request_id: str, sampling: object) -> Sampler:
        draw = Draw(sampling=sampling) if isinstance(sampling, Sampling) else sampling
        assert isinstance(draw, Draw)
        sampler = self._samplers[request_id] = Sampler(draw, self.vocabulary_size)
        return sampler

    def use_threads(self, threads: int) -> None:
        """Compute with so many threads from the next step on."""
        llama_cpp.llama_set_n_threads(self._context, threads, threads)
        if self._draft is not None:
            self._draft.use_threads(threads)

    def close(self) -> None:
        """Free everything. Idempotent."""
        if self._draft is not None:
            self._draft.close()
            self._draft = None
        if self._context:
            llama_cpp.llama_free(self._context)
            self._context = None
        if self._model:
            llama_cpp.llama_model_free(self._model)
            self._model = None
