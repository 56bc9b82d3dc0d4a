"""What can go wrong between this box and a model hub, as typed errors.

Apart from ``models.errors`` because only ``models.download`` and its parts raise them. No message or detail ever holds
a token or the query of an address: signed addresses of a hub's storage are secrets for as long as they live.
"""

from __future__ import annotations

from collections.abc import Sequence

from models.errors import ModelError, human_bytes

CARRY = "r1box models import PATH takes them there, r1box bundle create makes a signed bundle of them"


class DownloadError(ModelError):
    """Base of the errors of a download."""

    code = "download_failed"
    http_status = 502


class TargetUnusable(DownloadError):
    """What was asked for cannot be read as a variant or a repository."""

    code = "pull_target_unusable"
    http_status = 422

    def __init__(self, target: str, problem: str) -> None:
        super().__init__(
            f"'{target}' cannot be pulled: {problem}.",
            "Give VARIANT[:QUANTIZATION] (r1box plan names both), or OWNER/REPOSITORY[@REVISION][:FILE].",
            target=target,
        )


class NotPublished(DownloadError):
    """Nobody publishes the wanted form, or not where it was looked for. ``there`` are the forms that are."""

    code = "form_not_published"
    http_status = 404

    def __init__(self, what: str, where: str, there: Sequence[str], hint: str | None = None) -> None:
        found = f"There are: {', '.join(there[:12])}." if there else "r1box plan --all names other forms."
        super().__init__(f"{where} has no {what}.", hint or found, what=what, where=where, there=list(there))


class ChoiceAmbiguous(DownloadError):
    """Several things have the name that was given."""

    code = "pull_choice_ambiguous"
    http_status = 409

    def __init__(self, what: str, candidates: Sequence[str]) -> None:
        super().__init__(
            f"'{what}' fits {len(candidates)}: {', '.join(candidates[:8])}.",
            "Name one of them.",
            what=what,
            candidates=list(candidates),
        )


class NothingFits(DownloadError):
    """``auto`` found no published form that fits this machine."""

    code = "no_plan_to_pull"
    http_status = 422

    def __init__(self, what: str, nearest: str | None) -> None:
        why = f" The nearest: {nearest}" if nearest else ""
        super().__init__(
            f"No published form of {what} fits this machine.{why}",
            "r1box plan shows what fits; name a quantization to pull one all the same.",
            what=what,
        )


class HubUnreachable(DownloadError):
    """No way to the hub: no route, no name, nobody listening. ``files`` are lines with what to fetch elsewhere."""

    code = "hub_unreachable"
    http_status = 503

    def __init__(self, host: str, reason: str, files: Sequence[str] = ()) -> None:
        wanted = "".join(f"\n  {line}" for line in files)
        super().__init__(
            f"This box has no way to {host}: {reason}.",
            f"Fetch the files elsewhere and bring them on a stick; {CARRY}. Behind a proxy: set HTTPS_PROXY or "
            f"hub_proxy. 'r1box models pull ... --print-files' prints addresses and hashes.{wanted}",
            host=host,
            reason=reason,
            files=list(files),
        )


class HubRefused(DownloadError):
    """The hub knows who asks, or wants to: the repository is gated or private, or the token is wrong."""

    code = "hub_refused"
    http_status = 403

    def __init__(self, host: str, repository: str, status: int, *, with_token: bool, variable: str) -> None:
        said = "with the token that is set" if with_token else "without a token"
        hint = (
            "Accept its terms on the hub's page with the account of that token, or use another token."
            if with_token
            else f"If it is gated or private: accept its terms on the hub's page and set {variable} (or a token file)."
        )
        super().__init__(
            f"{host} does not give {repository} to this box {said} (HTTP {status}).",
            hint,
            host=host,
            repository=repository,
            status=status,
            with_token=with_token,
        )


class RepositoryUnknown(DownloadError):
    """The hub has no such repository or revision (or does not show it to strangers)."""

    code = "hub_repository_unknown"
    http_status = 404

    def __init__(self, host: str, repository: str, revision: str | None = None) -> None:
        what = f"revision {revision} of {repository}" if revision else f"repository {repository}"
        super().__init__(
            f"{host} has no {what}.",
            "Check the spelling; a private repository needs a token.",
            host=host,
            repository=repository,
            revision=revision,
        )


class HubBusy(DownloadError):
    """The hub answers, but only that it has too much to do, or that it is broken."""

    code = "hub_busy"
    http_status = 503

    def __init__(self, host: str, status: int, retry_after_s: float | None = None) -> None:
        later = f"in {retry_after_s:.0f} s" if retry_after_s is not None else "later"
        super().__init__(
            f"{host} takes no more requests now (HTTP {status}).",
            f"Start the same command again {later}: it goes on where it was. A token raises most limits.",
            host=host,
            status=status,
            retry_after_s=retry_after_s,
        )


class HubAnswerUnusable(DownloadError):
    """The answer is not what a hub says: a web page of a proxy, nonsense, a file in another form."""

    code = "hub_answer_unusable"

    def __init__(self, host: str, problem: str, *, is_page: bool = False) -> None:
        hint = (
            "A proxy or a log-in page of the network answers instead of the hub: open the hub in a browser on this "
            "network, or set HTTPS_PROXY (hub_proxy)."
            if is_page
            else "Check the hub's address in the settings; a mirror may be broken: try --from with the other hub."
        )
        super().__init__(f"{host} gives no usable answer: {problem}.", hint, host=host, problem=problem)


class DownloadInterrupted(DownloadError):
    """The connection broke too often; what arrived is kept."""

    code = "download_interrupted"
    http_status = 503

    def __init__(self, name: str, host: str, reason: str, missing_bytes: int) -> None:
        super().__init__(
            f"{name} could not be fetched to the end from {host}: {reason}.",
            f"{human_bytes(missing_bytes)} are missing. Start the same command again: it goes on where it was.",
            file=name,
            host=host,
            reason=reason,
            missing_bytes=missing_bytes,
        )


class HubFileChanged(DownloadError):
    """The file on the hub is not the one that was listed, or became another while it was fetched."""

    code = "hub_file_changed"
    http_status = 409

    def __init__(self, name: str, host: str, problem: str) -> None:
        super().__init__(
            f"{name} on {host} is another file now: {problem}.",
            "Start the same command again to get what is there now; a mirror that keeps changing is broken.",
            file=name,
            host=host,
            problem=problem,
        )


class HashMismatch(DownloadError):
    """The bytes that arrived are not those that were promised. Nothing was installed."""

    code = "download_hash_mismatch"

    def __init__(self, name: str, expected: str, actual: str, differing: Sequence[int] = ()) -> None:
        where = f" Two downloads differed in {len(differing)} blocks." if differing else ""
        super().__init__(
            f"{name} has the hash {actual[:16]}..., {expected[:16]}... was promised; nothing was installed.{where}",
            "Something on the way changes bytes (a proxy, a broken mirror, bad memory): try --from with the other hub, "
            "or fetch the file elsewhere and import it from a stick.",
            file=name,
            expected=expected,
            actual=actual,
            differing_blocks=len(differing),
        )


class CatalogueHashConflict(DownloadError):
    """The hub shows other bytes than the catalogue at the very revision that the catalogue names."""

    code = "catalogue_hash_conflict"
    http_status = 409

    def __init__(self, name: str, revision: str, known: str, seen: str) -> None:
        super().__init__(
            f"{name} at revision {revision[:12]} has the hash {known[:16]}... in the catalogue and {seen[:16]}... on "
            "the hub; it was not fetched.",
            "A revision never changes on an honest hub: check the hub's address, or use the other hub.",
            file=name,
            revision=revision,
            known=known,
            seen=seen,
        )


class HubFileReplaced(DownloadError):
    """The hub shows other bytes under the name than the catalogue, or an earlier pull on this box, had; no commit was
    asked for."""

    code = "hub_file_replaced"
    http_status = 409

    def __init__(self, name: str, repository: str, revision: str, known: str, seen: str, *, where: str) -> None:
        super().__init__(
            f"{name} of {repository} is another file now: sha256 {known[:16]}... {where}, {seen[:16]}... at revision "
            f"{revision[:12]}; it was not fetched.",
            "Uploaders do replace files. Look at what changed on the hub, then take it with --accept-changed, or name "
            f"the commit you want: r1box models pull {repository}@COMMIT:{name}",
            file=name,
            repository=repository,
            revision=revision,
            known=known,
            seen=seen,
        )


class CertificatesUnusable(DownloadError):
    """The file with additional certificates is none."""

    code = "hub_certificates_unusable"
    http_status = 500

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(
            f"The certificates in {path} (hub_ca_bundle) cannot be used: {problem}.",
            "Give a PEM file with the certificate of the proxy's or mirror's authority.",
            path=path,
            problem=problem,
        )


class TokenFileUnsafe(DownloadError):
    """A file with a token can be read by others, or not by us."""

    code = "token_file_unsafe"
    http_status = 500

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(
            f"The token file {path} is not used: {problem}.",
            f"It should belong to the user who runs r1box: chmod 600 {path}",
            path=path,
            problem=problem,
        )
