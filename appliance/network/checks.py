"""Whether a change can be made, and what it comes to: pure functions of what is and what is wished.

``settle`` fills in what the change leaves out, so that everything after it deals with whole settings.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from appliance.network.errors import (
    AddressInvalid,
    AddressTaken,
    GatewayOutside,
    HostnameInvalid,
    InterfaceNeeded,
    InterfaceUnknown,
    InterfaceUnmanaged,
    ModeConflict,
    NothingChanges,
    ServerInvalid,
    TimeServiceUnknown,
)
from appliance.schemas.network import ChangeLine, Interface, Mode, Network, NetworkChange

LONGEST_HOSTNAME = 64
"""Linux takes no longer one (hostname(7)); RFC 1123 would allow 253."""
MOST_USED_DNS = 3
"""resolv.conf(5): libraries ask three and no more."""
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

IpInterface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
_OF_INTERFACE = ("mode", "addresses", "gateways", "dns")


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """An interface's settings in whole. With ``dhcp`` there are no addresses and gateways, and ``dns`` replaces what
    the network says, unless it is empty."""

    interface: str
    mode: Mode
    addresses: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Settled:
    """What a change comes to. None: that part stays. ``new_addresses`` are those that the machine has not yet."""

    change: NetworkChange
    link: LinkSettings | None
    ntp: tuple[str, ...] | None
    hostname: str | None
    lines: tuple[ChangeLine, ...]
    new_addresses: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def settle(change: NetworkChange, now: Network) -> Settled:
    """Raises a NetworkInvalid that says what is wrong and what would do."""
    touches_link = any(getattr(change, name) is not None for name in _OF_INTERFACE)
    interface = _interface(change, now) if touches_link or change.interface else None
    link = _link(change, interface) if interface is not None and touches_link else None
    ntp = None if change.ntp is None else tuple(_time_server(one) for one in change.ntp)
    hostname = None if change.hostname is None else check_hostname(change.hostname)
    if ntp is not None and now.clock.service is None:
        raise TimeServiceUnknown(param="ntp", found="no known service keeps the time")
    lines = tuple(_lines(change, link, interface, ntp, hostname, now))
    if not lines:
        raise NothingChanges(param="change")
    changed = {line.what for line in lines}
    link = link if changed & set(_OF_INTERFACE) else None
    new = () if link is None or interface is None else _new_addresses(link, interface, now)
    return Settled(
        change=_normal(change, link, ntp, hostname, changed),
        link=link,
        ntp=ntp if "ntp" in changed else None,
        hostname=hostname if "hostname" in changed else None,
        lines=lines,
        new_addresses=new,
        warnings=() if link is None else tuple(_warnings(link, now)),
    )


def check_hostname(value: str) -> str:
    """The name in small letters. Raises HostnameInvalid (RFC 1123, section 2.1)."""
    name = value.strip().rstrip(".").lower()
    labels = name.split(".")
    reason = None
    if len(name) > LONGEST_HOSTNAME:
        reason = f"it is longer than {LONGEST_HOSTNAME} characters"
    elif not all(_LABEL.fullmatch(label) for label in labels):
        reason = "a part is empty, longer than 63, or has other characters than letters, digits and inner hyphens"
    elif labels[-1].isdigit():
        reason = "it would be read as an address"
    elif labels[0] == "localhost":
        reason = "every machine calls itself that"
    if reason is not None:
        raise HostnameInvalid(param="hostname", value=value[:80], reason=reason)
    return name


def _interface(change: NetworkChange, now: Network) -> Interface:
    known = ", ".join(one.name for one in now.interfaces) or "none"
    if change.interface is None:
        kept = [one for one in now.interfaces if one.manager is not None]
        # One card with a cable is what people mean by "the network".
        found = kept if len(kept) == 1 else [one for one in kept if one.carrier]
        if len(found) != 1:
            if not kept:
                first = now.interfaces[0].name if now.interfaces else "?"
                raise InterfaceUnmanaged(param="interface", name=first)
            raise InterfaceNeeded(param="interface", known=known, first=kept[0].name)
        return found[0]
    for one in now.interfaces:
        if one.name == change.interface:
            if one.manager is None:
                raise InterfaceUnmanaged(param="interface", name=one.name)
            return one
    raise InterfaceUnknown(param="interface", name=change.interface, known=known)


def _link(change: NetworkChange, interface: Interface) -> LinkSettings:
    mode: Mode = change.mode or interface.mode or ("static" if change.addresses else "dhcp")
    dns = _name_servers(change.dns) if change.dns is not None else interface.dns
    if mode == "dhcp":
        if change.addresses or change.gateways:
            raise ModeConflict(
                param="mode",
                problem="The address comes from the network (DHCP), and another one is given.",
                advice="Say mode static with the address, or leave address and gateway out.",
            )
        # What the network said of name servers is not written down as if somebody had chosen it.
        return LinkSettings(interface.name, "dhcp", dns=_name_servers(change.dns) if change.dns is not None else ())
    given = change.addresses if change.addresses is not None else interface.addresses
    addresses = [_address(one) for one in given]
    if not addresses:
        raise ModeConflict(
            param="addresses",
            problem=f"{interface.name} needs an address when the network does not give one.",
            advice="Give address and prefix length, such as 10.0.4.17/24.",
        )
    kept = [one for one in interface.gateways if _reaches(addresses, one)]
    gateways = [_gateway(one, addresses) for one in change.gateways] if change.gateways is not None else kept
    if len({ipaddress.ip_address(one).version for one in gateways}) < len(gateways):
        raise ModeConflict(
            param="gateways",
            problem="There are two gateways of the same kind.",
            advice="Give one for IPv4, and one for IPv6 if there is one.",
        )
    return LinkSettings(interface.name, "static", tuple(str(one) for one in addresses), tuple(gateways), dns)


def _address(text: str) -> IpInterface:
    try:
        if "/" not in text:
            raise AddressInvalid(param="addresses", value=text[:80], reason="its prefix length is missing")
        found = ipaddress.ip_interface(text.strip())
    except ValueError:
        raise AddressInvalid(param="addresses", value=text[:80], reason="it is no IPv4 or IPv6 address") from None
    reason, net = None, found.network
    if found.is_loopback or found.is_unspecified or found.is_multicast:
        reason = "it is kept for another purpose"
    elif found.is_link_local:
        reason = "such addresses are given by the machine itself"
    elif net.prefixlen == 0:
        reason = "a network of all addresses reaches nobody"
    elif found.version == 4 and net.prefixlen < 31 and found.ip == net.network_address:
        reason = f"it names the network {net} itself"
    elif found.version == 4 and net.prefixlen < 31 and found.ip == net.broadcast_address:
        reason = f"it calls all machines of the network {net}"
    if reason is not None:
        raise AddressInvalid(param="addresses", value=text[:80], reason=reason)
    return found


def _reaches(addresses: Iterable[IpInterface], gateway: str) -> bool:
    router = ipaddress.ip_address(gateway)
    # Of IPv6 a router's link-local address is reached from any other of that kind.
    nearby = router.version == 6 and router.is_link_local
    return any(one.version == router.version and (nearby or router in one.network) for one in addresses)


def _gateway(text: str, addresses: Sequence[IpInterface]) -> str:
    networks = ", ".join(str(one.network) for one in addresses)
    try:
        router = ipaddress.ip_address(text.strip())
    except ValueError:
        reason = "it is no address"
    else:
        if any(router == one.ip for one in addresses):
            reason = "it is the box's own address"
        elif not _reaches(addresses, str(router)):
            reason = "it is in no network of the box"
        elif any(router == one.network.network_address and one.network.prefixlen < 31 for one in addresses):
            reason = "it names the network itself"
        else:
            return str(router)
    raise GatewayOutside(param="gateways", value=text[:80], reason=reason, networks=networks)


def _name_servers(given: Sequence[str]) -> tuple[str, ...]:
    found = []
    for text in given:
        try:
            found.append(str(ipaddress.ip_address(text.strip())))
        except ValueError:
            raise ServerInvalid(
                param="dns",
                value=text[:80],
                what="address of a name server",
                advice="Give its number, such as 10.0.4.1: without a name server no name can be looked up.",
            ) from None
    return tuple(dict.fromkeys(found))


def _time_server(text: str) -> str:
    value = text.strip()
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        name = value.lower().rstrip(".")
    labels = name.split(".")
    if len(name) <= 253 and all(_LABEL.fullmatch(label) for label in labels) and not labels[-1].isdigit():
        return name
    raise ServerInvalid(
        param="ntp",
        value=text[:80],
        what="time server",
        advice="Give a name or an address, such as ntp.example.org or 10.0.4.1.",
    )


def _lines(
    change: NetworkChange,
    link: LinkSettings | None,
    interface: Interface | None,
    ntp: Sequence[str] | None,
    hostname: str | None,
    now: Network,
) -> Iterator[ChangeLine]:
    if link is not None and interface is not None:
        if link.mode != interface.mode:
            before = () if interface.mode is None else (interface.mode,)
            yield ChangeLine(what="mode", before=before, after=(link.mode,))
        if link.mode == "static":
            if _set(link.addresses) != _set(interface.addresses):
                yield ChangeLine(what="addresses", before=interface.addresses, after=link.addresses)
            if set(link.gateways) != set(interface.gateways):
                yield ChangeLine(what="gateways", before=interface.gateways, after=link.gateways)
        # No servers with DHCP means those that the network names.
        if link.dns != interface.dns and (link.dns or link.mode == "static" or change.dns == ()):
            yield ChangeLine(what="dns", before=interface.dns, after=link.dns)
    if ntp is not None and tuple(ntp) != now.clock.servers:
        yield ChangeLine(what="ntp", before=now.clock.servers, after=tuple(ntp))
    if hostname is not None and hostname != now.hostname:
        yield ChangeLine(what="hostname", before=(now.hostname,), after=(hostname,))


def _set(addresses: Iterable[str]) -> set[IpInterface]:
    return {ipaddress.ip_interface(one) for one in addresses}


def _new_addresses(link: LinkSettings, interface: Interface, now: Network) -> tuple[str, ...]:
    """Raises AddressTaken for one that another card of the machine has."""
    own = {ipaddress.ip_interface(one).ip for one in interface.addresses}
    others = {
        ipaddress.ip_interface(address).ip: one.name
        for one in now.interfaces
        if one.name != interface.name
        for address in one.addresses
    }
    new = []
    for text in link.addresses:
        address = ipaddress.ip_interface(text).ip
        if address in others:
            raise AddressTaken(param="addresses", value=text, holder=f"{others[address]} of this machine")
        if address not in own:
            new.append(text)
    return tuple(new)


def _warnings(link: LinkSettings, now: Network) -> Iterator[str]:
    """What can be meant so, and often is not."""
    if link.mode != "static":
        return
    if not link.gateways:
        yield "no_gateway"
    if not link.dns:
        yield "no_dns"
    if len(link.dns) > MOST_USED_DNS:
        yield "many_dns"
    networks = [ipaddress.ip_interface(one).network for one in link.addresses]
    for one in now.interfaces:
        if one.name != link.interface and any(
            ipaddress.ip_interface(address).network.overlaps(net)
            for address in one.addresses
            for net in networks
            if ipaddress.ip_interface(address).version == net.version
        ):
            yield "same_network"
            return


def _normal(
    change: NetworkChange,
    link: LinkSettings | None,
    ntp: tuple[str, ...] | None,
    hostname: str | None,
    changed: set[str],
) -> NetworkChange:
    """The change in its shortest and exact form."""
    if link is None:
        return NetworkChange(
            ntp=ntp if "ntp" in changed else None, hostname=hostname if "hostname" in changed else None
        )
    static = link.mode == "static"
    return change.model_copy(
        update={
            "interface": link.interface,
            "mode": link.mode,
            "addresses": link.addresses if static else None,
            "gateways": link.gateways if static else None,
            "dns": link.dns if static or link.dns else None,
            "ntp": ntp if "ntp" in changed else None,
            "hostname": hostname if "hostname" in changed else None,
        }
    )
