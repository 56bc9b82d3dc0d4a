"""Any reading of DCMI, any text of npu-smi and any machine around them: a whole result, and no exception."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.ascend import Dcmi, interpret
from drivers.ascend_details import questions, with_answer
from drivers.ascend_ground import Ground
from drivers.ascend_join import join
from drivers.ascend_tool import ToolReading
from drivers.command import CommandFailed, CommandResult, FailureKind
from drivers.dcmi_reading import DcmiReading, DcmiStart
from drivers.npu_smi import parse_chips, parse_info, parse_list
from drivers.types import Layer, LayerState
from tests.drivers.test_ascend_dcmi import CHIPS
from tests.drivers.test_ascend_layers import GROUNDS
from tests.drivers.test_npu_smi import EXPECTED, MAPS, text_of

FAILURES = st.one_of(
    st.none(),
    st.builds(
        lambda kind, said: CommandFailed(kind, "It failed.", "Run it.", "x", CommandResult(("x",), 1, "", said, 0.1)),
        st.sampled_from(list(FailureKind)),
        st.sampled_from(
            ["", "error while loading shared libraries: ", "error while loading shared libraries: libx.so: no"]
        ),
    ),
)
STARTS = st.builds(
    DcmiStart,
    api=st.sampled_from([None, 1, 2]),
    error=st.sampled_from([None, None, -8005, -8020, 7]),
    missing=st.sampled_from([None, None, "libc_sec.so: cannot open", ""]),
    listed=st.lists(st.sampled_from(["0.0", "0.1", "1", "x.y", ""]), max_size=3).map(tuple),
)
READINGS = st.one_of(
    st.none(),
    st.builds(DcmiReading, st.one_of(st.none(), STARTS), st.lists(CHIPS, max_size=4).map(tuple), st.booleans()),
)
TEXTS = st.one_of(st.text(max_size=200), st.sampled_from(sorted(EXPECTED)).map(text_of))
LISTED = st.one_of(st.text(max_size=100), st.sampled_from(sorted(MAPS)).map(text_of))


@given(GROUNDS, READINGS, FAILURES, st.booleans(), TEXTS, LISTED, FAILURES, st.data())
@settings(max_examples=150)
def test_any_answers_give_a_whole_result(
    ground: Ground,
    reading: DcmiReading | None,
    dcmi_failure: CommandFailed | None,
    asked: bool,
    text: str,
    listed: str,
    tool_failure: CommandFailed | None,
    data: st.DataObject,
) -> None:
    dcmi = Dcmi(reading, None if reading is None else dcmi_failure)
    tool = None
    if asked:
        cards = tuple(parse_list(listed).items())
        tool = ToolReading(parse_info(text), tool_failure, parse_chips(listed), cards)
    joined = join(ground, dcmi.chips, dcmi.complete, tool)
    devices = joined.devices
    for question in questions(devices)[:4]:
        devices, _ = with_answer(devices, question, data.draw(st.text(max_size=80)))
    assert [one.key for one in devices] == [one.key for one in joined.devices]
    result = interpret(ground, dcmi, tool, joined, tool_there=asked)
    keys = [one.key for one in result.devices]
    assert len(keys) == len(set(keys))
    assert [report.layer for report in result.layers] == list(Layer)[:6]
    assert {device.key for device in result.devices} >= {one.device for one in result.findings if one.device}
    assert all(finding.hint for finding in result.findings)
    library = result.layers[4]
    assert (library.state is LayerState.OK) == bool(joined.devices)
    if library.state is LayerState.BROKEN:
        assert library.findings
    assert {code for report in result.layers for code in report.findings} <= {one.code for one in result.findings}
    for device in result.devices:
        if device.layers.library is LayerState.BROKEN:
            assert (device.utilization_percent, device.memory_total_bytes) == (None, None)
