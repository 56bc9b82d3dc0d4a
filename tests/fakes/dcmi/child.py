"""Runs the real child ``drivers.dcmi`` against a compiled fake of the library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from drivers.command import CommandFailed, minimal_environment, run
from drivers.dcmi_reading import DcmiChip, DcmiReading, child_argv, parse_reading
from tests.fakes.dcmi.build import write_scenario


def child_environment(
    folder: Path, settings: Mapping[str, object], *, library_path: Path | None = None
) -> dict[str, str]:
    """The child's environment with the settings written into ``folder``; ``library_path`` is its LD_LIBRARY_PATH."""
    scenario = write_scenario(folder / "dcmi.scenario", settings)
    environment = minimal_environment(FAKE_DCMI_SCENARIO=str(scenario))
    return environment if library_path is None else environment | {"LD_LIBRARY_PATH": str(library_path)}


def read_child(
    folder: Path,
    settings: Mapping[str, object],
    *libraries: Path,
    preload: Sequence[Path] = (),
    library_path: Path | None = None,
    timeout_s: float = 30.0,
) -> tuple[DcmiReading, CommandFailed | None]:
    """What the child printed, and how it failed if it did."""
    argv = child_argv(libraries=[str(path) for path in libraries], preload=[str(path) for path in preload])
    environment = child_environment(folder, settings, library_path=library_path)
    try:
        output = run(argv, timeout_s=timeout_s, environment=environment)
    except CommandFailed as error:
        return parse_reading(error.result.stdout), error
    return parse_reading(output.stdout), None


def keys(chips: Sequence[DcmiChip]) -> list[str]:
    """The chips as ``card.device`` (API 2: ``card``)."""
    return [str(chip.card_id) + ("" if chip.device_id is None else f".{chip.device_id}") for chip in chips]
