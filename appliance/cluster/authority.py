"""The cluster's certificates: an authority that only its boxes trust, and that signs for nobody else.

The leader's certificate is the only one that may serve, the others' may only ask (extended key usage, which OpenSSL
holds both sides to): a box that was broken into cannot pass itself off as the leader to the others. Names in the
certificates are the cluster's own (``leader.CLUSTER.r1box``), so that boxes may move to other addresses.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from appliance.cluster.errors import LeaderRefused
from appliance.cluster.files import write_private

AUTHORITY_LIFE = timedelta(days=3650)
BOX_LIFE = timedelta(days=397)
RENEW_BEFORE = timedelta(days=60)
_CLOCK_TOLERANCE = timedelta(days=1)


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class BoxFiles:
    """PEM files of one box: the authority that it trusts, its own certificate and key.

    The last two are one file, replaced in one go: no power cut leaves the key of one and the certificate of another.
    """

    authority: Path
    certificate: Path
    key: Path

    @classmethod
    def of(cls, folder: Path) -> BoxFiles:
        own = folder / "box.pem"
        return cls(folder / "authority.crt", own, own)


def leader_name(cluster_id: str) -> str:
    """The name that the leader's certificate is for."""
    return f"leader.{cluster_id}.r1box"


def fingerprint_of(pem: bytes) -> bytes:
    """SHA-256 of a certificate. Raises ValueError."""
    return x509.load_pem_x509_certificate(pem).fingerprint(hashes.SHA256())


def der_fingerprint(der: bytes) -> str:
    """The same of a certificate as TLS gives it, in hexadecimal digits."""
    return hashlib.sha256(der).hexdigest()


def new_request(folder: Path) -> bytes:
    """A key of this box in ``folder`` as ``box.key.new``, and the request (PEM) that a leader signs. Blocks."""
    key = ec.generate_private_key(ec.SECP256R1())
    write_private(folder / "box.key.new", _private_pem(key))
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM)


def accept_certificate(folder: Path, certificate: bytes) -> None:
    """Put what the leader signed in place, with the key of ``new_request``. Blocks. Raises LeaderRefused."""
    try:
        loaded = x509.load_pem_x509_certificate(certificate)
        key = serialization.load_pem_private_key((folder / "box.key.new").read_bytes(), None)
        if loaded.public_key() != key.public_key():
            raise ValueError("it is for another key")
        loaded.verify_directly_issued_by(x509.load_pem_x509_certificate((folder / "authority.crt").read_bytes()))
    except (ValueError, TypeError, InvalidSignature, OSError) as error:
        raise LeaderRefused(reason=f"the certificate that it sent is of no use ({error})") from error
    files = BoxFiles.of(folder)
    write_private(files.certificate, (folder / "box.key.new").read_bytes() + certificate)
    (folder / "box.key.new").unlink()


def ends_at(certificate: Path) -> datetime:
    """When a certificate ends. Raises OSError, ValueError."""
    return x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc


class ClusterAuthority:
    """The leader's: makes the authority, its own certificate, and those of the others. All methods block on files."""

    def __init__(self, folder: Path, cluster_id: str, now: Callable[[], datetime] = _now) -> None:
        self._folder = folder
        self._cluster_id = cluster_id
        self._now = now

    @property
    def files(self) -> BoxFiles:
        return BoxFiles.of(self._folder)

    def create(self, box: str) -> bytes:
        """A new authority and the leader's certificate; the authority's fingerprint."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = self._now()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"R1 Box cluster {self._cluster_id}")])
        certificate = (
            _builder(name, name, key.public_key(), now, AUTHORITY_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        write_private(self._folder / "authority.key", _private_pem(key))
        write_private(self.files.authority, certificate.public_bytes(serialization.Encoding.PEM))
        self.renew_own(box)
        return certificate.fingerprint(hashes.SHA256())

    def renew_own(self, box: str) -> None:
        """A new key and certificate of the leader itself."""
        own = ec.generate_private_key(ec.SECP256R1())
        signed = self._sign(own.public_key(), box, serves=True)
        write_private(self.files.certificate, _private_pem(own) + signed)

    def sign(self, request: bytes, box: str) -> bytes:
        """The certificate (PEM) of another box. What the request says beside its key does not matter. Raises
        ValueError for a request that is none, or whose key is not on P-256."""
        loaded = x509.load_pem_x509_csr(request)
        public = loaded.public_key()
        if not loaded.is_signature_valid:
            raise ValueError("its signature is wrong")
        if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
            raise ValueError("its key is not on P-256")
        return self._sign(public, box, serves=False)

    def _sign(self, public: ec.EllipticCurvePublicKey, box: str, *, serves: bool) -> bytes:
        authority = x509.load_pem_x509_certificate(self.files.authority.read_bytes())
        key = serialization.load_pem_private_key((self._folder / "authority.key").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        now = self._now()
        role = ExtendedKeyUsageOID.SERVER_AUTH if serves else ExtendedKeyUsageOID.CLIENT_AUTH
        issuer_key_id = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        alternative = leader_name(self._cluster_id) if serves else f"{box}.box.{self._cluster_id}.r1box"
        life = min(BOX_LIFE, authority.not_valid_after_utc - now)
        certificate = (
            _builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, box)]), authority.subject, public, now, life)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([role]), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(alternative)]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_key_id), critical=False
            )
            .sign(key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM)


def serving_context(files: BoxFiles) -> ssl.SSLContext:
    """The leader's side: TLS 1.3; whoever shows a certificate must have one of this cluster. One without is a stranger,
    who may do nothing but join. Raises OSError (ssl.SSLError)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(files.certificate, files.key)
    context.load_verify_locations(files.authority)
    context.verify_mode = ssl.CERT_OPTIONAL
    # A resumed session would not show its certificate again.
    context.num_tickets = 0
    context.set_alpn_protocols(["http/1.1"])
    return context


def asking_context(files: BoxFiles) -> ssl.SSLContext:
    """The others' side: only this cluster's leader is spoken to, and it is shown who asks. Raises OSError."""
    context = trusting_context(files.authority.read_bytes())
    context.load_cert_chain(files.certificate, files.key)
    return context


def trusting_context(authority: bytes) -> ssl.SSLContext:
    """Trusts one authority (PEM) and shows nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=authority.decode("ascii"))
    context.set_alpn_protocols(["http/1.1"])
    return context


def blind_context() -> ssl.SSLContext:
    """Trusts nobody: with it a box that joins asks for the authority, which it then compares with the token."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_TOLERANCE)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
