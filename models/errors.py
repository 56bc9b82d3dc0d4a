"""Everything that can go wrong with a model file, the store or a plan, as typed errors.

Each error carries a stable ``code`` for programs, a plain ``message`` that says what is so, a ``hint`` that says what
to do next, the HTTP status an API would answer with, and ``details`` with the numbers behind the message.

Over 400 lines because the codes are one list that programs rely on: here they can be read and compared in one place.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

Detail = str | int | float | bool | None | list[str]
"""What may stand in ``ModelError.details``: always writable as JSON."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """``text`` without control and direction characters: names come out of hostile files and land on terminals."""
    return _CONTROL.sub("", text)


def human_bytes(size_bytes: int) -> str:
    """``20000000`` -> ``19.1 MiB``: for messages only, never for arithmetic."""
    if size_bytes < 1024:
        return f"{size_bytes} bytes"
    size = float(size_bytes)
    for unit in ("KiB", "MiB"):
        size /= 1024
        if size < 1024:
            return f"{size:.1f} {unit}"
    return f"{size / 1024:.1f} GiB"


class ModelError(Exception):
    """Base of all errors of ``models``."""

    code: ClassVar[str] = "model_error"
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, hint: str | None = None, **details: Detail) -> None:
        self.message = printable(message)
        super().__init__(self.message)
        self.hint = hint
        self.details: dict[str, Detail] = details

    def __str__(self) -> str:
        return self.message


class CatalogueInvalid(ModelError):
    """The catalogue (or card table) data file does not say what its schema asks for."""

    code = "catalogue_invalid"

    def __init__(self, problem: str, source: str) -> None:
        super().__init__(
            f"The data file {source} is wrong: {problem}.",
            "Correct the entry it names; nothing was loaded.",
            source=source,
        )


# --- model files -----------------------------------------------------------------------------------------------------


class ModelFileError(ModelError):
    """The file cannot be used as a model."""

    code = "model_file_invalid"
    http_status = 422


class NotGguf(ModelFileError):
    """The file does not begin with the letters GGUF. ``looks_like`` names what it is when that can be told."""

    code = "not_a_gguf"

    def __init__(self, path: Path, looks_like: str | None = None) -> None:
        what = f"; it looks like {looks_like}" if looks_like else ""
        super().__init__(
            f"{path.name} is not a GGUF file{what}.",
            "Give the .gguf file of the model; other formats must be converted to GGUF first.",
            path=str(path),
            looks_like=looks_like,
        )


class GitLfsPointer(ModelFileError):
    """A repository was cloned without git-lfs: the file is a few lines of text that only name the model."""

    code = "git_lfs_pointer"

    def __init__(self, path: Path, declared_bytes: int | None) -> None:
        size = f" of {human_bytes(declared_bytes)}" if declared_bytes is not None else ""
        super().__init__(
            f"{path.name} is a git-LFS pointer, not the model: the real file{size} was never downloaded.",
            "Run 'git lfs pull' in the repository it came from, or download the .gguf file itself.",
            path=str(path),
            declared_bytes=declared_bytes,
        )


class GgufTruncated(ModelFileError):
    """The file ends before what its own header promises."""

    code = "gguf_truncated"

    def __init__(self, path: Path, needed_bytes: int, file_bytes: int, where: str) -> None:
        super().__init__(
            f"{path.name} is cut off: {where} reaches to byte {needed_bytes:,}, the file has {file_bytes:,}.",
            "Copy or download the file again and compare its size with the source.",
            path=str(path),
            needed_bytes=needed_bytes,
            available_bytes=file_bytes,
            where=where,
        )


class UnsupportedGgufVersion(ModelFileError):
    """A GGUF version this software does not read. ``big_endian`` says that the bytes are in the other order."""

    code = "unsupported_gguf_version"

    def __init__(self, path: Path, version: int, *, big_endian: bool = False) -> None:
        if big_endian:
            message = f"{path.name} is a big-endian GGUF file; this box reads little-endian files."
            hint = "Get the ordinary (little-endian) file, or convert it with llama.cpp's gguf_convert_endian script."
        else:
            message = f"{path.name} is GGUF version {version}; versions 2 and 3 are readable."
            hint = "Convert the model again with a current llama.cpp, or update this software."
        super().__init__(message, hint, path=str(path), version=version, big_endian=big_endian)


class CorruptHeader(ModelFileError):
    """The header contradicts itself or breaks a bound. ``field`` names the entry, ``offset`` the byte it was read
    at."""

    code = "corrupt_header"

    def __init__(self, path: Path, field: str, problem: str, offset: int | None = None) -> None:
        at = f" (byte {offset:,})" if offset is not None else ""
        super().__init__(
            f"{path.name} has a damaged header: {field}{at}: {problem}.",
            "Copy or download the file again and check its sha256 against the source.",
            path=str(path),
            field=field,
            offset=offset,
            problem=problem,
        )


class UnsupportedArchitecture(ModelFileError):
    """llama.cpp of this build has no such architecture."""

    code = "unsupported_architecture"

    def __init__(self, path: Path, architecture: str) -> None:
        super().__init__(
            f"{path.name} holds a model of architecture '{architecture}', which llama.cpp of this build does not know.",
            "Use a DeepSeek-R1 file (architectures qwen2, qwen3, llama, deepseek2) or update this software.",
            path=str(path),
            architecture=architecture,
        )


class UnsupportedTensorType(ModelFileError):
    """A tensor is stored in a form that llama.cpp of this build does not know or has dropped."""

    code = "unsupported_tensor_type"

    def __init__(self, path: Path, tensor: str, type_id: int) -> None:
        super().__init__(
            f"{path.name} stores tensor '{tensor}' in the unknown form number {type_id}.",
            "Get the file in another quantization (Q8_0, Q4_K_M), or one made with a current llama.cpp.",
            path=str(path),
            tensor=tensor,
            type_id=type_id,
        )


class SplitSetIncomplete(ModelFileError):
    """Files of a set that belongs together are not beside the one that was given."""

    code = "split_set_incomplete"

    def __init__(self, path: Path, missing: Sequence[str], parts: int) -> None:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        super().__init__(
            f"{path.name} is one of {parts} parts of a model; missing beside it: {shown}.",
            "Put all parts into one folder under the names they were published with, then give any one of them.",
            path=str(path),
            missing=list(missing),
            parts=parts,
        )


class SplitSetInconsistent(ModelFileError):
    """The parts of a set contradict each other or their names."""

    code = "split_set_inconsistent"

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(
            f"The parts of the split model do not fit together: {path.name} {problem}.",
            "Get all parts from the same place again, under the names they were published with.",
            path=str(path),
            problem=problem,
        )


class NotAChatModel(ModelFileError):
    """The GGUF is sound but cannot answer: no tokenizer, no layers, or something else than a language model."""

    code = "not_a_chat_model"

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(
            f"{path.name} cannot be used for chat: {problem}.",
            "Import the model file itself, not a projector, adapter or vocabulary file.",
            path=str(path),
            problem=problem,
        )


class ImportSourceUnreadable(ModelFileError):
    """The file to import does not exist, is no ordinary file or cannot be read."""

    code = "import_source_unreadable"

    def __init__(self, path: Path, problem: str, hint: str) -> None:
        super().__init__(f"Cannot read {path}: {problem}.", hint, path=str(path), problem=problem)


class ImportSourceChanged(ModelFileError):
    """Somebody wrote to the file while it was copied."""

    code = "import_source_changed"
    http_status = 409

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(
            f"{path.name} changed while it was being imported: {problem}.",
            "Wait until the download or copy that writes it has ended, then import again.",
            path=str(path),
            problem=problem,
        )


class ModelFolderUnusable(ModelFileError):
    """A folder was given that does not hold exactly one model that can be taken."""

    code = "model_folder_unusable"

    def __init__(self, path: Path, problem: str, hint: str, **details: Detail) -> None:
        super().__init__(f"The folder {path} cannot be imported: {problem}.", hint, path=str(path), **details)


class PickleRefused(ModelFileError):
    """Weights in PyTorch's pickle format: loading one runs whatever code is in it."""

    code = "pickle_refused"

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        super().__init__(
            f"The folder {path} holds {', '.join(names[:3])}: files of that kind can run code when they are loaded, so "
            "none is taken.",
            "Get the model in safetensors form, and remove the other weights from the folder.",
            path=str(path),
            files=list(names),
        )


class TemplateRefused(ModelFileError):
    """The chat template in the model cannot be rendered, or not safely."""

    code = "chat_template_refused"

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(
            f"The chat template in {path.name} cannot be used: {problem}.",
            "Get the file from another converter, or one that was made again since.",
            path=str(path),
            problem=problem,
        )


class NeedsOtherEngine(ModelFileError):
    """A model in a form that the engine at hand does not read."""

    code = "needs_other_engine"

    def __init__(self, model_id: str, form: str) -> None:
        super().__init__(
            f"'{model_id}' is stored as {form}, which llama.cpp does not read; vLLM, vLLM-Ascend and MindIE do.",
            "Install one of those engines (docs/engines.md), or import the model as a GGUF.",
            model=model_id,
            format=form,
        )


# --- fitting ---------------------------------------------------------------------------------------------------------


class TooLarge(ModelError):
    """The model needs more memory than there is on ``device`` (a ``Device.key`` or ``host``)."""

    code = "model_too_large"
    http_status = 507

    def __init__(
        self, model: str, needed_bytes: int, available_bytes: int, device: str, seats: int, context_tokens: int
    ) -> None:
        super().__init__(
            f"{model} needs {human_bytes(needed_bytes)} for {seats} seats x {context_tokens:,} tokens on {device}, "
            f"where {human_bytes(max(available_bytes, 0))} can be used.",
            "Choose a smaller model or quantization (r1box plan shows what fits), or fewer seats or a shorter context.",
            model=model,
            needed_bytes=needed_bytes,
            available_bytes=available_bytes,
            device=device,
            seats=seats,
            context_tokens=context_tokens,
        )


class CannotCompute(ModelError):
    """The cards cannot compute this model and the host's processor was not allowed."""

    code = "not_on_card"
    http_status = 422

    def __init__(self, model: str, reason: str) -> None:
        super().__init__(
            f"{model} would not run on the cards of this machine: {reason}.",
            "r1box plan names the models and quantizations that do; allow_cpu_fallback serves this one from the "
            "processor.",
            model=model,
            reason=reason,
        )


class MemoryUnknown(ModelError):
    """No probe could say how much memory is free, and the box does not guess."""

    code = "memory_unknown"
    http_status = 503

    def __init__(self, where: str) -> None:
        super().__init__(
            f"How much memory is free on {where} is not known, so nothing can be planned there.",
            "r1box detect shows what the probes found and why a value is missing.",
            device=where,
        )


class ContextTooLong(ModelError):
    """More context was asked for than the model was trained for."""

    code = "context_too_long"
    http_status = 422

    def __init__(self, model: str, wanted_tokens: int, trained_tokens: int) -> None:
        super().__init__(
            f"{model} was trained for a context of {trained_tokens:,} tokens; {wanted_tokens:,} were asked for.",
            f"Ask for at most {trained_tokens:,} tokens.",
            model=model,
            wanted_tokens=wanted_tokens,
            trained_tokens=trained_tokens,
        )


# --- the store -------------------------------------------------------------------------------------------------------


class VariantUnknown(ModelError):
    """The catalogue has no such variant or form. ``similar`` holds names that come near."""

    code = "variant_unknown"
    http_status = 404

    def __init__(self, name: str, similar: Sequence[str]) -> None:
        hint = f"Did you mean {', '.join(similar[:9])}?" if similar else "r1box plan --all shows all."
        super().__init__(f"The catalogue has no '{name}'.", hint, name=name, similar=list(similar))


class ModelNotFound(ModelError):
    """No model of this id is in the store. ``similar`` holds ids that come near."""

    code = "model_not_found"
    http_status = 404

    def __init__(self, model_id: str, similar: Sequence[str], *, empty: bool = False) -> None:
        if empty:
            hint = "The store is empty: r1box models import FILE.gguf"
        elif similar:
            hint = f"Did you mean {' or '.join(similar)}?"
        else:
            hint = "r1box models list shows what is installed."
        super().__init__(f"There is no model '{model_id}' here.", hint, model=model_id, similar=list(similar))


class ModelIdAmbiguous(ModelError):
    """A shortened id fits several models."""

    code = "model_id_ambiguous"
    http_status = 409

    def __init__(self, model_id: str, candidates: Sequence[str]) -> None:
        super().__init__(
            f"'{model_id}' fits {len(candidates)} models: {', '.join(candidates)}.",
            "Give the whole id.",
            model=model_id,
            candidates=list(candidates),
        )


class ModelDamaged(ModelError):
    """What lies in the store is not what was imported."""

    code = "model_damaged"

    def __init__(self, model_id: str, problem: str, **details: Detail) -> None:
        super().__init__(
            f"The stored model '{model_id}' is damaged: {problem}.",
            f"Remove it with 'r1box models remove {model_id}' and import it again; check the disk.",
            model=model_id,
            problem=problem,
            **details,
        )


class ModelIsDefault(ModelError):
    """The default model is not removed by the way."""

    code = "model_is_default"
    http_status = 409

    def __init__(self, model_id: str) -> None:
        super().__init__(
            f"'{model_id}' is the default model, the one that is served when none is named.",
            f"Choose another with 'r1box models default ID' first, or use 'r1box models remove --force {model_id}'.",
            model=model_id,
        )


class ModelInUse(ModelError):
    """A process serves the model now."""

    code = "model_in_use"
    http_status = 409

    def __init__(self, model_id: str) -> None:
        super().__init__(
            f"'{model_id}' is being served now.",
            f"Stop the service or let it serve another model first, or use 'r1box models remove --force {model_id}'.",
            model=model_id,
        )


class ImportRunning(ModelError):
    """Another process imports the same thing at this moment."""

    code = "import_running"
    http_status = 409

    def __init__(self, what: str) -> None:
        super().__init__(
            f"An import of {what} is already running.",
            "Wait until it has ended, or stop it; a stopped import goes on where it was.",
            what=what,
        )


class BudgetExceeded(ModelError):
    """The store would grow beyond what it may take. ``removable`` are ids that could go, the largest first."""

    code = "store_budget_exceeded"
    http_status = 507

    def __init__(
        self, where: Path, needed_bytes: int, used_bytes: int, max_bytes: int, removable: Sequence[str]
    ) -> None:
        over = human_bytes(needed_bytes + used_bytes - max_bytes)
        what = f"for example {', '.join(removable)}" if removable else "none of those here is free to go"
        super().__init__(
            f"The model store {where} may take {human_bytes(max_bytes)} and holds {human_bytes(used_bytes)}; "
            f"{human_bytes(needed_bytes)} more are {over} too many.",
            f"Remove models that are no longer used ({what}): r1box models remove ID; or raise the limit.",
            path=str(where),
            needed_bytes=needed_bytes,
            used_bytes=used_bytes,
            max_bytes=max_bytes,
            removable=list(removable),
        )


class NoSpace(ModelError):
    """The file system of the store has not room enough."""

    code = "no_space"
    http_status = 507

    def __init__(self, where: Path, needed_bytes: int, free_bytes: int, removable: Sequence[str] = ()) -> None:
        example = f", for example {', '.join(removable)}" if removable else ""
        super().__init__(
            f"The disk under {where} has {human_bytes(free_bytes)} free; {human_bytes(needed_bytes)} are needed.",
            f"Remove models that are no longer used (r1box models remove ID{example}) or move the store "
            "(R1BOX_MODELS_DIR).",
            path=str(where),
            needed_bytes=needed_bytes,
            available_bytes=free_bytes,
            removable=list(removable),
        )


class StoreNotWritable(ModelError):
    """The store's folder cannot be made, read or written."""

    code = "store_not_writable"

    def __init__(self, where: Path, problem: str) -> None:
        super().__init__(
            f"The model store {where} cannot be used: {problem}.",
            "Give the service's user that folder (owner, mode 0750), or choose another with R1BOX_MODELS_DIR.",
            path=str(where),
            problem=problem,
        )
