"""Certificates of the box: its own small authority and the server's certificate that it signs, or an operator's own.

The authority is made once and lives ten years, so that an office installs it once on its computers; the server's
certificate lives 397 days at most, which is as long as browsers accept (CA/Browser Forum ballot SC22), and is renewed
30 days before its end, or as soon as the box has a name or an address that it does not carry. Keys are P-256 (every
browser of the last ten years), readable by the service alone. The authority may only sign for the names of this box
and for private addresses: who steals its key cannot speak for a bank (RFC 5280, name constraints).
"""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from appliance.security.errors import CertificateUnusable

AUTHORITY_LIFE = timedelta(days=3650)
SERVER_LIFE = timedelta(days=397)
RENEW_BEFORE = timedelta(days=30)
_CLOCK_TOLERANCE = timedelta(days=1)
"""A computer whose clock is a little behind must not find the certificate not yet valid."""
_HOST_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
_PRIVATE = (
    "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "127.0.0.0/8",
    "fc00::/7", "fe80::/10", "::1/128",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: the server's chain and its key; the authority that people install, None with an own certificate."""

    certificate: Path
    key: Path
    authority: Path | None = None


@dataclass(frozen=True, slots=True)
class Ensured:
    """What ``LocalAuthority.ensure`` did: whether the server has a new certificate, and which names it could not get
    because the authority was made before the box had them."""

    renewed: bool
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFacts:
    """What an operator compares and watches. ``fingerprint`` is SHA-256 as browsers show it; times are UTC."""

    names: tuple[str, ...]
    issuer: str
    not_before: datetime
    not_after: datetime
    fingerprint: str


def _now() -> datetime:
    return datetime.now(UTC)


class LocalAuthority:
    """The box's own authority and the certificates it signs, in one folder. All methods block on files."""

    def __init__(self, folder: Path, now: Callable[[], datetime] = _now) -> None:
        self._folder = folder
        self._now = now
        self._authority_file = folder / "authority.crt"
        self._authority_key_file = folder / "authority.key"
        self._server_file = folder / "server.crt"
        self._server_key_file = folder / "server.key"

    @property
    def files(self) -> TlsFiles:
        """Where certificate, key and authority are, or will be."""
        return TlsFiles(self._server_file, self._server_key_file, self._authority_file)

    def ensure(self, names: Sequence[str]) -> Ensured:
        """Make what is missing, ends soon, or does not carry ``names`` (host names and IP addresses).

        An authority that is there is never replaced here, because computers trust it: see ``forget``. Raises
        CertificateUnusable when the folder cannot be written or holds something else.
        """
        wanted = _subject_names(names)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            authority, authority_key = self._authority(wanted)
            permitted = _permitted_by(authority)
            signed = [name for name in wanted if permitted is None or _covered(name, permitted)]
            left_out = tuple(str(name.value) for name in wanted if name not in signed)
            if not signed:
                raise ValueError(f"its authority may sign for none of: {', '.join(left_out) or 'no names'}")
            if self._is_current(authority, signed):
                return Ensured(False, left_out)
            self._sign(authority, authority_key, signed)
        except (OSError, ValueError) as error:
            raise _unusable(self._folder, error) from error
        return Ensured(True, left_out)

    def forget(self) -> None:
        """Give up the authority, for names that it may not sign for or when its key got about.

        The next ``ensure`` makes another, which every computer has to trust anew. Raises CertificateUnusable.
        """
        try:
            for file in (self._server_file, self._server_key_file, self._authority_file, self._authority_key_file):
                file.unlink(missing_ok=True)
        except OSError as error:
            raise _unusable(self._folder, error) from error

    def _authority(self, wanted: Sequence[x509.GeneralName]) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        """The one in the folder, or a new one when there is none or it ends."""
        if not (self._authority_file.exists() and self._authority_key_file.exists()):
            return self._new_authority(wanted)
        certificate = x509.load_pem_x509_certificate(self._authority_file.read_bytes())
        key = serialization.load_pem_private_key(self._authority_key_file.read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise ValueError("authority.key does not belong to authority.crt")
        if certificate.not_valid_after_utc - self._now() <= RENEW_BEFORE:
            return self._new_authority(wanted)
        return certificate, key

    def _new_authority(self, wanted: Sequence[x509.GeneralName]) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        key = ec.generate_private_key(ec.SECP256R1())
        now = self._now()
        # Two boxes of one office must not have authorities of the same name.
        tail = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest.hex()[:8]
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"R1 Box local authority {tail}")])
        certificate = (
            _builder(name, name, key, now, AUTHORITY_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.NameConstraints(_permitted(wanted), None), critical=True)
            .sign(key, hashes.SHA256())
        )
        _write(self._authority_key_file, _private_pem(key), mode=0o600)
        _write(self._authority_file, certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)
        return certificate, key

    def _is_current(self, authority: x509.Certificate, wanted: Sequence[x509.GeneralName]) -> bool:
        if not (self._server_file.exists() and self._server_key_file.exists()):
            return False
        try:
            found = x509.load_pem_x509_certificate(self._server_file.read_bytes())
            found.verify_directly_issued_by(authority)
            key = serialization.load_pem_private_key(self._server_key_file.read_bytes(), None)
        except (ValueError, TypeError, InvalidSignature):
            # Damaged, or of an authority that is gone: nobody trusts it, so a new one costs nothing.
            return False
        names = set(found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
        return (
            names >= set(wanted)
            and key.public_key() == found.public_key()
            and found.not_valid_after_utc - self._now() > RENEW_BEFORE
            and found.not_valid_before_utc <= self._now()
        )

    def _sign(
        self, authority: x509.Certificate, authority_key: ec.EllipticCurvePrivateKey, wanted: Sequence[x509.GeneralName]
    ) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        now = self._now()
        first = next((str(name.value) for name in wanted if isinstance(name, x509.DNSName)), "R1 Box")
        life = min(SERVER_LIFE - _CLOCK_TOLERANCE, authority.not_valid_after_utc - now)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, first)])
        issuer_key_id = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        certificate = (
            _builder(name, authority.subject, key, now, life)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName(wanted), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_key_id), critical=False
            )
            .sign(authority_key, hashes.SHA256())
        )
        # The key first: a certificate without its key is renewed at the next start, as every pair that does not match.
        _write(self._server_key_file, _private_pem(key), mode=0o600)
        _write(self._server_file, certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)


def own_certificate(certificate: Path, key: Path) -> TlsFiles:
    """An operator's own certificate, checked as far as can be without a client. Raises CertificateUnusable."""
    try:
        loaded = x509.load_pem_x509_certificates(certificate.read_bytes())
        server_context(TlsFiles(certificate, key))
    except (OSError, ValueError) as error:
        raise _unusable(certificate, error) from error
    if loaded[0].not_valid_after_utc <= _now():
        raise CertificateUnusable(path=str(certificate), reason=f"it ended on {loaded[0].not_valid_after_utc:%Y-%m-%d}")
    return TlsFiles(certificate, key)


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """What the server speaks: TLS 1.2 and newer with Python's default ciphers. Raises OSError (ssl.SSLError)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(files.certificate, files.key)
    context.set_alpn_protocols(["http/1.1"])
    return context


def facts(certificate: Path) -> CertificateFacts:
    """What a certificate file says, of its first certificate. Raises CertificateUnusable."""
    try:
        loaded = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
    except (OSError, ValueError) as error:
        raise _unusable(certificate, error) from error
    try:
        found = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = tuple(str(name.value) for name in found)
    except x509.ExtensionNotFound:
        names = ()
    return CertificateFacts(
        names=names,
        issuer=loaded.issuer.rfc4514_string(),
        not_before=loaded.not_valid_before_utc,
        not_after=loaded.not_valid_after_utc,
        fingerprint=loaded.fingerprint(hashes.SHA256()).hex(":").upper(),
    )


def _unusable(path: Path, error: OSError | ValueError) -> CertificateUnusable:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return CertificateUnusable(path=str(path), reason=reason)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_TOLERANCE)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _subject_names(names: Sequence[str]) -> list[x509.GeneralName]:
    """Names and addresses as a certificate has them, without doubles; what is neither is left out."""
    found: dict[x509.GeneralName, None] = {}
    for name in names:
        plain = name.strip().rstrip(".").lower().partition("%")[0]
        try:
            found[x509.IPAddress(ipaddress.ip_address(plain))] = None
        except ValueError:
            labels = plain.split(".")
            if plain and len(plain) <= 253 and all(_HOST_LABEL.fullmatch(label) for label in labels):
                found[x509.DNSName(plain)] = None
    return list(found)


def _permitted(wanted: Sequence[x509.GeneralName]) -> list[x509.GeneralName]:
    """What the authority may sign for: this box's names, ``.local``, private networks, and its own public addresses."""
    permitted: dict[x509.GeneralName, None] = {x509.DNSName("local"): None, x509.DNSName("localhost"): None}
    permitted |= {x509.IPAddress(ipaddress.ip_network(network)): None for network in _PRIVATE}
    for name in wanted:
        if isinstance(name, x509.DNSName):
            permitted[name] = None
        elif isinstance(name, x509.IPAddress) and not _covered(name, permitted):
            permitted[x509.IPAddress(ipaddress.ip_network(name.value))] = None
    return list(permitted)


def _permitted_by(authority: x509.Certificate) -> list[x509.GeneralName] | None:
    try:
        constraints = authority.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return None
    return constraints.permitted_subtrees


def _covered(name: x509.GeneralName, permitted: Iterable[x509.GeneralName]) -> bool:
    permitted = list(permitted)
    if isinstance(name, x509.DNSName):
        value = name.value
        suffixes = [one.value for one in permitted if isinstance(one, x509.DNSName)]
        return any(value == suffix or value.endswith(f".{suffix}") for suffix in suffixes)
    networks = [one.value for one in permitted if isinstance(one, x509.IPAddress)]
    return any(
        isinstance(network, ipaddress.IPv4Network | ipaddress.IPv6Network)
        and network.version == name.value.version
        and name.value in network
        for network in networks
    )


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes, *, mode: int) -> None:
    """Whole or not at all, never readable for longer than meant."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
