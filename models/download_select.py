"""What is to be pulled: the operator's words become a variant in a form or a repository, a listing becomes files. Pure.

R1-Distill-Qwen-7B:Q4_K_M     a variant (abbreviations as in r1box plan --explain) in a quantization
qwen 7b, qwen 7b:auto         the best published form of it that fits this machine; auto alone: of any variant
OWNER/REPOSITORY              the one model in it; @REVISION pins it, :FILE or :QUANTIZATION chooses
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from models.download_errors import ChoiceAmbiguous, NothingFits, NotPublished, TargetUnusable
from models.explain import find_variants
from models.gguf_set import part_name, prefix_of, set_name
from models.hubs import HubName, Listing, RemoteFile
from models.import_source import CONFIG_FILE, INDEX_FILE, PICKLES, WEIGHTS_FILE
from models.store_manifest import is_file_name
from models.store_types import ModelFormat
from models.types import Catalogue, CatalogueFile, EngineName, FitPlan, PlanResult, Variant

AUTO = "auto"
_REPOSITORY = re.compile(r"([A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+)(?:@([A-Za-z0-9_./-]+))?(?::(.+))?")
_PART = re.compile(r"-([0-9]{5})-of-([0-9]{5})\.gguf")
_NO_MODEL = re.compile(r"(?:^|[-._])(?:mmproj|imatrix|mtp|draft)(?:[-._]|$)", re.IGNORECASE)
# fmt: off
_NOT_TAKEN = PICKLES | {
    ".py", ".gguf", ".onnx", ".h5", ".msgpack", ".exe", ".so", ".sh", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".pdf",
}
# fmt: on


@dataclass(frozen=True, slots=True)
class Candidate:
    """A repository that may hold what is wanted, by its name on each hub that has it. ``known`` are files of it whose
    hash the catalogue has; ``revision`` is the one to take (on Hugging Face, where the catalogue's come from)."""

    names: Mapping[HubName, str]
    revision: str | None = None
    known: tuple[CatalogueFile, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """What is wanted and where it may be. ``wanted`` is a quantization or a file's name, ``None`` for the only model of
    a repository. ``notes`` are for the operator."""

    candidates: tuple[Candidate, ...]
    format: ModelFormat
    wanted: str | None
    title: str
    variant: Variant | None = None
    notes: tuple[str, ...] = ()


def make_request(
    catalogue: Catalogue,
    target: str,
    form: ModelFormat,
    revision: str | None,
    plans: Callable[[], PlanResult],
) -> Request:
    """Reads ``target``; ``plans`` is asked only for ``auto``.

    Raises ``TargetUnusable``, ``VariantUnknown``, ``NotPublished``, ``NothingFits`` or ``ChoiceAmbiguous``.
    """
    if "/" in target:
        return _repository_request(target, form, revision)
    if revision is not None:
        raise TargetUnusable(target, "a revision belongs to a repository, and a variant has several")
    name, _, quantization = (part.strip() for part in target.partition(":"))
    if not name:
        raise TargetUnusable(target, "it names nothing")
    variants = catalogue.variants if name.casefold() == AUTO else find_variants(catalogue, name)
    if quantization.casefold() in ("", AUTO):
        return _best_request(catalogue, name, variants, form, plans())
    if len(variants) > 1:
        raise ChoiceAmbiguous(name, [v.id for v in variants])
    return _variant_request(catalogue, variants[0], quantization, form)


def _repository_request(target: str, form: ModelFormat, revision: str | None) -> Request:
    match = _REPOSITORY.fullmatch(target.strip())
    if match is None:
        raise TargetUnusable(target, "it is not OWNER/REPOSITORY[@REVISION][:FILE]")
    repository, pinned, file = match.groups()
    if not all(part.strip(".") for part in repository.split("/")):
        raise TargetUnusable(target, "it is not OWNER/REPOSITORY[@REVISION][:FILE]")
    if pinned and revision and pinned != revision:
        raise TargetUnusable(target, f"it names the revision {pinned}, and {revision} was given too")
    if file and form is ModelFormat.SAFETENSORS:
        raise TargetUnusable(target, "a safetensors model is taken as a whole, without a file's name")
    candidate = Candidate(dict.fromkeys(HubName, repository), pinned or revision)
    return Request((candidate,), form, file, target)


def _variant_request(catalogue: Catalogue, variant: Variant, quantization: str, form: ModelFormat) -> Request:
    known = {q.name.casefold(): q for q in catalogue.quantizations}
    entry = known.get(quantization.casefold())
    ggufs = [q.name for q in catalogue.quantizations if q.name in variant.quantizations and q.published]
    forms = list(dict.fromkeys(f.form for f in variant.hub_forms))
    if entry is not None and not entry.published:
        source = next((one for one in ("BF16", "F16", "Q8_0") if one in ggufs), "Q8_0")
        hint = f"Pull {variant.id}:{source} and make it here: r1box models requantize"
        raise NotPublished(entry.name, f"Nobody publishes it: {variant.id}", ggufs, hint)
    name = entry.name if entry is not None else quantization
    there = forms if form is ModelFormat.SAFETENSORS else ggufs
    if name not in there:
        command = f"r1box models pull {variant.id}:{name} --format safetensors"
        other = f"It is published as safetensors, for vLLM and its kin: {command}" if name in forms else None
        raise NotPublished(name, variant.id, there, other)
    candidates = form_candidates(variant, name) if form is ModelFormat.SAFETENSORS else gguf_candidates(variant, name)
    wanted = name if form is ModelFormat.GGUF else None
    return Request(candidates, form, wanted, f"{variant.id}:{name}", variant)


def _best_request(
    catalogue: Catalogue, name: str, variants: tuple[Variant, ...], form: ModelFormat, result: PlanResult
) -> Request:
    ids = {v.id for v in variants}
    published = {q.name for q in catalogue.quantizations if q.published}
    better: FitPlan | None = None
    for plan in result.plans:
        is_gguf = plan.engine is EngineName.LLAMA_CPP
        if plan.variant not in ids or is_gguf != (form is ModelFormat.GGUF):
            continue
        if plan.quantization not in published:
            better = better or plan
            continue
        variant = next(v for v in variants if v.id == plan.variant)
        request = _variant_request(catalogue, variant, plan.quantization, form)
        notes = [f"Best published form for this machine: {plan.variant} {plan.quantization} with {plan.engine}."]
        if better is not None:
            notes.append(
                f"{better.variant} {better.quantization} would rank higher here; nobody publishes it: "
                "r1box models requantize makes it."
            )
        return Request(request.candidates, form, request.wanted, request.title, variant, tuple(notes))
    nearest = next((r for r in result.rejections if r.variant in ids), None)
    reason = f"{nearest.variant} {nearest.quantization}: {nearest.reason}" if nearest else None
    raise NothingFits("R1" if name.casefold() == AUTO else name, reason)


def gguf_candidates(variant: Variant, quantization: str) -> tuple[Candidate, ...]:
    """Repositories in the order to look: those with a file of known hash first."""
    known = [f for f in variant.files if f.quantization == quantization]
    order = dict.fromkeys([f.repository for f in known] + list(variant.gguf_repositories))
    candidates = []
    for repository in order:
        files = tuple(f for f in known if f.repository == repository)
        revision = next((f.revision for f in files if f.revision), None)
        candidates.append(Candidate(dict.fromkeys(HubName, repository), revision, files))
    return tuple(candidates)


def form_candidates(variant: Variant, form: str) -> tuple[Candidate, ...]:
    """Repositories with the safetensors form, each once."""
    found: list[dict[HubName, str]] = []
    for entry in variant.hub_forms:
        pairs = ((HubName.HUGGINGFACE, entry.repository), (HubName.MODELSCOPE, entry.modelscope))
        names = {hub: name for hub, name in pairs if name is not None}
        if entry.form == form and names not in found:
            found.append(names)
    return tuple(Candidate(names) for names in found)


# --- files of a listing ----------------------------------------------------------------------------------------------


def pick_files(listing: Listing, form: ModelFormat, wanted: str | None) -> tuple[RemoteFile, ...]:
    """The model's files in the order they are read. Raises ``NotPublished`` or ``ChoiceAmbiguous``."""
    return _safetensors(listing) if form is ModelFormat.SAFETENSORS else _ggufs(listing, wanted)


def _ggufs(listing: Listing, wanted: str | None) -> tuple[RemoteFile, ...]:
    sets: dict[str, list[RemoteFile]] = {}
    for file in listing.files:
        if file.name.lower().endswith(".gguf") and not _NO_MODEL.search(prefix_of(file.name)):
            folder = file.path.removesuffix(file.name)
            sets.setdefault(folder + (set_name(file.name) or file.name), []).append(file)
    found = [files for files in sets.values() if wanted is None or _is_wanted(files, wanted)]
    names = sorted(prefix_of(files[0].name) for files in sets.values())
    if not found:
        what = f"GGUF {wanted}" if wanted else "GGUF file"
        raise NotPublished(what, listing.repository, names)
    if len(found) > 1:
        raise ChoiceAmbiguous(wanted or listing.repository, sorted(f"{listing.repository}:{s[0].path}" for s in found))
    return _complete(listing, sorted(found[0], key=lambda file: file.name))


def _is_wanted(files: list[RemoteFile], wanted: str) -> bool:
    """By a file's path or name (any part of a set), or by quantization: UD- forms only under their own name."""
    if any(wanted in (file.path, file.name) for file in files):
        return True
    tag = re.compile(rf"(?:^|[-._])(?<!UD-){re.escape(wanted)}$", re.IGNORECASE)
    return tag.search(prefix_of(files[0].name)) is not None


def _complete(listing: Listing, files: list[RemoteFile]) -> tuple[RemoteFile, ...]:
    match = _PART.search(files[0].name)
    if match is None:
        return (files[0],)
    count = int(match[2])
    prefix = prefix_of(files[0].name)
    names = {file.name for file in files}
    missing = [name for n in range(1, count + 1) if (name := part_name(prefix, n, count)) not in names]
    if missing:
        hint = f"Missing: {', '.join(missing[:3])}. The upload is not finished, or another repository has it whole."
        raise NotPublished(f"complete set {prefix}", listing.repository, [], hint)
    return tuple(files)


def _safetensors(listing: Listing) -> tuple[RemoteFile, ...]:
    files = {}
    for file in listing.files:
        suffix = "." + file.name.rpartition(".")[2].lower()
        if file.path == file.name and is_file_name(file.name) and suffix not in _NOT_TAKEN:
            files[file.name] = file
    if CONFIG_FILE not in files or not (WEIGHTS_FILE in files or INDEX_FILE in files):
        there = sorted(file.name for file in listing.files)
        raise NotPublished("model in safetensors", listing.repository, there)
    return (files.pop(CONFIG_FILE), *(files[name] for name in sorted(files)))
