"""What can go wrong with a bundle, as typed errors (see ``models.errors``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from models.errors import ModelError, human_bytes, printable

_SHOWN = 5


class BundleError(ModelError):
    """Base of all errors of bundles."""

    code = "bundle_error"
    http_status = 422


class BundleUnreadable(BundleError):
    """A folder or file of the bundle is not there or cannot be read; also a stick that was pulled out."""

    code = "bundle_unreadable"

    def __init__(self, path: Path, problem: str, hint: str | None = None) -> None:
        super().__init__(
            f"The bundle in {path} cannot be read: {problem}.",
            hint or "Put the stick back and start again; what was copied stays.",
            path=str(path),
            problem=problem,
        )


class BundleManifestInvalid(BundleError):
    """``manifest.json`` is not one this version takes."""

    code = "bundle_manifest_invalid"

    def __init__(self, problem: str) -> None:
        super().__init__(
            f"The manifest of the bundle is wrong: {problem}.",
            "Copy the bundle again from where it came; if that does not help, ask who made it.",
            problem=problem,
        )


class BundleEntryRefused(BundleError):
    """A name in the bundle leads to something that is no ordinary file."""

    code = "bundle_entry_refused"

    def __init__(self, name: str, what: str) -> None:
        super().__init__(
            f"{name} in the bundle is {what}, not an ordinary file.",
            "Do not use this bundle: no tool makes one so. Get it again from who made it.",
            name=printable(name),
            what=what,
        )


class BundleUnsigned(BundleError):
    """No signature lies beside the manifest."""

    code = "bundle_unsigned"
    http_status = 403

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The bundle {name} is not signed, so nobody can say who made it.",
            "Get a signed one, or accept the risk with --allow-unsigned, which is recorded.",
            bundle=name,
        )


class BundleKeyUnknown(BundleError):
    """The bundle is signed with a key that this box does not trust."""

    code = "bundle_key_unknown"
    http_status = 403

    def __init__(self, name: str, key_id: str) -> None:
        super().__init__(
            f"The bundle {name} is signed with the key {key_id}, which this box does not trust.",
            "If you know whose key that is: r1box bundle trust add KEY.pub. --allow-unsigned takes it untrusted, which "
            "is recorded.",
            bundle=name,
            key_id=key_id,
        )


class BundleSignatureInvalid(BundleError):
    """The signature is not one of this manifest by the key it names. No flag overrides this."""

    code = "bundle_signature_invalid"
    http_status = 403

    def __init__(self, problem: str) -> None:
        super().__init__(
            f"The signature of the bundle does not hold: {problem}.",
            "The manifest or its signature was changed or damaged: copy both again from who made the bundle.",
            problem=problem,
        )


class BundleDamaged(BundleError):
    """Bytes of the bundle are not those of the manifest. ``ranges`` name file and bytes, a line each."""

    code = "bundle_damaged"

    def __init__(self, name: str, ranges: Sequence[str], damaged_bytes: int, *, kept: bool) -> None:
        shown = "; ".join(ranges[:_SHOWN]) + (f"; and {len(ranges) - _SHOWN} more" if len(ranges) > _SHOWN else "")
        hint = "Copy the files named here to the stick again"
        if kept:
            hint += ", then start the import again: only these ranges are read"
        super().__init__(
            f"{human_bytes(damaged_bytes)} of the bundle {name} are damaged: {shown}.",
            f"{hint}.",
            bundle=name,
            ranges=list(ranges),
            damaged_bytes=damaged_bytes,
        )


class BundleStickMissing(BundleError):
    """Files of the bundle lie on sticks that were not given."""

    code = "bundle_stick_missing"
    http_status = 409

    def __init__(self, bundle: str, sticks: Sequence[str], missing_files: Sequence[str], missing_bytes: int) -> None:
        files = ", ".join(missing_files[:_SHOWN])
        more = f" and {len(missing_files) - _SHOWN} more" if len(missing_files) > _SHOWN else ""
        super().__init__(
            f"Missing of the bundle {bundle}: {files}{more} ({human_bytes(missing_bytes)}), to be found on "
            f"{' and '.join(sticks)}.",
            "Put that stick in and start again with its folder; what was copied stays.",
            bundle=bundle,
            sticks=list(sticks),
            missing_files=list(missing_files),
            missing_bytes=missing_bytes,
        )


class BundleMismatch(BundleError):
    """Folders were given together that are not sticks of one bundle."""

    code = "bundle_mismatch"
    http_status = 409

    def __init__(self, path: Path, other: str, wanted: str) -> None:
        same = "the same bundle, but made or signed at another time" if other == wanted else f"the bundle {other}"
        super().__init__(
            f"{path} holds {same}; it does not belong to the other folders, which are {wanted}.",
            "Give only folders of one bundle: their files manifest.json are the same.",
            path=str(path),
            bundle=other,
            wanted=wanted,
        )


class BundleContradiction(BundleError):
    """The files are what was signed, but not what the manifest says that they are."""

    code = "bundle_contradiction"

    def __init__(self, bundle: str, problem: str) -> None:
        super().__init__(
            f"The bundle {bundle} contradicts itself: {problem}.",
            "Do not use it; tell who made it.",
            bundle=bundle,
            problem=problem,
        )


class BundleDoesNotFit(BundleError):
    """The model would not run on this machine."""

    code = "bundle_does_not_fit"
    http_status = 507

    def __init__(self, bundle: str, reason: str, needed_bytes: int | None, available_bytes: int | None) -> None:
        super().__init__(
            f"{bundle} would not run on this machine: {reason}.",
            "Nothing was copied. r1box plan shows what does fit; --even-if-it-does-not-fit copies it anyway.",
            bundle=bundle,
            reason=reason,
            needed_bytes=needed_bytes,
            available_bytes=available_bytes,
        )


class BundleTargetUnusable(BundleError):
    """A bundle cannot be written there."""

    code = "bundle_target_unusable"

    def __init__(self, path: Path, problem: str, hint: str) -> None:
        super().__init__(f"No bundle can be written to {path}: {problem}.", hint, path=str(path), problem=problem)


class BundleTargetTooSmall(BundleError):
    """The sticks together do not hold the bundle."""

    code = "bundle_target_too_small"
    http_status = 507

    def __init__(self, needed_bytes: int, available_bytes: int, sticks: int) -> None:
        where = "the stick has" if sticks == 1 else f"the {sticks} sticks together have"
        super().__init__(
            f"The bundle needs {human_bytes(needed_bytes)}; {where} room for {human_bytes(available_bytes)}.",
            "Give more or larger sticks (several folders, or --stick-size), or free some room.",
            needed_bytes=needed_bytes,
            available_bytes=available_bytes,
            sticks=sticks,
        )


class BundleSourceChanged(BundleError):
    """The model's files changed between being hashed and being copied."""

    code = "bundle_source_changed"
    http_status = 409

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path.name} changed while the bundle was being made.",
            "Wait until whatever writes it has ended; r1box models verify tells whether a stored model is whole.",
            path=str(path),
        )


class KeyFileInvalid(BundleError):
    """A file is not a key of the kind wanted."""

    code = "key_file_invalid"

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(
            f"{name} is not a usable key: {problem}.",
            "Keys are made with 'r1box bundle keygen' or with minisign.",
            name=name,
            problem=problem,
        )


class KeyPasswordWrong(BundleError):
    """The secret key is locked with another password."""

    code = "key_password_wrong"
    http_status = 403

    def __init__(self, name: str) -> None:
        super().__init__(f"The password does not open the secret key {name}.", "Try again.", name=name)


class KeyNotTrusted(BundleError):
    """No trusted key has this id."""

    code = "key_not_trusted"
    http_status = 404

    def __init__(self, key_id: str) -> None:
        super().__init__(
            f"There is no trusted key {key_id}.", "r1box bundle trust list shows all of them.", key_id=key_id
        )
