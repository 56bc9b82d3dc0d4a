"""Boxes with NVIDIA cards for the fake library: what a driver would answer on them. Settings: ``fake_nvml.c``.

Each function returns settings for ``build.write_scenario``. A value may change from call to call: ``10|20|30`` ends at
30, ``10|20|30|*`` begins again. Figures follow the cards' public data; memory sizes are typical of ``nvidia-smi``.
"""

from __future__ import annotations

from collections.abc import Mapping

GIB = 1 << 30
MIB = 1 << 20

Scenario = dict[str, object]


def box(*cards: Mapping[str, object], **settings: object) -> Scenario:
    """A scenario with the given cards. ``settings`` are those of the whole box (``init``, ``driver``, ``hang``)."""
    scenario: Scenario = {
        "driver": "550.54.15",
        "nvml": "12.550.54.15",
        "cuda": 12040,
        "topology": 50,
        "count": len(cards),
    } | settings
    for number, card in enumerate(cards):
        scenario |= {f"{number}.{name}": value for name, value in card.items()}
    return scenario


def l20(number: int = 0, **settings: object) -> Scenario:
    """An L20 with 48 GB: ECC, row remapping, no NVLink, no MIG."""
    return _card(number, "NVIDIA L20", "26ba", "8.9", 46068 * MIB) | {
        "bus": f"00000000:{number + 1:02X}:00.0",
        "power": 72500,
        "power_limit": 275000,
        "clock.sm": 2520,
        "clock.memory": 9001,
        **_ECC,
        "remapped": "0,0,0,0",
        "vbios": "95.02.66.00.02",
        **settings,
    }


def l20_pair() -> Scenario:
    """Two L20 below one PCIe switch, with changing load."""
    return box(l20(0, utilization="12|35|71|*"), l20(1, utilization="10|40|*"), **{"topology.0.1": 10})


def t4(**settings: object) -> Scenario:
    """One T4: before Ampere, so retired pages and no remapped rows; passive cooling and 70 W."""
    card = _card(0, "Tesla T4", "1eb8", "7.5", 15360 * MIB) | {
        "bus": "00000000:3B:00.0",
        "power": 27100,
        "power_limit": 70000,
        "clock.sm": 585,
        "clock.memory": 5000,
        **_ECC,
        "retired.sbe": 0,
        "retired.dbe": 0,
        "retired.pending": 0,
        "vbios": "90.04.38.00.03",
    }
    return box(card | settings)


def h20_box(count: int = 8, **settings: object) -> Scenario:
    """``count`` H20 with 96 GB on an HGX board: 18 NVLinks each to the NVSwitches, MIG off."""
    cards = [
        _card(number, "NVIDIA H20", "2329", "9.0", 97871 * MIB)
        | {
            "bus": f"00000000:{(number * 0x1D + 0x0A) & 0xFF:02X}:00.0",
            "power": "117300|240800|365100|*",
            "power_limit": 500000,
            "utilization": "0|45|97|*",
            "temperature": "34|47|55|*",
            "clock.sm": 1980,
            "clock.memory": 2619,
            **_ECC,
            "remapped": "0,0,0,0",
            "recovery": 0,
            "mig": 0,
            "nvlink.count": 18,
            "nvlink.peer": "switch",
            "processes": f"{4000 + number}:{60 * GIB}",
            "vbios": "96.00.9E.00.01",
        }
        for number in range(count)
    ]
    names: dict[str, object] = {f"process.{4000 + number}": "/usr/bin/vllm" for number in range(count)}
    return box(*cards, driver="570.124.06", nvml="12.570.124.06", cuda=12080, **names) | settings


def gb10(**settings: object) -> Scenario:
    """A GB10 (DGX Spark): no memory of its own, both memory calls "not supported", the bus in PCI domain f."""
    card = _card(0, "NVIDIA GB10", "2e12", "12.1", None) | {
        "bus": "0000000F:01:00.0",
        "memory": 3,
        "utilization": "0|60|*",
        "temperature": 38,
        "power": 4530,
        "power_limit.code": 3,
        "clock.sm": 208,
        "clock.memory.code": 3,
        "processes": "2217:-1",
    }
    return box(card | settings, driver="580.95.05", nvml="13.580.95.05", cuda=13000, **{"process.2217": "ollama"})


def jetson_orin(**settings: object) -> Scenario:
    """A Jetson Orin with JetPack 6: NVML answers, there is no PCI device, most figures are not supported."""
    card: Scenario = {"name": "Orin (nvgpu)", "uuid": "GPU-0rin", "memory": 3, "capability": "8.7"}
    return box(card | settings, driver="540.4.0", nvml="12.540.4.0", cuda=12060)


def mig_a100(instances: int = 3, **settings: object) -> Scenario:
    """An A100 of 80 GB cut into parts of two slices (one without a handle between them, as after a deletion)."""
    card = _card(0, "NVIDIA A100-SXM4-80GB", "20b2", "8.0", 81920 * MIB) | {
        "bus": "00000000:07:00.0",
        "power": 61200,
        "power_limit": 400000,
        "clock.sm": 210,
        "clock.memory": 1593,
        "utilization.code": 3,
        **_ECC,
        "remapped": "0,0,0,0",
        "mig": 1,
        "mig.max": 7,
    }
    for number in range(instances):
        place = number if number == 0 else number + 1
        card |= {
            f"mig.{place}.uuid": f"MIG-0000000{number}-1111-5222-8333-444444444444",
            f"mig.{place}.name": "NVIDIA A100-SXM4-80GB MIG 2g.20gb",
            f"mig.{place}.gi": 3 + number,
            f"mig.{place}.ci": 0,
            f"mig.{place}.size_mb": 19968,
            f"mig.{place}.multiprocessors": 28,
            f"mig.{place}.gi_slices": 2,
            f"mig.{place}.ci_slices": 2,
            f"mig.{place}.total": 19968 * MIB,
            f"mig.{place}.reserved": 0,
            f"mig.{place}.free": f"{19930 * MIB}|{12000 * MIB}|*" if number == 0 else 19930 * MIB,
            f"mig.{place}.used": 38 * MIB,
        }
    card["mig.0.processes"] = f"5150:{7000 * MIB}:3"
    return box(card | settings, **{"process.5150": "llama-server"})


def gh200(**settings: object) -> Scenario:
    """A GH200: its HBM is its own, and a NUMA node of the operating system as well."""
    card = _card(0, "NVIDIA GH200 480GB", "2342", "9.0", 97871 * MIB) | {
        "bus": "00000009:01:00.0",
        "numa_memory": 1,
        **_ECC,
        "remapped": "0,0,0,0",
    }
    return box(card | settings, driver="570.124.06", nvml="12.570.124.06", cuda=12080)


def lost_card() -> Scenario:
    """Two L20, of which the first has fallen off the bus."""
    return box({"handle": 15}, l20(1))


def driver_not_loaded() -> Scenario:
    """The library is there, its kernel module is not."""
    return {"init": 9, "nvml": "12.550.54.15"}


def version_mismatch() -> Scenario:
    """A library newer than the loaded kernel module."""
    return {"init": 18, "nvml": "12.550.120"}


def vgpu_guest() -> Scenario:
    """A virtual machine that was given a part of an L40S by a vGPU licence: no power, temperature or ECC."""
    card = _card(0, "NVIDIA L40S-24Q", "26b9", "8.9", 24576 * MIB) | {
        "bus": "00000000:02:00.0",
        "power.code": 3,
        "power_limit.code": 3,
        "temperature.code": 3,
        "virtualization": 2,
    }
    return box(card)


_ECC: Mapping[str, object] = {
    "ecc.corrected": 0,
    "ecc.uncorrected": 0,
    "ecc.corrected_total": 2,
    "ecc.uncorrected_total": 0,
}


def _card(number: int, name: str, pci: str, capability: str, total: int | None) -> Scenario:
    """What every card tells. The driver keeps half a GiB, one GiB is in use."""
    card: Scenario = {
        "name": name,
        "uuid": f"GPU-1b2c3d4e-0000-1111-2222-33334444{number:04d}",
        "pci": pci,
        "capability": capability,
        "minor": number,
        "temperature": 41,
        "utilization": 12,
        "persistence": 1,
        "virtualization": 0,
        "throttle": 1,
        "processes": "",
    }
    if total is not None:
        reserved, used = GIB // 2, GIB
        card |= {"total": total, "reserved": reserved, "used": used, "free": total - reserved - used}
    return card
