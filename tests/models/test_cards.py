"""Bandwidths by name, and the expected speed."""

from __future__ import annotations

import pytest

from models.cards import decode_band, find_card, parse_cards
from models.errors import CatalogueInvalid
from models.memory import variant_weights
from models.types import Catalogue
from tests.models.machines import ascend, nvidia


@pytest.mark.parametrize(
    ("name", "bandwidth"),
    [
        ("Tesla T4", (320.0,)),
        ("NVIDIA L4", (300.0,)),
        ("NVIDIA L40S", (864.0,)),
        ("NVIDIA A10", (600.0,)),
        ("NVIDIA A100-SXM4-40GB", (1555.0,)),
        ("NVIDIA A100 80GB PCIe", (1935.0, 2039.0)),
        ("NVIDIA H100 80GB HBM3", (3350.0,)),
        ("NVIDIA H100 PCIe", (2000.0,)),
        ("NVIDIA H20", (4000.0,)),
        ("NVIDIA H200", (4800.0,)),
        ("NVIDIA GeForce RTX 4090 D", (1008.0,)),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", (1597.0, 1792.0)),
        ("NVIDIA GB10", (273.0,)),
        ("NVIDIA Quadro 600", None),
    ],
)
def test_nvidia_cards_by_name(name: str, bandwidth: tuple[float, ...] | None) -> None:
    card = find_card(nvidia(name, 24, None))
    assert (card.bandwidth_gb_s if card else None) == bandwidth


@pytest.mark.parametrize(("chip", "bandwidth"), [("310P3", 204.0), ("Ascend910B4", 800.0), ("910B1", 1600.0)])
def test_ascend_chips(chip: str, bandwidth: float) -> None:
    card = find_card(ascend(chip, 20))
    assert card is not None
    assert card.bandwidth_gb_s == (bandwidth,)


def test_band_lies_under_the_ceiling_and_splitting_layers_does_not_raise_it(catalogue: Catalogue) -> None:
    """Ceiling of Qwen-32B Q8_0 at 4,096 tokens on a 4090: 1008e9 / (weights read + cache), 29 tokens per second."""
    variant = catalogue.variant("R1-Distill-Qwen-32B")
    assert variant is not None
    weights = variant_weights(variant, variant.quantizations["Q8_0"])
    card = nvidia("NVIDIA GeForce RTX 4090", 24, "8.9")
    one = decode_band((card,), weights, (1.0,), 262_144.0)
    two = decode_band((card, card), weights, (0.5, 0.5), 262_144.0)
    assert one is not None
    assert 14 < one.low < one.high < 29
    assert two == one
    assert decode_band((nvidia("NVIDIA Odd", 24, "8.9"),), weights, (1.0,), 262_144.0) is None


@pytest.mark.parametrize(
    "text",
    [
        "schema = 2\ncards = []",
        'schema = 1\n[[cards]]\nvendor = "amd"\nwords = ["X"]\nbandwidth_gb_s = [1.0]',
        'schema = 1\n[[cards]]\nvendor = "nvidia"\nwords = []\nbandwidth_gb_s = [1.0]',
        'schema = 1\n[[cards]]\nvendor = "nvidia"\nwords = ["X"]\nbandwidth_gb_s = [0.0]',
        'schema = 1\n[[cards]]\nvendor = "nvidia"\nword = ["X"]\nbandwidth_gb_s = [1.0]',
        "schema = ",
    ],
)
def test_a_typing_error_in_the_table_is_a_typed_error(text: str) -> None:
    with pytest.raises(CatalogueInvalid):
        parse_cards(text, "cards.toml")
