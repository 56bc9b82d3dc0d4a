"""What is known of a card by its name: memory bandwidth, and the compute capability where a driver does not tell it."""

from __future__ import annotations

import re
import tomllib
from functools import lru_cache
from importlib import resources

import msgspec

from drivers.types import Device, Vendor
from models.errors import CatalogueInvalid
from models.memory import Weights
from models.types import SpeedBand

_FILE = "cards.toml"
_SCHEMA = 1
_WORD = re.compile(r"[a-z0-9]+")
_CONTEXT_OF_ESTIMATE = 4096
_EFFICIENCY: dict[str, tuple[float, float]] = {Vendor.NVIDIA: (0.55, 0.85), Vendor.ASCEND: (0.35, 0.8)}
"""Share of the bandwidth ceiling that one stream reaches. NVIDIA: llama.cpp's usual 60-85 %; Ascend: never measured by
us, hence the wide band."""
_EFFICIENCY_OF_EXPERTS = (0.04, 0.15)
"""Mixtures of experts stay far below the ceiling: reported R1 671B speeds are 4 to 15 % of it."""


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One kind of device. ``bandwidth_gb_s`` has one figure, or the low and the high one where sources conflict."""

    vendor: Vendor
    words: tuple[str, ...]
    bandwidth_gb_s: tuple[float, ...]
    compute_capability: str | None = None


class _CardTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    schema: int
    cards: tuple[Card, ...]


@lru_cache(maxsize=1)
def load_cards() -> tuple[Card, ...]:
    """The table that ships with the package. Raises ``CatalogueInvalid``."""
    return parse_cards(resources.files("models").joinpath(_FILE).read_text(encoding="utf-8"), _FILE)


def parse_cards(text: str, source: str) -> tuple[Card, ...]:
    """Checks ``text`` (TOML) and returns its cards. Raises ``CatalogueInvalid``."""
    try:
        table = msgspec.convert(tomllib.loads(text), _CardTable, strict=True)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise CatalogueInvalid(str(error), source) from error
    if table.schema != _SCHEMA:
        raise CatalogueInvalid(f"schema {table.schema}, this software reads {_SCHEMA}", source)
    for card in table.cards:
        if not card.words or not 1 <= len(card.bandwidth_gb_s) <= 2 or min(card.bandwidth_gb_s) <= 0:
            raise CatalogueInvalid(f"card {card.words}: needs words and one or two positive bandwidths", source)
    return table.cards


def find_card(device: Device) -> Card | None:
    """The entry for ``device``, ``None`` when the table has none."""
    return _find_card(device.vendor, f"{device.name} {device.chip or ''}".lower())


@lru_cache(maxsize=256)
def _find_card(vendor: str, name: str) -> Card | None:
    """A plan of the whole catalogue asks for the same few cards hundreds of times."""
    words = set(_WORD.findall(name))
    words |= {w.removeprefix("ascend") for w in words}
    if vendor == Vendor.ASCEND:
        words |= {w.rstrip("0123456789") for w in words if w.startswith("310p")}
    matching = [c for c in load_cards() if c.vendor == vendor and {w.lower() for w in c.words} <= words]
    return max(matching, key=lambda c: len(c.words), default=None)


def decode_band(
    devices: tuple[Device, ...], weights: Weights, weights_share: tuple[float, ...], kv_bytes_per_token: float
) -> SpeedBand | None:
    """Expected tokens per second of one stream at 4,096 tokens of context, ``None`` when a card is not in the table.

    Layers on several cards are computed one card after the other, so their times add up; ``weights_share`` says which
    part lies on which device and sums up to 1.
    """
    read_bytes = float(weights.bytes_per_token or weights.on_cards_bytes) + kv_bytes_per_token * _CONTEXT_OF_ESTIMATE
    slow_s = fast_s = 0.0
    for device, share in zip(devices, weights_share, strict=True):
        card = find_card(device)
        if card is None:
            return None
        low, high = _EFFICIENCY_OF_EXPERTS if weights.bytes_per_token is not None else _EFFICIENCY[device.vendor]
        slow_s += read_bytes * share / (min(card.bandwidth_gb_s) * 1e9 * low)
        fast_s += read_bytes * share / (max(card.bandwidth_gb_s) * 1e9 * high)
    if not slow_s or not fast_s:
        return None
    return SpeedBand(low=round(1 / slow_s, 1), high=round(1 / fast_s, 1))


_EFFICIENCY_IN_PARALLEL: dict[str, tuple[float, float]] = {Vendor.NVIDIA: (0.4, 0.8), Vendor.ASCEND: (0.25, 0.65)}
"""As ``_EFFICIENCY`` when every layer is divided over devices: they wait for each other twice a layer. Not measured."""


def parallel_band(
    devices: tuple[Device, ...], read_bytes: int, kv_bytes_per_token: float, *, experts: bool
) -> SpeedBand | None:
    """Tokens per second of one stream when ``devices`` divide every layer; ``None`` when a card is not known.

    ``read_bytes`` are the weights that one token reads, all devices together.
    """
    cards = [find_card(device) for device in devices]
    if not cards or any(card is None for card in cards):
        return None
    slowest = sum(min(card.bandwidth_gb_s) for card in cards if card is not None) * 1e9
    fastest = sum(max(card.bandwidth_gb_s) for card in cards if card is not None) * 1e9
    low, high = _EFFICIENCY_OF_EXPERTS if experts else _EFFICIENCY_IN_PARALLEL.get(devices[0].vendor, (0.25, 0.65))
    if len(devices) == 1 and not experts:
        low, high = _EFFICIENCY.get(devices[0].vendor, (low, high))
    bytes_per_token = read_bytes + kv_bytes_per_token * _CONTEXT_OF_ESTIMATE
    return SpeedBand(low=round(slowest * low / bytes_per_token, 1), high=round(fastest * high / bytes_per_token, 1))


_HOST_BANDWIDTH_GB_S = (35.0, 200.0)
"""Memory of processors that such boxes have: two channels of DDR4 (a desktop) to eight of DDR5 (a server)."""
_HOST_EFFICIENCY = (0.5, 0.8)


def host_band(read_bytes: int, kv_bytes_per_token: float) -> SpeedBand:
    """Tokens per second of one stream on the processor. No probe tells the memory's bandwidth, so the band is wide."""
    bytes_per_token = read_bytes + kv_bytes_per_token * _CONTEXT_OF_ESTIMATE
    slow, fast = (gb_s * 1e9 * share for gb_s, share in zip(_HOST_BANDWIDTH_GB_S, _HOST_EFFICIENCY, strict=True))
    return SpeedBand(low=round(slow / bytes_per_token, 1), high=round(fast / bytes_per_token, 1))
