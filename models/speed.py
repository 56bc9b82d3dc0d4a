"""The expected speed of a llama.cpp plan, from where its bytes lie."""

from __future__ import annotations

from dataclasses import replace

from models.cards import decode_band, host_band
from models.catalogue import kv_elements_per_token
from models.memory import KV_BYTES_PER_ELEMENT, Weights
from models.offload import Offloaded
from models.placement import Placed, Wish
from models.types import SpeedBand, Variant


def plan_speed(
    weights: Weights, variant: Variant, wish: Wish, placed: Placed, offloaded: Offloaded | None = None
) -> SpeedBand | None:
    """Tokens per second of one stream; ``None`` when a card is not in the table. Part on the host: both take their
    time, one after the other."""
    devices = tuple(r.device for r in placed.rooms if r.device is not None)
    per_token = float(kv_elements_per_token(variant.shape) * KV_BYTES_PER_ELEMENT[wish.kv_type])
    if not devices:
        read_bytes = _experts_read(weights, variant) if variant.shape.experts is not None else weights.on_cards_bytes
        return host_band(weights.bytes_per_token or read_bytes, per_token)
    layers = sum(placed.tensor_split)
    shares = tuple(count / layers for count in placed.tensor_split)
    if offloaded is not None:
        weights = offloaded.on_cards.weights
    elif variant.shape.experts is not None and weights.bytes_per_token is None:
        weights = replace(weights, bytes_per_token=_experts_read(weights, variant))
    on_cards = decode_band(devices, weights, shares, per_token)
    return on_cards if offloaded is None else with_host(on_cards, offloaded.host_read_bytes)


def with_host(on_cards: SpeedBand | None, host_read_bytes: int) -> SpeedBand | None:
    """The speed of the cards with what one token reads of the host's memory beside."""
    if on_cards is None:
        return None
    on_host = host_band(host_read_bytes, 0.0)
    return SpeedBand(
        low=_one_after_the_other(on_cards.low, on_host.low), high=_one_after_the_other(on_cards.high, on_host.high)
    )


def _one_after_the_other(first: float, second: float) -> float:
    return round(first * second / (first + second), 1) if first + second else 0.0


def _experts_read(weights: Weights, variant: Variant) -> int:
    """Bytes one token reads where the catalogue has no figure: in proportion to those that have (5.4 to 6.5 % of the
    file); 6 % of the weights is their middle."""
    return weights.on_cards_bytes * 6 // 100 if variant.shape.experts else weights.on_cards_bytes
