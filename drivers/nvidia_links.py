"""How NVIDIA's cards reach each other: NVLink directly or through NVSwitches, else the PCI bus. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from drivers.nvidia_reading import NvmlDevice, NvmlReading
from drivers.pci import normalize_address
from drivers.types import DeviceLink, LinkKind

_GPU = 0
_SWITCH = 2
_LEVELS: Mapping[int, LinkKind] = {
    0: LinkKind.PIX,
    10: LinkKind.PIX,
    20: LinkKind.PXB,
    30: LinkKind.PHB,
    40: LinkKind.PHB,
    50: LinkKind.SYS,
}
"""NVML's levels of a common ancestor: one board, one switch, several, a host bridge, a NUMA node, the machine. Two
bridges of one NUMA node (40) have no word of their own here."""


def device_links(reading: NvmlReading) -> dict[int, tuple[DeviceLink, ...]]:
    """Links of each card that answers, by index, to peers by ``Device.key``; fastest first, then by peer."""
    cards = [device for device in reading.devices if device.error is None]
    near = {}
    if reading.topology is not None:
        for first, second, level in reading.topology.pairs:
            near[frozenset((first, second))] = _LEVELS.get(level)
    order = list(LinkKind)
    links: dict[int, tuple[DeviceLink, ...]] = {}
    for card in cards:
        found: list[tuple[int, DeviceLink]] = []
        for peer in cards:
            if peer.index == card.index:
                continue
            lanes = nvlinks_between(card, peer)
            kind = LinkKind.NVLINK if lanes else near.get(frozenset((card.index, peer.index)))
            if kind is not None:
                found.append((peer.index, DeviceLink(f"nvidia:{peer.index}", kind, lanes or None)))
        found.sort(key=lambda pair: (order.index(pair[1].kind), pair[0]))
        links[card.index] = tuple(link for _, link in found)
    return links


def nvlinks_between(card: NvmlDevice, peer: NvmlDevice) -> int:
    """How many NVLinks join two cards. All links to NVSwitches reach every card that has such links too."""
    address = normalize_address(peer.pci_bus_id) if peer.pci_bus_id else None
    direct = sum(
        1
        for link in card.nvlinks
        if link.active
        and link.remote_type in (None, _GPU)
        and address is not None
        and link.remote_bus_id is not None
        and normalize_address(link.remote_bus_id) == address
    )
    return direct + min(_to_switch(card), _to_switch(peer))


def active_nvlinks(card: NvmlDevice) -> int:
    """How many of the card's NVLinks are up."""
    return sum(1 for link in card.nvlinks if link.active)


def fewer_links(cards: Sequence[NvmlDevice]) -> dict[int, int]:
    """Cards that have fewer NVLinks up than another card of the same name, with the number that those have."""
    most: dict[str, int] = {}
    for card in cards:
        if card.name is not None:
            most[card.name] = max(most.get(card.name, 0), active_nvlinks(card))
    return {
        card.index: most[card.name]
        for card in cards
        if card.name is not None and card.nvlinks and active_nvlinks(card) < most[card.name]
    }


def _to_switch(card: NvmlDevice) -> int:
    return sum(1 for link in card.nvlinks if link.active and link.remote_type == _SWITCH)
