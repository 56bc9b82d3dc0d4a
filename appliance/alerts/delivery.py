"""Posts one alert to one address, by rules that keep a webhook from being turned on the box or its neighbours.

An address is what an administrator wrote, but a name may be answered by anybody: it is looked up once, every answer is
judged, and the connection goes to the address that was judged (with the name in Host and in TLS), so that a second
answer cannot lead elsewhere. This machine itself (unless allowed), link-local addresses (there are the metadata
services of clouds), multicast and reserved ones are refused. Private ones are not: that is where an offline site's
receivers are. Redirects are not followed, no proxy is asked, no more than a status is read of the answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import json
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from appliance.alerts.types import AlertConfig, AlertEvent, Delivered, NotDelivered

TIMEOUT_S = 10.0
LONGEST_WAIT_S = 3_600.0
_AGAIN = frozenset((408, 425, 429))
_PORTS = {"http": 80, "https": 443}

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


async def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of a name. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


def sign(secret: str, timestamp: int, body: bytes) -> str:
    """The header ``X-R1Box-Signature``: HMAC-SHA256 of the timestamp, a dot and the body."""
    return "v1=" + hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()


def shown(url: str) -> str:
    """An address without its path and parameters, which often are secrets: ``https://chat.example.org``."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}" + (f":{parts.port}" if parts.port else "")


def refusal(address: str, *, loopback: bool) -> str | None:
    """Why nothing is posted to an IP address; None when it may be."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "it is no IP address"
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    if found.is_loopback:
        return None if loopback else "it is this machine itself (setting alert_loopback)"
    if found.is_link_local:
        return "it is a link-local address"
    if found.is_multicast or found.is_unspecified or (found.is_reserved and not found.is_private):
        return "it is no address of a machine"
    return None


def trust(ca_bundle: Path | None) -> ssl.SSLContext:
    """What TLS trusts: the usual authorities, and those of a file. Blocks. Raises OSError (ssl.SSLError)."""
    context = httpx.create_ssl_context(trust_env=False)
    if ca_bundle is not None:
        context.load_verify_locations(cafile=ca_bundle)
    return context


async def deliver(
    client: httpx.AsyncClient,
    url: str,
    event: AlertEvent,
    config: AlertConfig,
    timestamp: int,
    find: Resolve = resolve,
) -> Delivered | NotDelivered:
    """One try, ``TIMEOUT_S`` at most. Never raises but when cancelled."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await _deliver(client, url, event, config, timestamp, find)
    except TimeoutError:
        return NotDelivered(f"no answer within {TIMEOUT_S:g} s", again=True)
    except (OSError, httpx.TransportError) as error:
        return NotDelivered(str(error) or type(error).__name__, again=True)
    except (ValueError, httpx.InvalidURL) as error:
        return NotDelivered(f"the address cannot be used: {error}", again=False)


async def _deliver(
    client: httpx.AsyncClient, url: str, event: AlertEvent, config: AlertConfig, timestamp: int, find: Resolve
) -> Delivered | NotDelivered:
    parts = urlsplit(url)
    host, port = parts.hostname, parts.port or _PORTS.get(parts.scheme)
    if host is None or port is None:
        return NotDelivered("the address cannot be used", again=False)
    addresses = await find(host, port)
    for address in addresses:
        why_not = refusal(address, loopback=config.loopback)
        if why_not is not None:
            return NotDelivered(f"{host} is {address}: {why_not}", again=False)
    if not addresses:
        return NotDelivered(f"{host} has no address", again=True)
    body = json.dumps(event.body(), ensure_ascii=False).encode()
    headers = {
        "Host": parts.netloc.rpartition("@")[2],
        "Content-Type": "application/json",
        "User-Agent": "r1box",
        "X-R1Box-Event": event.name,
        "X-R1Box-Delivery": event.id,
        "X-R1Box-Timestamp": str(timestamp),
    }
    if config.secret:
        headers["X-R1Box-Signature"] = sign(config.secret, timestamp, body)
    target = httpx.URL(url).copy_with(host=addresses[0])
    request = client.build_request(
        "POST", target, content=body, headers=headers, extensions={"sni_hostname": host, **_timeouts()}
    )
    response = await client.send(request, stream=True)
    try:
        return _judged(response)
    finally:
        await response.aclose()


def _timeouts() -> dict[str, object]:
    return {"timeout": httpx.Timeout(TIMEOUT_S).as_dict()}


def _judged(response: httpx.Response) -> Delivered | NotDelivered:
    status = response.status_code
    if response.is_success:
        return Delivered(status)
    if response.is_redirect:
        return NotDelivered(f"it answers with a redirect ({status}), which is not followed", again=False)
    again = status >= 500 or status in _AGAIN
    asked = response.headers.get("retry-after", "")
    wait_s = min(float(asked), LONGEST_WAIT_S) if asked.isdecimal() and len(asked) < 10 else None
    return NotDelivered(f"it answers with status {status}", again=again, wait_s=wait_s)
