"""The server's certificate while the daemon runs: made or read at the start, renewed without a restart."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import structlog
from cryptography import x509

from appliance.errors import AppError
from appliance.security.tls import CertificateFacts, LocalAuthority, TlsFiles, facts, own_certificate, server_context
from appliance.settings import Settings
from appliance.system.names import names

_log = structlog.get_logger(__name__)

LOOK_AGAIN_S = 3600.0


class ServerCertificate:
    """What the server shows. New connections get a renewed certificate, running ones keep theirs."""

    def __init__(self, settings: Settings, wanted: Callable[[], tuple[str, ...]] | None = None) -> None:
        self._settings = settings
        self._wanted = wanted or (lambda: _names_of(settings))
        self._authority = LocalAuthority(settings.state_dir / "tls")
        self._context: ssl.SSLContext | None = None
        self._loaded: tuple[bytes, bytes] | None = None

    @property
    def files(self) -> TlsFiles:
        """Where certificate and key are."""
        settings = self._settings
        if settings.tls == "files":
            # Settings says that both are there.
            assert settings.tls_certificate is not None
            assert settings.tls_key is not None
            return TlsFiles(settings.tls_certificate, settings.tls_key)
        return self._authority.files

    def authority(self) -> bytes | None:
        """The box's own authority as PEM, for computers that shall trust it; None where it has none. Blocks."""
        file = self.files.authority
        return file.read_bytes() if self._settings.tls == "local" and file is not None and file.is_file() else None

    def ends_at(self) -> datetime | None:
        """When what the server shows ends; ``None`` without TLS, or when the file cannot be read. Blocks."""
        if self._settings.tls == "off":
            return None
        try:
            return x509.load_pem_x509_certificates(self.files.certificate.read_bytes())[0].not_valid_after_utc
        except (OSError, ValueError, IndexError):
            return None

    def names(self) -> frozenset[str]:
        """What the server may be called: its own names, and those that an operator's certificate is for. Blocks."""
        found = set(self._wanted())
        if self._settings.tls == "files":
            with suppress(OSError, ValueError, IndexError, x509.ExtensionNotFound):
                shown = x509.load_pem_x509_certificates(self.files.certificate.read_bytes())[0]
                subject = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName)
                found |= set(subject.value.get_values_for_type(x509.DNSName))
        return frozenset(found)

    def facts(self) -> tuple[CertificateFacts | None, CertificateFacts | None]:
        """What the server shows and the box's own authority; ``None`` for what there is not, or cannot be read.
        Blocks."""
        if self._settings.tls == "off":
            return None, None
        files = self.files
        return _facts(files.certificate), None if files.authority is None else _facts(files.authority)

    def open(self) -> ssl.SSLContext | None:
        """The context for the server, None with TLS off. Blocks. Raises CertificateUnusable."""
        if self._settings.tls == "off":
            return None
        self._make()
        self._context = server_context(self.files)
        self._loaded = self._on_disk()
        return self._context

    def refresh(self) -> bool:
        """Renew what has to be and load what changed on the disk; True when new connections get another certificate.

        Blocks. Raises CertificateUnusable; the certificate before stays in use then.
        """
        if self._context is None:
            return False
        self._make()
        found = self._on_disk()
        if found == self._loaded:
            return False
        files = self.files
        self._context.load_cert_chain(files.certificate, files.key)
        self._loaded = found
        return True

    async def keep_current(self, pause_s: float = LOOK_AGAIN_S) -> None:
        """Look every hour, until cancelled."""
        while True:
            await asyncio.sleep(pause_s)
            try:
                if await asyncio.to_thread(self.refresh):
                    _log.info("certificate_loaded", path=str(self.files.certificate))
            except AppError as error:
                _log.error("certificate_unusable", reason=error.message)
            except OSError as error:
                _log.error("certificate_unusable", reason=str(error))

    def _make(self) -> None:
        if self._settings.tls == "files":
            files = self.files
            own_certificate(files.certificate, files.key)
            return
        left_out = self._authority.ensure(self._wanted()).left_out
        if left_out:
            _log.warning("certificate_without_names", names=", ".join(left_out), fix="r1box tls new-authority")

    def _on_disk(self) -> tuple[bytes, bytes]:
        files = self.files
        return files.certificate.read_bytes(), Path(files.key).read_bytes()


def _facts(file: Path) -> CertificateFacts | None:
    try:
        return facts(file)
    except AppError:
        return None


def _names_of(settings: Settings) -> tuple[str, ...]:
    return names(settings.host, settings.mdns_name, settings.more_names)
