"""What the console says of a model that several boxes serve together."""

from __future__ import annotations

import pytest

from appliance.schemas.cluster import ClusterBox, ClusterStatus
from tui.strings import Words
from tui.widgets.together import together

STATUS = ClusterStatus(
    role="leader",
    model="r1",
    run="gathering",
    plan="2 boxes, 8 devices each: TP4 DP4",
    cause="box-2 does not answer",
    boxes=(
        ClusterBox(name="box-1", role="leader", state="here", is_this=True, rank=0),
        ClusterBox(name="box-2", role="member", state="away"),
        ClusterBox(name="box-3", role="member", state="here", model="missing"),
    ),
)


def test_each_box_has_a_line_with_its_state_and_part() -> None:
    found = together(Words("en"), STATUS, "r1")
    assert found is not None
    lines = found.plain.splitlines()
    assert lines[0] == "Served by several boxes: waits for its boxes"
    assert lines[1:3] == ["2 boxes, 8 devices each: TP4 DP4", "box-2 does not answer"]
    assert [line.split(maxsplit=1) for line in lines[3:]] == [
        ["box-1", "here, part 0"],
        ["box-2", "AWAY"],
        ["box-3", "here, has not the model"],
    ]


@pytest.mark.parametrize("cluster", [None, ClusterStatus(), STATUS.model_copy(update={"model": "other"})])
def test_a_model_of_this_box_alone_has_none(cluster: ClusterStatus | None) -> None:
    assert together(Words("zh"), cluster, "r1") is None
