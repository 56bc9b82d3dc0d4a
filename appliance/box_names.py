"""What the box is called and how it is reached, for the console's dashboard, the page and whoever prints a sign for
it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from datetime import UTC, datetime

from appliance.certificates import ServerCertificate
from appliance.paths import default_admin_socket
from appliance.schemas.box import BoxIdentity, Certificate
from appliance.security.tls import CertificateFacts
from appliance.settings import Settings
from appliance.system.names import EVERY_NETWORK, addresses, is_loopback, names

_USUAL_PORTS = {"http": 80, "https": 443}


class BoxNames:
    """Call it for the names of this moment; blocks on files. ``announced`` is the name that the network knows now."""

    def __init__(
        self,
        settings: Settings,
        certificate: ServerCertificate,
        version: str,
        announced: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._certificate = certificate
        self._version = version
        self._announced = announced
        self._started_at = datetime.now(UTC)
        self.port = settings.port
        """Where it really listens: the settings may have said 0."""

    def __call__(self) -> BoxIdentity:
        settings = self._settings
        only_local = is_loopback(settings.host)
        announced = self._announced()
        found = addresses() if settings.host in EVERY_NETWORK else (settings.host,)
        called = [one for one in (announced, *settings.more_names) if one is not None]
        shown, authority = self._certificate.facts()
        return BoxIdentity(
            version=self._version,
            hostname=socket.gethostname(),
            started_at=self._started_at,
            urls=tuple(self._url(name) for name in dict.fromkeys([*([] if only_local else called), *found])),
            mdns_name=announced,
            names=names(settings.host, settings.mdns_name, settings.more_names),
            addresses=found,
            host=settings.host,
            port=self.port,
            tls=settings.tls,
            only_local=only_local,
            certificate=_certificate(shown),
            authority=_certificate(authority),
            admin_socket=str(settings.admin_socket or default_admin_socket(settings.state_dir)),
            state_dir=str(settings.state_dir),
            models_dir=str(settings.models_dir),
        )

    def _url(self, name: str) -> str:
        scheme = "http" if self._settings.tls == "off" else "https"
        port = "" if self.port == _USUAL_PORTS[scheme] else f":{self.port}"
        return f"{scheme}://{f'[{name}]' if ':' in name else name}{port}/"


def _certificate(facts: CertificateFacts | None) -> Certificate | None:
    if facts is None:
        return None
    return Certificate(
        fingerprint=facts.fingerprint,
        issuer=facts.issuer,
        names=facts.names,
        not_before=facts.not_before,
        not_after=facts.not_after,
    )
