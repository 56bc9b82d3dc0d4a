from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import StateNotWritable
from appliance.paths import default_state_dir, prepare_state


def test_state_folder_is_made_for_this_user_alone(tmp_path: Path) -> None:
    paths = prepare_state(tmp_path / "a" / "b")
    assert paths.state_dir.stat().st_mode & 0o777 == 0o700
    assert paths.database == tmp_path / "a" / "b" / "r1box.db"
    assert list(paths.state_dir.iterdir()) == []
    assert prepare_state(paths.state_dir) == paths


def test_mode_of_an_existing_folder_stays(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    prepare_state(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o750


def test_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(StateNotWritable, match="a file is in the way") as caught:
        prepare_state(tmp_path / "state")
    assert "--state-dir" in str(caught.value.hint)


def test_parent_that_takes_no_folders() -> None:
    with pytest.raises(StateNotWritable) as caught:
        prepare_state(Path("/proc/r1box/state"))
    assert "\n" not in caught.value.message


def test_without_home() -> None:
    assert default_state_dir({}) == Path("/.local/state/r1box")
