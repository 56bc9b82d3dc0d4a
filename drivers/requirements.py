"""Which versions of drivers, CANN, CUDA and Python packages go together, and whether those found here do.

The data is ``requirements.toml``: rows of known-good versions with their source. What no row names is ``UNKNOWN``
and is said to be; nothing is guessed.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources

import msgspec

from drivers.errors import DriverError
from drivers.types import Software
from drivers.versions import Version, VersionRange, parse_range, parse_version

REQUIREMENTS_SCHEMA = 1
_FILE = "requirements.toml"


class Grade(StrEnum):
    """How far a source can be trusted: the maker's words, the maker's scripts, or what was seen to run together."""

    VENDOR_DOCUMENT = "vendor document"
    SOURCE_CODE = "source code"
    INFERRED = "inferred"


class RequirementState(StrEnum):
    """``MISMATCH``: a version is asked for exactly and the one found lies between those listed. ``UNKNOWN``: no source
    names the pair, or a version could not be read."""

    SATISFIED = "satisfied"
    MISSING = "missing"
    TOO_OLD = "too_old"
    TOO_NEW = "too_new"
    MISMATCH = "mismatch"
    UNKNOWN = "unknown"


class RequirementsInvalid(DriverError):
    """The data file contradicts itself or its form."""

    def __init__(self, problem: str) -> None:
        super().__init__("requirements_invalid", f"The requirements data is wrong: {problem}.")


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a row comes from."""

    title: str
    url: str
    grade: Grade


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What goes with the subject's versions ``version``: for each name in ``needs`` the versions that do. ``refused``
    are named by the source as not working; ``made_for`` is what the subject was released with."""

    version: str
    needs: dict[str, tuple[str, ...]]
    refused: dict[str, tuple[str, ...]] = {}
    made_for: str | None = None
    source: str | None = None


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rows about one kind of part; the fields are explained at the top of the data file."""

    id: str
    vendor: str
    subject: tuple[str, ...]
    source: str
    rows: tuple[Row, ...]
    exact: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    every: bool = False
    advice: str | None = None
    blocks: tuple[str, ...] = ()


class Requirements(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole data file. ``names`` are the parts' names for people."""

    schema: int
    names: dict[str, str]
    sources: dict[str, Source]
    rules: tuple[Rule, ...]

    def label(self, name: str) -> str:
        """The part's name for people."""
        return self.names.get(name, name)


@dataclass(frozen=True, slots=True)
class RequirementResult:
    """One requirement as it stands here. ``found`` is the version judged, ``None`` when there is none; ``accepted`` the
    versions that go with the subject, in the data file's notation (empty when no row names the subject's version);
    ``blocks`` whether the box cannot serve from the vendor's cards while the state is none of SATISFIED and UNKNOWN."""

    rule: str
    vendor: str
    state: RequirementState
    subject: Software
    needs: str
    found: Software | None
    accepted: tuple[str, ...]
    message: str
    hint: str | None
    source: Source
    blocks: bool = False

    @property
    def broken(self) -> bool:
        """Whether something has to be changed."""
        return self.state not in (RequirementState.SATISFIED, RequirementState.UNKNOWN)


def load_requirements() -> Requirements:
    """The data that ships with the package. Raises ``RequirementsInvalid``."""
    return parse_requirements(resources.files("drivers").joinpath(_FILE).read_text(encoding="utf-8"))


def parse_requirements(text: str) -> Requirements:
    """Check the data (TOML) and return it as values. Raises ``RequirementsInvalid``."""
    try:
        data = msgspec.convert(tomllib.loads(text), Requirements, strict=True)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise RequirementsInvalid(str(error)) from error
    if data.schema != REQUIREMENTS_SCHEMA:
        raise RequirementsInvalid(f"schema {data.schema}, this version reads {REQUIREMENTS_SCHEMA}")
    for rule in data.rules:
        for row in rule.rows:
            _check_row(data, rule, row)
    return data


def _check_row(data: Requirements, rule: Rule, row: Row) -> None:
    where = f"rule {rule.id}, version {row.version}"
    if (row.source or rule.source) not in data.sources:
        raise RequirementsInvalid(f"{where}: no source {row.source or rule.source}")
    texts = [row.version, *([] if row.made_for is None else [row.made_for])]
    for accepted in (*row.needs.values(), *row.refused.values()):
        texts += accepted
    for spec in texts:
        if parse_range(spec) is None:
            raise RequirementsInvalid(f"{where}: {spec!r} is no version")
    for name in (*rule.subject, *row.needs, *row.refused):
        if name not in data.names:
            raise RequirementsInvalid(f"{where}: {name} has no entry in [names]")
    if not row.needs or not all(row.needs.values()) or not set(row.refused) <= set(row.needs):
        raise RequirementsInvalid(f"{where}: needs names no versions")


def check(
    software: Sequence[Software], requirements: Requirements, *, vendors: Collection[str] | None = None
) -> tuple[RequirementResult, ...]:
    """Every requirement of what is installed, in the order of the data. Pure; never raises.

    ``software`` may hold several of one name (two versions of CANN, the compute capabilities of several cards).
    ``vendors`` limits it to the rules of those vendors.
    """
    results: list[RequirementResult] = []
    for rule in requirements.rules:
        if vendors is None or rule.vendor in vendors:
            for subject in dict.fromkeys(one for one in software if one.name in rule.subject):
                results += _Judge(requirements, rule, subject).results(software)
    return tuple(results)


class _Judge:
    """One rule about one installed part."""

    def __init__(self, requirements: Requirements, rule: Rule, subject: Software) -> None:
        self._requirements = requirements
        self._rule = rule
        self._subject = subject
        version = parse_version(subject.version)
        self._rows = tuple(row for row in rule.rows if version is not None and _range(row.version).contains(version))

    def results(self, software: Sequence[Software]) -> list[RequirementResult]:
        results: list[RequirementResult] = []
        for name in dict.fromkeys(name for row in self._rule.rows for name in row.needs):
            rows = tuple(row for row in self._rows if name in row.needs)
            found = tuple(dict.fromkeys(one for one in software if one.name == name))
            if not rows and self._rows:
                continue
            if not found:
                if name not in self._rule.optional:
                    results.append(self._missing(name, rows))
                continue
            judged = [self._judge(name, rows, one) for one in found]
            results += judged if self._rule.every else [min(judged, key=lambda result: _ORDER[result.state])]
        return results

    def _missing(self, name: str, rows: tuple[Row, ...]) -> RequirementResult:
        accepted = _accepted(name, rows)
        wanted = f"{self._requirements.label(name)}{' ' + described(accepted) if accepted else ''}"
        message = f"{self._who} needs {wanted}; none was found."
        return self._result(name, rows, RequirementState.MISSING, None, message, f"Install {wanted}.")

    def _judge(self, name: str, rows: tuple[Row, ...], found: Software) -> RequirementResult:
        label = self._requirements.label(name)
        version = parse_version(found.version)
        that = f"{label} {found.version}"
        if not rows:
            message = f"{self._who} is in no list of known versions, so nothing is known of it with {that}."
            return self._result(name, rows, RequirementState.UNKNOWN, found, message, None)
        if version is None:
            message = f"The version of {label} could not be read from {found.version!r}."
            return self._result(name, rows, RequirementState.UNKNOWN, found, message, None)
        for row in rows:
            if _any(row.needs[name], version):
                message = f"{that} and {self._who} are a known pair."
                if _range(row.needs[name][0]).is_minimum:
                    message = f"{that} is enough for {self._who} ({described(row.needs[name])})."
                if row.made_for is not None and not _range(row.made_for).contains(version):
                    made_for = described((row.made_for,))
                    message += f" It was made for {made_for}: what is newer in it than the driver does not work."
                return self._result(name, (row,), RequirementState.SATISFIED, found, message, None)
        return self._unmatched(name, rows, found, version)

    def _unmatched(self, name: str, rows: tuple[Row, ...], found: Software, version: Version) -> RequirementResult:
        accepted = _accepted(name, rows)
        label, wanted = self._requirements.label(name), described(accepted)
        refused = [row for row in rows if _any(row.refused.get(name, ()), version)]
        ranges = [_range(spec) for spec in accepted]
        if not refused and name not in self._rule.exact and not all(one.is_minimum for one in ranges):
            message = (
                f"{label} {found.version} with {self._who} is in no list of known pairs; listed with it: {wanted}."
            )
            hint = f"If the card does not work, install {label} {wanted}."
            return self._result(name, rows, RequirementState.UNKNOWN, found, message, hint)
        rows = tuple(refused) or rows
        if name == "compute-capability":
            message = f"A card has compute capability {found.version}; {self._who} needs {wanted}."
            hint = f"This card needs an older {self._requirements.label(self._subject.name)}."
            return self._result(name, rows, RequirementState.TOO_OLD, found, message, hint)
        state = _direction(version, ranges)
        words = {RequirementState.TOO_OLD: "is too old for", RequirementState.TOO_NEW: "is too new for"}
        verb = words.get(state, "does not go with")
        message = f"{label} {found.version} {verb} {self._who}, which needs {label} {wanted}."
        return self._result(name, rows, state, found, message, f"Install {label} {wanted}.")

    def _result(
        self,
        needs: str,
        rows: tuple[Row, ...],
        state: RequirementState,
        found: Software | None,
        message: str,
        hint: str | None,
    ) -> RequirementResult:
        source = next((row.source for row in rows if row.source), None) or self._rule.source
        return RequirementResult(
            rule=self._rule.id,
            vendor=self._rule.vendor,
            state=state,
            subject=self._subject,
            needs=needs,
            found=found,
            accepted=_accepted(needs, rows),
            message=message,
            hint=hint if hint is None or self._rule.advice is None else f"{hint} {self._rule.advice}",
            source=self._requirements.sources[source],
            blocks=self._subject.name in self._rule.blocks,
        )

    @property
    def _who(self) -> str:
        return f"{self._requirements.label(self._subject.name)} {self._subject.version}"


_ORDER = {
    state: position
    for position, state in enumerate(
        (
            RequirementState.SATISFIED,
            RequirementState.UNKNOWN,
            RequirementState.MISMATCH,
            RequirementState.TOO_NEW,
            RequirementState.TOO_OLD,
            RequirementState.MISSING,
        )
    )
}
"""Of several installed ones the best counts: which of them is used cannot be seen from here."""


def described(accepted: Iterable[str]) -> str:
    """Specifications in words: ``25.2, 25.3 or 25.5``, ``525.60.13 or newer``, ``3.10 or newer below 3.14``."""
    words = [_words(spec) for spec in accepted]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _words(spec: str) -> str:
    if spec.endswith(".*"):
        return spec[:-2]
    lower, _, upper = spec.partition(",")
    text = f"{lower[2:]} or newer" if lower.startswith(">=") else lower
    return f"{text} below {upper[1:]}" if upper else text


def _accepted(name: str, rows: tuple[Row, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(spec for row in rows for spec in row.needs.get(name, ())))


def _range(spec: str) -> VersionRange:
    """A specification that was checked when the data was loaded."""
    found = parse_range(spec)
    assert found is not None, spec
    return found


def _any(specs: Iterable[str], version: Version) -> bool:
    return any(_range(spec).contains(version) for spec in specs)


def _direction(version: Version, ranges: Sequence[VersionRange]) -> RequirementState:
    if all(one.lowest is not None and version < one.lowest for one in ranges):
        return RequirementState.TOO_OLD
    if all(one.highest is not None and version >= one.highest for one in ranges):
        return RequirementState.TOO_NEW
    return RequirementState.MISMATCH
