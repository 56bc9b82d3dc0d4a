"""The DCMI child against a compiled fake of Huawei's library: real boxes, and what every single call may answer."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers import dcmi_binding
from drivers.dcmi_reading import (
    DcmiChip,
    DcmiEcc,
    DcmiProcess,
    DcmiReading,
    DcmiStart,
    parse_reading,
)
from tests.fakes.dcmi.build import build_fake_dcmi
from tests.fakes.dcmi.child import keys, read_child
from tests.fakes.dcmi.scenarios import (
    TOPOLOGY_HCCS,
    TOPOLOGY_HCCS_SW,
    TOPOLOGY_SIO,
    TOPOLOGY_UB,
    ascend_310b_box,
    ascend_910b3_box,
    ascend_950_box,
    ascend_a3_box,
    atlas_300i_duo_box,
    failing_init,
    lost_chip,
)

Ask = Callable[[Mapping[str, object]], DcmiReading]
NO_ERRORS = DcmiEcc(0, 0, 0, 0, 0, 0, enabled=True)


@pytest.fixture(scope="module")
def fake_dcmi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fake library with both sets of functions."""
    return build_fake_dcmi(tmp_path_factory.mktemp("dcmi"))


@pytest.fixture
def ask(tmp_path: Path, fake_dcmi: Path) -> Ask:
    """Runs the child with a scenario to its good end."""

    def run_child(settings: Mapping[str, object]) -> DcmiReading:
        reading, failure = read_child(tmp_path, settings, fake_dcmi)
        assert failure is None
        assert reading.complete
        return reading

    return run_child


def only_chip(reading: DcmiReading) -> DcmiChip:
    assert len(reading.chips) == 1, reading.chips
    return reading.chips[0]


def test_struct_sizes_of_both_sides_are_equal(fake_dcmi: Path) -> None:
    library = ctypes.CDLL(str(fake_dcmi))
    sizes = {
        "chip_info": dcmi_binding.ChipInfo,
        "chip_info_v2": dcmi_binding.ChipInfoV2,
        "hbm_info": dcmi_binding.HbmInfo,
        "memory_info_v3": dcmi_binding.MemoryInfoV3,
        "ecc_info": dcmi_binding.EccInfo,
        "pcie_info_all": dcmi_binding.PcieInfoAll,
        "process_memory": dcmi_binding.ProcessMemory,
    }
    for name, structure in sizes.items():
        assert library.fake_dcmi_sizeof(name.encode()) == ctypes.sizeof(structure), name


def test_eight_910b3(ask: Ask, fake_dcmi: Path) -> None:
    reading = ask(ascend_910b3_box())
    assert reading.start == DcmiStart(
        api=1,
        library=str(fake_dcmi),
        driver_version="24.1.rc1.b030",
        dcmi_version="24.1.0",
        listed=tuple(f"{card}.0" for card in range(8)),
    )
    assert keys(reading.chips) == list(reading.start.listed)
    assert reading.chips[2] == DcmiChip(
        card_id=2,
        device_id=0,
        errors={"ecc_ddr": -8255},
        logic_id=2,
        phy_id=2,
        chip_type="Ascend",
        chip_name="910B3",
        npu_name="910B3",
        pci_address="0000:81:00.0",
        health=0,
        temperature_celsius=43,
        power_deciwatts=1018,
        aicore_percent=0,
        npu_percent=0,
        aicore_mhz=1800,
        hbm_total_mb=65536,
        hbm_used_mb=3318,
        hbm_mhz=1600,
        ecc_hbm=NO_ERRORS,
        firmware_version="7.8.0.6.201",
        cpu_affinity="96-119",
        processes=(),
        topology={"0.0": TOPOLOGY_HCCS, "1.0": TOPOLOGY_HCCS},
    )
    assert sum(len(chip.topology) for chip in reading.chips) == 28


def test_two_300i_duo(ask: Ask) -> None:
    chips = ask(atlas_300i_duo_box()).chips
    assert keys(chips) == ["0.0", "0.1", "32768.0", "32768.1"]
    assert [chip.pci_address for chip in chips] == ["0000:01:00.0"] * 2 + ["0000:81:00.0"] * 2
    assert [(chip.ddr_total_mb, chip.ddr_available_mb) for chip in chips[2:]] == [(44280, 42751), (43693, 42281)]
    assert chips[3].logic_id == 3
    assert chips[3].hbm_total_mb is chips[3].power_deciwatts is chips[3].npu_percent is None
    assert chips[3].ecc_ddr == NO_ERRORS
    unsupported = ("power", "npu", "hbm", "ecc_hbm", "cpu_affinity", "topology")
    assert chips[3].errors == dict.fromkeys(unsupported, -8255)


def test_a3_with_sixteen_dies(ask: Ask) -> None:
    chips = ask(ascend_a3_box()).chips
    assert keys(chips) == [f"{card}.{die}" for card in range(8) for die in range(2)]
    assert len({chip.pci_address for chip in chips}) == 16
    assert [chip.phy_id for chip in chips] == list(range(16))
    assert {(chip.chip_name, chip.npu_name, chip.hbm_total_mb) for chip in chips} == {("Ascend910", "9392", 65536)}
    ways = {(key, keys([chip])[0]): way for chip in chips for key, way in chip.topology.items()}
    assert len(ways) == 16 * 15 // 2
    assert {pair for pair, way in ways.items() if way == TOPOLOGY_SIO} == {(f"{c}.0", f"{c}.1") for c in range(8)}
    assert ways["0.1", "7.0"] == TOPOLOGY_HCCS_SW


def test_310b_is_no_pci_function(ask: Ask) -> None:
    chip = only_chip(ask(ascend_310b_box()))
    assert (chip.chip_name, chip.pci_address, chip.errors["pci"]) == ("310B4", None, -8255)
    assert (chip.health, chip.error_codes) == (2, (0x80E3A203,))
    assert chip.error_texts == {"80E3A203": "Current sensor detection failed"}
    assert (chip.ddr_total_mb, chip.ddr_available_mb, chip.power_deciwatts) == (7545, 5045, 0)


def test_950_answers_by_the_second_api(ask: Ask) -> None:
    reading = ask(ascend_950_box(2))
    assert reading.start is not None
    assert (reading.start.api, reading.start.listed) == (2, ("0", "1"))
    assert (reading.start.driver_version, reading.start.dcmi_version) == ("25.7.rc1.6", "25.7.1")
    assert reading.chips[1] == DcmiChip(
        card_id=1,
        errors={"ecc_ddr": -8255},
        logic_id=1,
        phy_id=1,
        chip_type="Ascend",
        chip_name="Ascend950PR",
        npu_name="9579",
        pci_address="0000:62:00.0",
        health=0,
        temperature_celsius=56,
        power_deciwatts=1956,
        aicore_percent=0,
        npu_percent=0,
        aicore_mhz=1650,
        hbm_total_mb=131072,
        hbm_used_mb=5239,
        hbm_mhz=2000,
        ecc_hbm=NO_ERRORS,
        firmware_version="9.0.0.105.229",
        cpu_affinity="0-47",
        processes=(),
        topology={"0": TOPOLOGY_UB},
    )


def test_950_faults_processes_and_memory(ask: Ask) -> None:
    faulty = {"0.faults": "80E01801", "fault.80E01801": "HBM multi-bit", "0.processes": "9:7", "0.hbm.code": -8255}
    chip = only_chip(ask(ascend_950_box() | faulty))
    assert chip.error_texts == {"80E01801": "HBM multi-bit"}
    assert chip.processes == (DcmiProcess(9, 7),)
    assert chip.errors == {"ecc_ddr": -8255, "hbm": -8255, "ddr": -99998}


@pytest.mark.parametrize("code", [-8005, -8020])
def test_failing_init(ask: Ask, fake_dcmi: Path, code: int) -> None:
    assert ask(failing_init(code)) == DcmiReading(DcmiStart(error=code, library=str(fake_dcmi)), complete=True)


@pytest.mark.parametrize(("first", "second", "told"), [(-8255, -8005, -8005), (-8020, -8255, -8020), (-8255,) * 3])
def test_the_init_that_should_have_worked_is_told(ask: Ask, first: int, second: int, told: int) -> None:
    start = ask({"init": first, "init_v2": second}).start
    assert start is not None
    assert start.error == told


def test_a_library_that_lists_nothing(ask: Ask) -> None:
    for scenario in (ascend_910b3_box(1), ascend_950_box()):
        reading = ask(scenario | {"list.code": -8009})
        assert reading.start is not None
        assert (reading.start.error, reading.chips) == (-8009, ())
    assert ask({"cards": ""}).chips == ()


def test_a_lost_chip_loses_only_itself(ask: Ask) -> None:
    chips = ask(lost_chip(ascend_910b3_box(3), "1.0")).chips
    assert [chip.error for chip in chips] == [None, -8008, None]
    assert (chips[1].chip_name, chips[1].pci_address, chips[1].errors) == ("910B3", "0000:c2:00.0", {"health": -8008})
    assert chips[1].health is chips[1].hbm_total_mb is None
    assert chips[2].topology == {"0.0": TOPOLOGY_HCCS}


def test_a_card_whose_chips_are_not_counted(ask: Ask) -> None:
    chips = ask(ascend_910b3_box(2) | {"0.chips.code": -8007}).chips
    assert [(chip.error, chip.errors) for chip in chips] == [(-8007, {"chips": -8007}), (None, {"ecc_ddr": -8255})]
    assert keys(chips) == ["0.0", "1.0"]


def test_controllers_are_no_chips(ask: Ask) -> None:
    chips = ask(atlas_300i_duo_box([4]) | {"4.chips": 3, "4.0.unit": 2}).chips
    assert keys(chips) == ["4.1"]  # device 0 is a CPU, device 2 the MCU


def test_an_unknown_kind_of_unit_is_asked(ask: Ask) -> None:
    chip = only_chip(ask(ascend_910b3_box(1) | {"0.0.unit.code": -8006}))
    assert chip.errors == {"type": -8006, "ecc_ddr": -8255}
    assert chip.hbm_total_mb == 65536


FIELDS = {
    "logic": ("logic_id", ("logic_id", "phy_id")),
    "phy": ("phy_id", ("phy_id",)),
    "name": ("chip", ("chip_type", "chip_name", "npu_name")),
    "bus": ("pci", ("pci_address",)),
    "faults": ("error_codes", ()),
    "temperature": ("temperature", ("temperature_celsius",)),
    "power": ("power", ("power_deciwatts",)),
    "aicore": ("aicore", ("aicore_percent",)),
    "npu_rate": ("npu", ("npu_percent",)),
    "aicore_mhz": ("aicore_mhz", ("aicore_mhz",)),
    "hbm": ("hbm", ("hbm_total_mb", "hbm_used_mb", "hbm_mhz")),
    "ecc_hbm": ("ecc_hbm", ("ecc_hbm",)),
    "affinity": ("cpu_affinity", ("cpu_affinity",)),
    "processes": ("processes", ("processes",)),
    "firmware": ("firmware", ("firmware_version",)),
}


@pytest.mark.parametrize("setting", sorted(FIELDS))
def test_a_failing_call_costs_its_fields_only(ask: Ask, setting: str) -> None:
    word, fields = FIELDS[setting]
    scenario = ascend_910b3_box(1)
    good, bad = only_chip(ask(scenario)), only_chip(ask(scenario | {f"0.0.{setting}.code": -8006}))
    assert bad.errors[word] == -8006
    assert set(bad.errors) - {word, "ddr"} == set(good.errors)
    changed = {name for name in good.__struct_fields__ if getattr(good, name) != getattr(bad, name)}
    assert changed - {"errors"} == set(fields)
    assert all(getattr(bad, name) is None for name in fields)


def test_a_failing_way_between_two_chips(ask: Ask) -> None:
    chips = ask(ascend_910b3_box(3) | {"topology.0.0.2.0": -8006}).chips
    assert (chips[2].topology, chips[2].errors["topology"]) == ({"1.0": TOPOLOGY_HCCS}, -8006)


def test_a_rate_with_the_flag_of_a_virtual_function(ask: Ask) -> None:
    chip = only_chip(ask(ascend_910b3_box(1) | {"0.0.aicore": 512, "0.0.npu_rate": 512 + 37}))
    assert chip.aicore_percent is chip.npu_percent is None
    assert (chip.errors["aicore"], chip.errors["npu"]) == (-8255, -8255)
    busy = only_chip(ask(ascend_910b3_box(1) | {"0.0.aicore": 37, "0.0.npu_rate": 41}))
    assert (busy.aicore_percent, busy.npu_percent) == (37, 41)


def test_faults_and_their_words(ask: Ask) -> None:
    faults = {"0.0.faults": "80E18402 8C1F8609 0000A001", "fault.80E18402": "Node lost", "fault.0000A001": "x" * 300}
    chip = only_chip(ask(ascend_910b3_box(1) | faults))
    assert chip.error_codes == (0x80E18402, 0x8C1F8609, 0xA001)
    assert chip.error_texts == {"80E18402": "Node lost", "0000A001": "x" * 255}
    assert chip.errors["error_texts"] == -8255


def test_more_faults_and_processes_than_the_library_tells(ask: Ask) -> None:
    faults = " ".join(f"{code:08X}" for code in range(0x80E00000, 0x80E00000 + 140))
    processes = " ".join(f"{pid}:{pid * 1024}" for pid in range(1000, 1040))
    chip = only_chip(ask(ascend_910b3_box(1) | {"0.0.faults": faults, "0.0.processes": processes}))
    assert chip.error_codes == tuple(range(0x80E00000, 0x80E00000 + 128))
    assert chip.processes == tuple(DcmiProcess(pid, pid * 1024) for pid in range(1000, 1032))


def test_processes_with_more_than_four_gigabytes(ask: Ask) -> None:
    chip = only_chip(ask(ascend_910b3_box(1) | {"0.0.processes": "4711:64424509440"}))
    assert chip.processes == (DcmiProcess(4711, 60 << 30),)


def test_each_ecc_counter_is_in_its_place(ask: Ask) -> None:
    chip = only_chip(ask(ascend_910b3_box(1) | {"0.0.ecc_hbm": "1 2 3 4 5 6", "0.0.ecc_ddr": "7 8 9 10 11 12"}))
    assert chip.ecc_hbm == DcmiEcc(
        single_bit=1,
        double_bit=2,
        single_bit_total=3,
        double_bit_total=4,
        single_bit_retired_pages=5,
        double_bit_retired_pages=6,
        enabled=True,
    )
    assert chip.ecc_ddr == DcmiEcc(7, 8, 9, 10, 11, 12, enabled=True)


def test_ecc_that_is_off(ask: Ask) -> None:
    chip = only_chip(ask(ascend_910b3_box(1) | {"0.0.ecc_hbm": "off"}))
    assert chip.ecc_hbm == DcmiEcc(0, 0, 0, 0, 0, 0, enabled=False)


def test_hbm_of_no_size_is_no_hbm(ask: Ask) -> None:
    chip = only_chip(ask(ascend_910b3_box(1) | {"0.0.hbm": "0 0 0", "0.0.ddr": "8192 4096"}))
    assert (chip.hbm_total_mb, chip.ddr_total_mb, chip.ddr_available_mb) == (0, 8192, 4096)


@pytest.mark.parametrize("part", ["firmware_imu", "firmware_xloader"])
def test_older_chips_have_their_firmware_elsewhere(ask: Ask, part: str) -> None:
    scenario = ascend_910b3_box(1) | {"0.0.firmware.code": -8255, f"0.0.{part}": "1.84.15.2.220"}
    assert only_chip(ask(scenario)).firmware_version == "1.84.15.2.220"


def test_an_address_beyond_the_first_domain(ask: Ask) -> None:
    chip = only_chip(ask(ascend_910b3_box(1) | {"0.0.bus": "10001:FF:1F.7"}))
    assert chip.pci_address == "10001:ff:1f.7"


def test_an_absent_device_keeps_its_number(ask: Ask) -> None:
    assert only_chip(ask(ascend_910b3_box(1) | {"0.0.health": "0xFFFFFFFF"})).health == 0xFFFFFFFF


def test_a_name_that_fills_its_field_and_one_that_is_empty(ask: Ask) -> None:
    chip = only_chip(ask(ascend_910b3_box(1) | {"0.0.name": "Ascend-\u6607\u817e-" + "9" * 40, "0.0.npu": ""}))
    assert chip.chip_name == "Ascend-\u6607\u817e-" + "9" * 17
    assert chip.npu_name is None


def test_what_the_library_prints_does_not_disturb(ask: Ask) -> None:
    reading = ask(ascend_910b3_box(2) | {"chatter": 1})
    assert keys(reading.chips) == ["0.0", "1.0"]


LINES = ['{"kind":"start","api":1,"listed":["0.0"]}', '{"kind":"chip","card_id":0}', '{"kind":"end"}', "{}", "x", ""]


@given(st.one_of(st.text(), st.lists(st.sampled_from(LINES)).map("\n".join)), st.integers(0, 400))
def test_any_output_is_read_without_an_exception(text: str, cut: int) -> None:
    for part in (text, text[:cut]):
        reading = parse_reading(part)
        assert not reading.complete or '"end"' in part
        assert all(chip.card_id == 0 for chip in reading.chips)
