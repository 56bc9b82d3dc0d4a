"""Body of ``/api/admin/box``: what the box is called and how it is reached."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict


class Certificate(BaseModel):
    """A certificate as people compare it: ``fingerprint`` is its SHA-256 in browsers' form."""

    model_config = ConfigDict(frozen=True)

    fingerprint: str
    issuer: str
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime


class BoxIdentity(BaseModel):
    """``urls``: the chat page's addresses, the easiest to type first. ``mdns_name``: what the box is announced as
    (``r1box.local``), null while it is not. ``addresses``: IP addresses that the port answers on. ``only_local``:
    nobody but this machine reaches it. ``certificate`` is what the port shows, ``authority`` the box's own that signed
    it; both null without TLS, the latter with a certificate of one's own too."""

    model_config = ConfigDict(frozen=True)

    version: str
    hostname: str
    started_at: datetime
    urls: tuple[str, ...]
    mdns_name: str | None = None
    names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    host: str
    port: int
    tls: str
    only_local: bool
    certificate: Certificate | None = None
    authority: Certificate | None = None
    admin_socket: str
    state_dir: str
    models_dir: str
