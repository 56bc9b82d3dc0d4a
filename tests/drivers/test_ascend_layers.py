"""The chain from the slot to the library: which link is told, over every combination of what is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.ascend_errors import dcmi_missing, library_not_loadable, not_started, tools_missing
from drivers.ascend_ground import CHANNEL, MANAGER, MEMORY, Ground, read_ground
from drivers.ascend_install import Install
from drivers.ascend_layers import Answer, judge_layers
from drivers.nodes import DeviceNode, DeviceNodes
from drivers.pci import PciFunction
from drivers.types import Finding, Layer, LayerReport, LayerState, Severity, Software
from tests.drivers.ascend_box import Box

OK, BROKEN, WAITING, NOT_REACHED = LayerState.OK, LayerState.BROKEN, LayerState.WAITING, LayerState.NOT_REACHED
SAID = "The driver's library does not start (DCMI -8005 internal error)"


def card(number: int = 1, driver: str | None = "devdrv_device_driver") -> PciFunction:
    return PciFunction(f"0000:{number:02x}:00.0", "ascend", 0x19E5, 0xD802, "910B", driver, 0, maker="Ascend")


def node(path: str, *, usable: bool = True, group: str = "HwHiAiUser", **values: bool) -> DeviceNode:
    return DeviceNode(path, True, True, usable, "HwHiAiUser", group, "0660", age_s=9999.0, **values)


def nodes(*found: DeviceNode, container: bool = False, uptime_s: float = 9999.0) -> DeviceNodes:
    return DeviceNodes(found, container, uptime_s, "r1box")


ALL = (node("/dev/davinci0"), node(MANAGER), node(MEMORY), node(CHANNEL))
DRIVER = Software("ascend-driver", "25.2.0")


def ground(
    *,
    functions: tuple[PciFunction, ...] | None = (card(),),
    found: DeviceNodes | None = None,
    install: Install | None = None,
    group: bool | None = True,
) -> Ground:
    place = Path("/usr/local/Ascend")
    return Ground(functions, found or nodes(*ALL), install or Install(place, (DRIVER,), ("drv_pcie_host",)), group)


def judged(where: Ground, answer: Answer) -> tuple[dict[Layer, LayerReport], tuple[Finding, ...]]:
    layers, findings = judge_layers(where, answer)
    return {report.layer: report for report in layers}, findings


FAILED = Answer(said=SAID, installed=True, findings=(Finding("driver_not_ready", "x", "y"),))


def test_everything_stands() -> None:
    layers, findings = judged(ground(), Answer(answered=True, detail="DCMI 25.2.0", installed=True))
    assert [report.state for report in layers.values()][:5] == [OK] * 5
    assert [finding.code for finding in findings] == ["cann_missing"]
    assert layers[Layer.MODULE].detail == "25.2.0"
    assert layers[Layer.LIBRARY].detail == "DCMI 25.2.0"


def test_listed_in_the_group_but_started_before() -> None:
    closed = node(MANAGER, usable=False, in_group=False, listed_in_group=True)
    _, findings = judged(ground(found=nodes(ALL[0], closed, *ALL[2:])), FAILED)
    assert [finding.code for finding in findings] == ["no_permission"]
    assert "restart the service" in (findings[0].hint or "")
    assert findings[0].message.startswith(SAID)


def test_group_that_does_not_exist() -> None:
    closed = node(MANAGER, usable=False, group="root")
    _, findings = judged(ground(found=nodes(ALL[0], closed, *ALL[2:]), group=False), FAILED)
    assert "groupadd HwHiAiUser" in (findings[0].hint or "")


def test_container_needs_the_groups_number() -> None:
    closed = node(MANAGER, usable=False)
    _, findings = judged(ground(found=nodes(ALL[0], closed, *ALL[2:], container=True)), FAILED)
    assert "--group-add" in (findings[0].hint or "")


def test_container_names_the_nodes_to_pass() -> None:
    found = nodes(ALL[0], ALL[1], DeviceNode(MEMORY), DeviceNode(CHANNEL), container=True)
    layers, findings = judged(ground(found=found), FAILED)
    assert "--device /dev/devmm_svm --device /dev/hisi_hdc" in (findings[0].hint or "")
    assert (layers[Layer.NODES].state, layers[Layer.ACCESS].state) == (BROKEN, NOT_REACHED)


def test_missing_nodes_may_come_after_the_boot() -> None:
    found = nodes(*ALL[:2], DeviceNode(MEMORY), DeviceNode(CHANNEL), uptime_s=100)
    layers, findings = judged(ground(found=found), FAILED)
    assert layers[Layer.NODES].state is WAITING
    assert [(finding.code, finding.severity) for finding in findings] == [("nodes_waiting", Severity.WARNING)]


def test_hanging_library_is_news_behind_a_broken_link() -> None:
    answer = Answer(installed=True, findings=(Finding("probe_timed_out", "x"), Finding("probe_failed", "x")))
    layers, findings = judged(ground(functions=()), answer)
    assert layers[Layer.PCI].state is LayerState.NOT_NEEDED
    assert {finding.code for finding in findings} == {"probe_timed_out", "probe_failed"}
    closed = nodes(ALL[0], node(MANAGER, usable=False), *ALL[2:])
    _, findings = judged(ground(found=closed), answer)
    assert [finding.code for finding in findings] == ["no_permission", "probe_timed_out"]


def test_950_and_system_on_chip_have_other_nodes(tmp_path: Path) -> None:
    box = Box(tmp_path)
    box.nodes(1, "upgrade")
    assert read_ground(tmp_path).nodes.missing == ()
    box.card("0000:61:00.0", "0xd806")
    assert [one.path for one in read_ground(tmp_path).nodes.missing] == [CHANNEL]
    box.card("0000:62:00.0", "0xd803")
    assert [one.path for one in read_ground(tmp_path).nodes.missing] == [CHANNEL]


@pytest.mark.parametrize(
    ("code", "finding"),
    [
        (-8005, "driver_not_ready"),
        (-8020, "device_in_use"),
        (-8002, "no_permission"),
        (-8012, "driver_not_ready"),
        (-8015, "driver_not_ready"),
        (-12345, "driver_not_ready"),
    ],
)
@pytest.mark.parametrize("container", [False, True])
def test_codes_of_a_library_that_does_not_start(code: int, finding: str, container: bool) -> None:
    found = not_started(code, SAID, ground(found=nodes(*ALL, container=container)))
    assert (found.code, found.severity) == (finding, Severity.ERROR)
    assert found.hint
    assert found.message.startswith(SAID)


def test_folder_of_the_library_that_is_closed_to_this_user() -> None:
    place = Path("/usr/local/Ascend/driver/lib64/driver")
    where = ground(install=Install(Path("/usr/local/Ascend"), closed=(place,)))
    denied = f"{place}/libdcmi.so: cannot open shared object file: Permission denied"
    for finding in (dcmi_missing(where), tools_missing(where), library_not_loadable(denied, where, answered=False)):
        assert f"may not look into {place}" in (finding.hint or "")
        assert "usermod -aG HwHiAiUser r1box" in (finding.hint or "")


@pytest.mark.parametrize(
    ("missing", "word"),
    [
        ("libc_sec.so: cannot open shared object file: No such file or directory", "driver/lib64/common"),
        ("libascend_hal.so: cannot open shared object file: No such file or directory", "driver/lib64/driver"),
        ("/usr/local/dcmi/libdcmi.so: wrong ELF class: ELFCLASS32", "another machine"),
        ("/usr/local/dcmi/libdcmi.so: undefined symbol: halGetDeviceInfo", "two driver versions"),
        ("libmmpa.so: cannot open shared object file: No such file or directory", "Install the driver again"),
    ],
)
def test_library_that_cannot_be_loaded_is_named(missing: str, word: str) -> None:
    finding = library_not_loadable(missing, ground(), answered=False)
    assert missing in finding.message
    assert word in (finding.hint or "")
    assert finding.severity is Severity.ERROR
    assert library_not_loadable(missing, ground(), answered=True).severity is Severity.WARNING


GROUNDS = st.builds(
    ground,
    functions=st.one_of(
        st.none(),
        st.lists(
            st.sampled_from([card(1), card(2, None), card(3, "vfio-pci")]),
            max_size=3,
            unique_by=lambda one: one.address,
        ).map(tuple),
    ),
    found=st.builds(
        lambda some, container, uptime: nodes(*some, container=container, uptime_s=uptime),
        st.lists(
            st.sampled_from(
                [
                    *ALL,
                    DeviceNode(MANAGER),
                    node("/dev/davinci1", usable=False),
                    DeviceNode(MEMORY),
                    DeviceNode(CHANNEL),
                ]
            ),
            unique_by=lambda one: one.path,
        ),
        st.booleans(),
        st.sampled_from([10.0, 9999.0]),
    ),
    install=st.builds(
        Install,
        st.just(Path("/usr/local/Ascend")),
        st.sampled_from([(), (DRIVER,), (DRIVER, Software("cann", "8.5.0"))]),
        st.sampled_from([None, (), ("drv_pcie_host",)]),
        complete=st.sampled_from([None, True, False]),
    ),
    group=st.sampled_from([None, True, False]),
)
ANSWERS = st.sampled_from(
    [
        Answer(),
        Answer(findings=(Finding("tool_missing", "x", "y"),)),
        FAILED,
        Answer(answered=True, detail="DCMI", installed=True),
        Answer(installed=True, findings=(Finding("card_not_answering", "x", "y"),)),
    ]
)


@given(GROUNDS, ANSWERS)
def test_every_missing_link_has_one_cause_and_a_fix(where: Ground, answer: Answer) -> None:
    layers, findings = judge_layers(where, answer)
    assert [report.layer for report in layers] == list(Layer)[:6]
    codes = {finding.code for finding in findings}
    for report in layers:
        assert set(report.findings) <= codes
        if report.state in (BROKEN, WAITING):
            assert report.findings or (report.layer is Layer.LIBRARY and not answer.findings)
    assert all(finding.hint and not finding.message[0].islower() for finding in findings if finding.message != "x")
    if not answer.answered:
        first = next((place for place, report in enumerate(layers) if report.state in (BROKEN, WAITING)), None)
        if first is not None:
            assert all(
                report.state is NOT_REACHED for report in layers[first + 1 :] if report.layer is not Layer.RUNTIME
            )
    else:
        assert layers[4].state is OK
