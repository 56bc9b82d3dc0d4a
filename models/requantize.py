"""Makes the form of a model that a chip computes: pure Q8_0 or pure Q4_0, output and token embedding in Q8_0.

Ascend's 910B multiplies F16, BF16, Q8_0 and Q4_0; published Q4_0 files hold other types as well (``models.gate``),
which would then run on the processor. The steps, the first that fails ends it and leaves the store as it was:

1. the model is a GGUF in F16, BF16 or F32 (or, with a warning, Q8_0); other forms have lost quality once: refused
   unless forced;
2. llama.cpp's quantizer, run dry, tells every tensor's new type, and with it the exact size: is there room?
3. the quantizer writes into a staging folder of the store (a child process, ``models.requantize_child``), once: what it
   writes there is what the store keeps;
4. the result's header has exactly those types and sizes, and the gate takes all of its matrices;
5. it is loaded for real and writes a few tokens; every logit is finite;
6. it is checked as an import is, hashed, and appears in the store by one rename.

Records of the child: ``start``, ``log`` (text), ``quantized`` (code) or ``generated`` (loaded, finite, tokens).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar

from models.catalogue import load_catalogue
from models.child import ChildEnd, Record, RunChild, run_child
from models.errors import ModelError, human_bytes
from models.gate import Chip, ChipClass, Computes, judge_types
from models.gguf import read_header
from models.gguf_format import TENSOR_TYPES
from models.gguf_header import GgufHeader, TensorInfo
from models.gguf_set import installed_header
from models.hashing import Progress, ignore_progress, sha256_of
from models.import_checks import TemplateCheck
from models.importer import ImportResult, check_usable
from models.model_facts import gguf_facts, manifest_of, shown_name
from models.model_store import ModelStore
from models.store_files import fsync_path
from models.store_manifest import MODEL_FILE, FileEntry
from models.store_types import Provenance
from models.types import Catalogue, InstalledModel

CHILD = "models.requantize_child"
SILENCE_LIMIT_S = 1800.0
"""Without a word from the quantizer: the largest tensor of the 671B takes minutes on few cores."""
DRY_RUN_LIMIT_S = 120.0
GENERATE_LIMIT_S = 3600.0
TOKENS = 8

_FULL = frozenset({"F32", "F16", "BF16"})
_ONCE = "Q8_0"
_TENSOR = re.compile(r"^\[ *\d+/ *\d+\] (\S+) +- \[[^\]]*\], type = +(\w+), (.*)$")
_BECAME = re.compile(r"\((\w+)\) *$|converting to (\w+)")
_CHIP = Chip(ChipClass.ASCEND_910B)


class PureType(StrEnum):
    """What all matrices of the layers become."""

    Q8_0 = "Q8_0"
    Q4_0 = "Q4_0"


class RequantizeRefused(ModelError):
    """The model is no source for this. ``code`` is stable, the message says why."""

    code: ClassVar[str] = "requantize_refused"
    http_status: ClassVar[int] = 409

    def __init__(self, model_id: str, why: str, hint: str) -> None:
        super().__init__(f"{model_id} is not requantized: {why}.", hint, model=model_id)


class RequantizeFailed(ModelError):
    """The quantizer did not end well, or its result does not pass a check; nothing was kept."""

    code: ClassVar[str] = "requantize_failed"
    http_status: ClassVar[int] = 500

    def __init__(self, model_id: str, problem: str) -> None:
        super().__init__(
            f"Requantizing {model_id} failed: {problem}.",
            "Nothing was kept. Verify the model it is made from (r1box models verify) and look at the disk.",
            model=model_id,
        )


@dataclass(frozen=True, slots=True)
class Requantized:
    """The new model; ``warnings`` concern its quality."""

    result: ImportResult
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class QuantizedTensor:
    """What a tensor becomes: its type's name as in headers."""

    name: str
    type_name: str


def parse_tensor(line: str) -> QuantizedTensor | None:
    """The tensor that a line of the quantizer's log speaks of, ``None`` for other lines.

    ``[5/339] blk.0.attn_k.weight - [1536, 256, 1, 1], type = bf16, size = 0.75 MiB -> 0.21 MiB (q4_0)`` in a dry run,
    ``..., converting to q4_0 .. size = ...`` in a real one; without a second type it keeps its own.
    """
    found = _TENSOR.match(line)
    if found is None:
        return None
    became = _BECAME.search(found[3])
    word = next((w for w in became.groups() if w), found[2]) if became else found[2]
    return QuantizedTensor(found[1], _TYPE_NAMES.get(word.casefold(), word))


_TYPE_NAMES = {t.name.casefold(): t.name for t in TENSOR_TYPES.values()}
_TYPES = {t.name: t for t in TENSOR_TYPES.values()}


def tensor_size(tensor: TensorInfo, type_name: str) -> int:
    """Bytes of ``tensor`` in another type. Raises ``KeyError`` for a type nobody knows."""
    kind = _TYPES[type_name]
    return tensor.elements // kind.block_elements * kind.block_bytes


def plan_types(
    header: GgufHeader, to: str, *, pure: bool = True, allow_requantize: bool = False, run: RunChild = run_child
) -> dict[str, str]:
    """Type of every tensor after quantizing, asked of llama.cpp's quantizer in a dry run. ``pure``: all matrices the
    same, embedding and output Q8_0; otherwise the mixture that llama.cpp makes of ``to``. Raises
    ``RequantizeFailed``."""
    request = _quantize_request(
        header.path, Path(os.devnull), to, dry_run=True, pure=pure, allow_requantize=allow_requantize, threads=1
    )
    types: dict[str, str] = {}

    def take(tensor: QuantizedTensor) -> None:
        types[tensor.name] = tensor.type_name

    _quantize(header.name, request, take, run, timeout_s=DRY_RUN_LIMIT_S)
    missing = [t.name for t in header.tensors if t.name not in types]
    if missing:
        raise RequantizeFailed(header.name, f"the quantizer says nothing of {missing[0]} and {len(missing) - 1} others")
    return types


def requantize(
    store: ModelStore,
    model: InstalledModel,
    to: PureType,
    progress: Progress = ignore_progress,
    *,
    force: bool = False,
    threads: int = 0,
    check_template: TemplateCheck | None = None,
    catalogue: Catalogue | None = None,
    run: RunChild = run_child,
) -> Requantized:
    """Makes ``model`` in pure ``to`` and puts it into the store.

    ``progress`` gets bytes of the result. ``threads`` 0: all; ``catalogue`` is the package's own when not given. Raises
    ``NeedsOtherEngine`` (no GGUF), ``RequantizeRefused``, ``RequantizeFailed``, and what an import raises
    (``NoSpace``...). Interrupted by whatever, the child is killed and the staging folder removed.
    """
    header = installed_header(model)
    warnings = _judge_source(model.id, header, to, force=force)
    is_quantized = not header.matrix_types <= _FULL
    types = plan_types(header, to, allow_requantize=is_quantized, run=run)
    sizes = {t.name: tensor_size(t, types[t.name]) for t in header.tensors}
    total = sum(sizes.values())
    with store.staging() as staging:
        store.reserve(staging, total + header.header_bytes)
        target = staging.path(MODEL_FILE)
        done = 0

        def take(tensor: QuantizedTensor) -> None:
            nonlocal done
            done += sizes.get(tensor.name, 0)
            progress(done, total)

        request = _quantize_request(
            header.path, target, to, dry_run=False, pure=True, allow_requantize=is_quantized, threads=threads
        )
        _quantize(model.id, request, take, run, silence_s=SILENCE_LIMIT_S)
        made = read_header(target)
        _check_header(model.id, header, types, made)
        _check_generation(model.id, target, threads, run)
        check_usable(made)
        facts = gguf_facts(made, target, model.name, (), check_template)
        try:
            fsync_path(target)
            entry = FileEntry(MODEL_FILE, target.stat().st_size, sha256_of(target))
        except OSError as error:
            raise store.write_error(error, total) from error
        provenance = Provenance("file", shown_name(f"{model.name}-{to}.gguf"))
        manifest = manifest_of(facts, (entry,), catalogue or load_catalogue(), provenance, datetime.now(UTC))
        result = ImportResult(*store.publish(staging, manifest))
    return Requantized(result, warnings)


def _judge_source(model_id: str, header: GgufHeader, to: PureType, *, force: bool) -> tuple[str, ...]:
    types = header.matrix_types
    lossy = sorted(types - _FULL)
    if not lossy:
        return ()
    if types - {"F32"} == {to.value}:
        raise RequantizeRefused(model_id, f"it is pure {to} already", "Serve it as it is: r1box serve.")
    if lossy == [_ONCE] and to is PureType.Q4_0:
        return ("It was made from Q8_0, not from the full form: a little worse than Q4_0 made from F16.",)
    if not force:
        raise RequantizeRefused(
            model_id,
            f"it holds {', '.join(lossy)}, and quantizing that again would lose quality twice",
            "Import the F16 or BF16 file of this model and requantize that, or insist with --force.",
        )
    return (f"It was made from {', '.join(lossy)}: quality was lost twice.",)


def _quantize_request(
    source: Path, target: Path, to: str, *, dry_run: bool, pure: bool, allow_requantize: bool, threads: int
) -> dict[str, Any]:
    return {
        "action": "quantize",
        "source": os.fspath(source.absolute()),
        "target": os.fspath(target.absolute()),
        "type": str(to),
        "dry_run": dry_run,
        "pure": pure,
        "allow_requantize": allow_requantize,
        "threads": threads,
        "memory_bytes": 0,
    }


def _quantize(model_id: str, request: Mapping[str, Any], take: Any, run: RunChild, **limits: float) -> None:
    code: object = None
    said = ""

    def on_record(record: Record) -> None:
        nonlocal code, said
        if record.get("kind") == "quantized":
            code = record.get("code")
        elif record.get("kind") == "log":
            text = str(record.get("text"))
            tensor = parse_tensor(text)
            if tensor is not None:
                take(tensor)
            elif record.get("is_error"):
                said = said or text

    end = _run(model_id, request, on_record, run, **limits)
    if code != 0:
        raise RequantizeFailed(model_id, _problem(end, said))


def _run(model_id: str, request: Mapping[str, Any], on_record: Any, run: RunChild, **limits: float) -> ChildEnd:
    try:
        return run(CHILD, request, on_record, **limits)
    except OSError as error:
        raise RequantizeFailed(model_id, f"the child process did not start: {error}") from error


def _problem(end: ChildEnd, said: str) -> str:
    if end.timed_out:
        return "llama.cpp said nothing for too long"
    if said:
        return f"llama.cpp says: {said}"
    lines = end.stderr.strip().splitlines()
    return f"llama.cpp ended with {end.how}" + (f": {lines[0]}" if lines else "")


def _check_header(model_id: str, source: GgufHeader, types: Mapping[str, str], made: GgufHeader) -> None:
    """The result holds every tensor of the source in its planned type and size, and the chip multiplies all of them."""
    before = {t.name: (t.shape, types[t.name], tensor_size(t, types[t.name])) for t in source.tensors}
    after = {t.name: (t.shape, t.type_name, t.size_bytes) for t in made.tensors}
    if before != after:
        other = next(n for n in {**before, **after} if before.get(n) != after.get(n))
        raise RequantizeFailed(model_id, f"tensor {other} is {after.get(other)} instead of {before.get(other)}")
    verdict = judge_types(_CHIP, "", made.matrix_types)
    if verdict.computes is not Computes.ON_CARD:
        raise RequantizeFailed(model_id, verdict.reason)


def _check_generation(model_id: str, path: Path, threads: int, run: RunChild) -> None:
    """The result loads and writes tokens, with finite logits."""
    found: list[Record] = []

    def on_record(record: Record) -> None:
        if record.get("kind") == "generated":
            found.append(record)

    request = {
        "action": "generate",
        "path": os.fspath(path.absolute()),
        "tokens": TOKENS,
        "threads": threads or os.cpu_count() or 1,
        "memory_bytes": 0,
    }
    end = _run(model_id, request, on_record, run, timeout_s=GENERATE_LIMIT_S)
    size = human_bytes(path.stat().st_size)
    if not found or not found[0].get("loaded"):
        raise RequantizeFailed(model_id, f"the result ({size}) does not load: {_problem(end, '')}")
    if not found[0].get("finite"):
        raise RequantizeFailed(model_id, "the result computes numbers that are none (NaN or infinite)")
    if len(found[0].get("tokens") or ()) < TOKENS:
        raise RequantizeFailed(model_id, "the result computes nothing")
