"""Settings that are changed in the running box: what may change, where it is written, what is in force."""

from __future__ import annotations

import os
import stat
import tomllib
import typing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import AppError, BadSetting
from appliance.settings import CHANGED_NAME, FILE_ONLY, SECRET, Origin, Settings, load_settings
from appliance.settings_store import NOW, ON_LOAD, Applies, SettingsStore, applies, plain, to_toml


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("R1BOX_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("R1BOX_STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "state").mkdir()


@pytest.fixture
def file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    path = tmp_path / "box.toml"
    path.write_text("")
    monkeypatch.setenv("R1BOX_CONFIG", str(path))
    return path


def store(**flags: Any) -> SettingsStore:
    return SettingsStore(load_settings(flags), frozenset(flags))


def change(book: SettingsStore, **values: Any) -> Settings:
    return book.write(book.check(values))


def state(book: SettingsStore, name: str) -> Any:
    return next(one for one in book.states() if one.name == name)


def test_a_change_is_in_force_or_waits_and_survives_a_restart(file: Path) -> None:
    file.write_text('log_level = "error"\nport = 8000\n')
    book = store(threads=2)
    assert (state(book, "log_level").value, state(book, "log_level").origin) == ("error", Origin.FILE)
    in_force = change(book, log_level="debug", port=9000, seats="3")
    assert (in_force.log_level, in_force.port, in_force.seats) == ("debug", 8000, 3)
    level, port, seats = (state(book, name) for name in ("log_level", "port", "seats"))
    assert (level.value, level.stored, level.origin, level.applies) == ("debug", "debug", Origin.CHANGED, Applies.NOW)
    assert (port.value, port.stored, port.default, port.applies) == (8000, 9000, 8080, Applies.RESTART)
    assert (seats.value, seats.applies) == (3, Applies.LOAD)
    assert str(book.file) in level.place
    # A new process, as after a restart; and on the command line.
    assert (load_settings().port, load_settings().log_level) == (9000, "debug")
    assert file.read_text() == 'log_level = "error"\nport = 8000\n'
    assert tomllib.loads(book.file.read_text()) == {"log_level": "debug", "port": 9000, "seats": 3}
    assert stat.S_IMODE(book.file.stat().st_mode) == 0o600
    # Taken back: what the file says counts again.
    change(book, log_level=None, port=None)
    assert (load_settings().port, load_settings().log_level) == (8000, "error")
    assert tomllib.loads(book.file.read_text()) == {"seats": 3}
    assert [path.name for path in book.file.parent.iterdir()] == [CHANGED_NAME]


@pytest.mark.parametrize(
    ("values", "code", "name"),
    [
        ({"prot": 1}, "unknown_setting", "prot"),
        ({"log_level": "loud"}, "setting_not_usable", "log_level"),
        ({"port": 70_000}, "setting_not_usable", "port"),
        ({"seats": [1]}, "setting_not_usable", "seats"),
        ({"tls": "files"}, "setting_not_usable", "settings"),
        ({"backends_dir": "/tmp/evil"}, "setting_in_file", "backends_dir"),
        ({"job_folders": "/etc"}, "setting_in_file", "job_folders"),
        ({"trusted_keys_dir": None}, "setting_in_file", "trusted_keys_dir"),
        ({"threads": 4}, "setting_locked", "threads"),
        ({"max_waiting": 4}, "setting_locked", "max_waiting"),
        ({"log_level": "debug", "port": -1}, "setting_not_usable", "port"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], code: str, name: str
) -> None:
    monkeypatch.setenv("R1BOX_MAX_WAITING", "7")
    book = store(threads=2)
    with pytest.raises(AppError) as caught:
        change(book, **values)
    assert (caught.value.code, caught.value.details["param"]) == (code, name)
    assert not book.file.exists()
    assert book.in_force.log_level == "info"


def test_a_variable_that_comes_later_goes_before_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    change(store(), port=9000)
    monkeypatch.setenv("R1BOX_PORT", "7000")
    assert load_settings().port == 7000
    assert load_settings({"port": 6000}).port == 6000


def test_a_file_of_changes_that_somebody_broke_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "state" / CHANGED_NAME
    for text, name in (("port = 70000\n", "port"), ("port = \n", "config"), ('chat_dir = "/etc"\n', "chat_dir")):
        broken.write_text(text)
        with pytest.raises(BadSetting) as caught:
            load_settings()
        assert caught.value.details["name"] == name
        assert str(broken) in caught.value.details["origin"]


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R1BOX_HUB_PROXY", "http://chen:hunter2@proxy:3128")
    shown = state(store(), "hub_proxy")
    assert (shown.value, shown.stored) == ("***", "***")


def test_every_setting_has_one_way_to_change() -> None:
    names = set(Settings.model_fields)
    assert names >= FILE_ONLY | NOW | ON_LOAD | SECRET
    assert not FILE_ONLY & (NOW | ON_LOAD)
    assert not NOW & ON_LOAD
    hints = typing.get_type_hints(Settings)
    paths = {name for name in names if "Path" in str(hints[name])}
    # Whoever changes a path over the network could have the box read, write or run what they like.
    assert paths <= FILE_ONLY
    assert {applies(name) for name in names} == set(Applies)


@given(
    st.dictionaries(
        st.sampled_from(sorted(Settings.model_fields)),
        st.one_of(
            st.booleans(),
            st.integers(-(2**60), 2**60),
            st.text(st.characters(exclude_characters="\x7f", exclude_categories=("Cs",))),
            st.lists(
                st.text(st.characters(exclude_characters="\x7f", exclude_categories=("Cs",)), max_size=9), max_size=3
            ),
            st.floats(allow_nan=False, allow_infinity=False),
        ),
    )
)
def test_what_is_written_is_read_again(values: dict[str, Any]) -> None:
    assert tomllib.loads(to_toml(values)) == values


def test_defaults_are_those_of_a_box_without_files() -> None:
    shown = {one.name: one.default for one in store().states()}
    found = plain(load_settings())
    assert {name: found[name] for name in shown if name != "state_dir"} == {
        name: value for name, value in shown.items() if name != "state_dir"
    }


def test_the_page_lists_what_changes_when() -> None:
    page = (Path(__file__).parents[2] / "docs" / "settings.md").read_text(encoding="utf-8")
    for title, names in (
        ("now", NOW),
        ("when a model is loaded next", ON_LOAD),
        ("in the settings file alone", FILE_ONLY),
    ):
        part = page.split(f"- **{title}**:")[1].split("- **")[0].split(": they decide")[0]
        assert set(part.replace("\n", " ").replace("`", "").replace(",", " ").split()) == names
