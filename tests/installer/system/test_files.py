"""What is written: the machine's drop-in, other folders than the usual one, settings that the daemon takes."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from appliance.settings import Settings
from installer.system.actions import PutFile
from installer.system.facts import CARD_GROUPS, JOURNAL_GROUP
from installer.system.files import machine_drop_in, unit_text
from installer.system.layout import UNITS, Layout
from installer.system.plan import staged_files
from tests.architecture.tree import ROOT
from tests.installer.system.test_facts import GOOD


def keys(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_a_machine_that_adds_nothing_has_an_empty_drop_in() -> None:
    assert keys(machine_drop_in(GOOD)) == ["[Service]"]


def test_groups_high_nodes_and_growing_pauses_are_added() -> None:
    nodes = ("davinci2", "davinci15", "davinci16", "davinci31")
    machine = dataclasses.replace(GOOD, groups=("video", "HwHiAiUser", "systemd-journal"), nodes=nodes, systemd=255)
    assert keys(machine_drop_in(machine)) == [
        "[Service]",
        "SupplementaryGroups=video HwHiAiUser systemd-journal",
        "DeviceAllow=/dev/davinci16 rw",
        "DeviceAllow=/dev/davinci31 rw",
        "RestartSec=2",
        "RestartSteps=6",
        "RestartMaxDelaySec=2min",
    ]


@given(
    groups=st.sets(st.sampled_from((*CARD_GROUPS, JOURNAL_GROUP))),
    numbers=st.sets(st.integers(0, 127)),
    systemd=st.integers(249, 270),
)
def test_every_node_is_allowed_once_and_nothing_unknown_to_systemd_is_written(
    groups: set[str], numbers: set[int], systemd: int
) -> None:
    nodes = tuple(f"davinci{number}" for number in sorted(numbers))
    text = machine_drop_in(dataclasses.replace(GOOD, groups=tuple(sorted(groups)), nodes=nodes, systemd=systemd))
    allowed = [*keys((ROOT / "systemd" / "r1box.service").read_text(encoding="utf-8")), *keys(text)]
    for name in nodes:
        assert allowed.count(f"DeviceAllow=/dev/{name} rw") == 1
    assert ("RestartSteps" in text) == (systemd >= 254)
    assert ("SupplementaryGroups" in text) == bool(groups)


def test_another_prefix_is_told_in_every_unit() -> None:
    layout = Layout(Path("/srv/ai/r1box"))
    for name in UNITS:
        shipped = (ROOT / "systemd" / name).read_text(encoding="utf-8")
        text = unit_text(shipped, layout)
        assert "/opt/r1box" not in text
        assert text.count("/srv/ai/r1box/") == shipped.count("/opt/r1box/") >= 1


def test_the_shipped_settings_are_settings() -> None:
    shipped = (ROOT / "systemd" / "config.toml").read_text(encoding="utf-8")
    given = tomllib.loads(shipped)
    assert Settings(**given).host == "0.0.0.0"
    # What is commented out is valid too, once it is in force.
    lines = [line.removeprefix("# ") for line in shipped.splitlines() if line.startswith("# ") and " = " in line]
    offered = tomllib.loads("\n".join(lines))
    assert {"model", "seats", "context_tokens", "log_level"} == set(offered)
    assert Settings(**given, **offered).log_level == "info"


def test_every_shipped_file_is_installed() -> None:
    contents = {action.content for action in staged_files(Layout(), ROOT) if isinstance(action, PutFile)}
    for path in (ROOT / "systemd").iterdir():
        assert path.read_text(encoding="utf-8") in contents, path.name
