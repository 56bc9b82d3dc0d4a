"""Scenarios of real boxes for the fake ``libdcmi.so``: settings to change, add to and write with ``write_scenario``.

Names, memory and addresses are those of recorded ``npu-smi`` output of such boxes; the names of the settings are in
``fake_dcmi.c``. A setting of a chip is ``card.chip.name`` (950: ``device.name``): ``ascend_910b3_box() | {"3.0.health":
3}`` is a box whose fourth chip is critical.
"""

from __future__ import annotations

from collections.abc import Sequence

NOT_SUPPORTED = -8255
TOPOLOGY_SYS, TOPOLOGY_PHB, TOPOLOGY_HCCS = 1, 2, 3
TOPOLOGY_SIO, TOPOLOGY_HCCS_SW, TOPOLOGY_UB = 6, 7, 8
DUO_CARDS = (0, 32768)

_910B3_BUSES = ("c1", "c2", "81", "82", "01", "02", "41", "42")
_910B3_CPUS = ("144-167", "144-167", "96-119", "96-119", "0-23", "0-23", "48-71", "48-71")
_A3_BUSES = ("9c", "9e", "37", "39", "9a", "9b", "33", "35", "d9", "db", "72", "74", "d5", "d7", "6c", "6e")


def ascend_910b3_box(count: int = 8) -> dict[str, object]:
    """Up to eight 910B3 with 64 GB of HBM each, every pair joined by HCCS; device 1 of each card is its MCU."""
    scenario: dict[str, object] = {
        "init_v2": NOT_SUPPORTED,
        "driver": "24.1.rc1.b030",
        "dcmi": "24.1.0",
        "cards": " ".join(str(card) for card in range(count)),
        "topology": TOPOLOGY_HCCS,
    }
    for card in range(count):
        scenario |= {f"{card}.chips": 1, f"{card}.mcu": 1} | _chip(
            f"{card}.0",
            logic=card,
            phy=card,
            type="Ascend",
            name="910B3",
            npu="910B3",
            bus=f"0000:{_910B3_BUSES[card]}:00.0",
            pci="19e5:d802:19e5:3003",
            hbm="65536 3318 1600",
            temperature=43,
            power=1018,
            aicore_mhz=1800,
            ecc_hbm="0 0 0 0 0 0",
            affinity=_910B3_CPUS[card],
        )
    return scenario


def atlas_300i_duo_box(cards: Sequence[int] = DUO_CARDS) -> dict[str, object]:
    """Two Atlas 300I Duo: cards of two 310P3 with DDR, both chips on one bus id; device 2 of each card is its MCU.

    These chips have no HBM and tell neither power nor topology.
    """
    scenario: dict[str, object] = {
        "init_v2": NOT_SUPPORTED,
        "driver": "25.3.rc1",
        "dcmi": "25.3.0",
        "cards": " ".join(str(card) for card in cards),
    }
    for index, card in enumerate(cards):
        scenario |= {f"{card}.chips": 2, f"{card}.mcu": 2}
        for chip in range(2):
            number = 2 * index + chip
            scenario |= _chip(
                f"{card}.{chip}",
                logic=number,
                phy=number,
                type="Ascend",
                name="310P3",
                npu="310P3",
                bus=f"0000:{1 + index * 0x80:02x}:00.0",
                pci="19e5:d500:19e5:0110",
                ddr=("44280 42751", "43693 42281")[chip],
                temperature=45 - 2 * chip,
                aicore_mhz=1080,
                ecc_ddr="0 0 0 0 0 0",
            )
            scenario[f"{card}.{chip}.npu_rate.code"] = NOT_SUPPORTED
    return scenario


def ascend_a3_box(cards: int = 8) -> dict[str, object]:
    """Up to eight A3 (910C) cards of two dies, each die with its own bus id: SIO inside a card, HCCS through a switch
    between cards. Both dies give the power of their card."""
    scenario: dict[str, object] = {
        "init_v2": NOT_SUPPORTED,
        "driver": "25.2.0",
        "dcmi": "25.2.0",
        "cards": " ".join(str(card) for card in range(cards)),
        "topology": TOPOLOGY_HCCS_SW,
    }
    for card in range(cards):
        scenario |= {f"{card}.chips": 2, f"{card}.mcu": 2, f"topology.{card}.0.{card}.1": TOPOLOGY_SIO}
        for die in range(2):
            number = 2 * card + die
            scenario |= _chip(
                f"{card}.{die}",
                logic=number,
                phy=number,
                type="Ascend",
                name="Ascend910",
                npu="9392",
                bus=f"0000:{_A3_BUSES[number]}:00.0",
                pci="19e5:d803:19e5:3003",
                hbm="65536 3133 1600",
                temperature=37,
                power=1628,
                aicore_mhz=1800,
                ecc_hbm="0 0 0 0 0 0",
            )
    return scenario


def ascend_310b_box() -> dict[str, object]:
    """A 310B4 development board: the chip is the whole system, so there is no PCI function, MCU, HBM or topology. Such
    boards often sit at "major alarm" with the fault 80E3A203 (current sensor) and 0 W."""
    return {
        "init_v2": NOT_SUPPORTED,
        "driver": "23.0.0",
        "dcmi": "23.0.0",
        "cards": "0",
        "0.chips": 1,
        "fault.80E3A203": "Current sensor detection failed",
    } | _chip(
        "0.0",
        logic=0,
        phy=0,
        type="Ascend",
        name="310B4",
        npu="310B4",
        ddr="7545 5045",
        temperature=58,
        power=0,
        aicore_mhz=500,
        health=2,
        faults="80E3A203",
    )


def ascend_950_box(count: int = 1) -> dict[str, object]:
    """Ascend 950PR, which only the second API knows: the first one answers -8255 to its init. Joined by UB."""
    scenario: dict[str, object] = {
        "init": NOT_SUPPORTED,
        "driver": "25.7.rc1.6",
        "dcmi": "25.7.1",
        "devices": " ".join(str(device) for device in range(count)),
        "topology": TOPOLOGY_UB,
    }
    for device in range(count):
        scenario |= _chip(
            f"{device}",
            phy=device,
            type="Ascend",
            name="Ascend950PR",
            npu="9579",
            bus=f"0000:{0x61 + device:02x}:00.0",
            pci="19e5:d806:19e5:3003",
            hbm="131072 5239 2000",
            temperature=56,
            power=1956,
            aicore_mhz=1650,
            ecc_hbm="0 0 0 0 0 0",
            affinity="0-47",
            firmware="9.0.0.105.229",
        )
    return scenario


def failing_init(code: int = -8005) -> dict[str, object]:
    """Both inits fail: -8005 when the driver is not up or its node cannot be opened, -8020 when the card is in use."""
    return {"init": code, "init_v2": code}


def hanging(scenario: dict[str, object], function: str, chip: str | None = None, *, call: int = 1) -> dict[str, object]:
    """The scenario with a function that never returns: for ``chip`` (``card.chip``, or ``device``) or for any, from
    its ``call``-th call on."""
    return scenario | {"hang": _place(function, chip, call)}


def crashing(
    scenario: dict[str, object], function: str, chip: str | None = None, *, call: int = 1
) -> dict[str, object]:
    """The scenario with a function that ends the process by SIGSEGV; arguments as in ``hanging``."""
    return scenario | {"crash": _place(function, chip, call)}


def lost_chip(scenario: dict[str, object], chip: str, code: int = -8008) -> dict[str, object]:
    """The scenario with a chip that fell off its bus: still listed, but it gives no answer."""
    return scenario | {f"{chip}.lost": code}


def _place(function: str, chip: str | None, call: int) -> str:
    return function + (f":{chip}" if chip is not None else "") + (f"@{call}" if call > 1 else "")


def _chip(key: str, **settings: object) -> dict[str, object]:
    """Settings of an idle chip in good health."""
    values = {"health": 0, "aicore": 0, "npu_rate": 0, "firmware": "7.8.0.6.201", "processes": ""} | settings
    return {f"{key}.{name}": value for name, value in values.items()}
