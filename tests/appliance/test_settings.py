from __future__ import annotations

from pathlib import Path

import pytest
from typer.main import get_command

from appliance.cli.app import app
from appliance.errors import BadSetting
from appliance.settings import Settings, load_settings

SETTINGS_PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    for name in [name for name in os.environ if name.startswith(("R1BOX_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    path = tmp_path / "box.toml"
    path.write_text("")
    monkeypatch.setenv("R1BOX_CONFIG", str(path))
    return path


def test_defaults_are_private_and_below_home(tmp_path: Path) -> None:
    settings = load_settings()
    assert (settings.host, settings.port) == ("127.0.0.1", 8080)
    assert settings.state_dir == tmp_path / ".local/state/r1box"
    assert settings.models_dir == tmp_path / ".local/share/r1box/models"
    assert settings.max_request_bytes == 33_554_432


def test_flags_go_before_environment_before_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("port = 1001\nseats = 1\nmax_waiting = 1\n")
    monkeypatch.setenv("R1BOX_PORT", "1002")
    monkeypatch.setenv("R1BOX_SEATS", "2")
    settings = load_settings({"port": 1003, "host": None})
    assert (settings.port, settings.seats, settings.max_waiting) == (1003, 2, 1)
    assert settings.host == "127.0.0.1"


def test_fixed_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"STATE_DIR": "/a", "HOST": "::1", "PORT": "1", "MODELS_DIR": "/b"}
    for name, value in values.items():
        monkeypatch.setenv(f"R1BOX_{name}", value)
    settings = load_settings()
    assert (str(settings.state_dir), settings.host, settings.port, str(settings.models_dir)) == ("/a", "::1", 1, "/b")


def test_config_file_in_xdg_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "etc" / "r1box").mkdir(parents=True)
    (tmp_path / "etc" / "r1box" / "config.toml").write_text("seats = 3\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "etc"))
    assert load_settings().seats == 3


def test_xdg_folders_count_only_when_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/var/tmp/state")
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    settings = load_settings()
    assert settings.state_dir == Path("/var/tmp/state/r1box")
    assert settings.models_dir == tmp_path / ".local/share/r1box/models"


def test_home_sign_is_expanded(tmp_path: Path) -> None:
    assert load_settings({"state_dir": "~/box"}).state_dir == tmp_path / "box"


def test_empty_variable_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R1BOX_PORT", "")
    assert load_settings().port == 8080


def test_bad_flag_is_named() -> None:
    with pytest.raises(BadSetting) as caught:
        load_settings({"max_request_bytes": -5})
    assert "max_request_bytes" in caught.value.message
    assert "not -5" in caught.value.message
    assert "the flag --max-request-bytes" in str(caught.value.hint)


@pytest.mark.parametrize("interval_s", [0.0, 0.5, 2.0, 60.0])
def test_telemetry_is_off_or_at_a_sane_pace(interval_s: float) -> None:
    assert load_settings({"telemetry_interval_s": interval_s}).telemetry_interval_s == interval_s


@pytest.mark.parametrize("interval_s", [-1.0, 0.01, 61.0, float("nan"), float("inf")])
def test_a_telemetry_pace_out_of_range_is_named(interval_s: float) -> None:
    with pytest.raises(BadSetting) as caught:
        load_settings({"telemetry_interval_s": interval_s})
    assert "telemetry_interval_s is not usable: input should be 0 (off) or from 0.5 to 60" in caught.value.message


def test_bad_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R1BOX_PORT", "eighty")
    with pytest.raises(BadSetting) as caught:
        load_settings()
    assert "not 'eighty'" in caught.value.message
    assert "the environment variable R1BOX_PORT" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("text", "name", "line"),
    [
        ("# comment\n\nport = 70000\n", "port", 3),
        ("seats = 2\nprot = 8080\n", "prot", 2),
        ("[server]\nport = 8080\n", "server", 1),
        ("threads = [1]\n", "threads", 1),
    ],
)
def test_bad_line_of_the_file_is_named(file: Path, text: str, name: str, line: int) -> None:
    file.write_text(text)
    with pytest.raises(BadSetting) as caught:
        load_settings()
    assert caught.value.details["name"] == name
    assert caught.value.details["origin"] == f"{file}:{line}"


@pytest.mark.parametrize("content", [b"port = \n", b"port = 1\nport = 2\n", b"\xff\xfe"])
def test_file_that_is_not_toml(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(BadSetting) as caught:
        load_settings()
    assert caught.value.details["origin"] == str(file)


def test_named_file_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R1BOX_CONFIG", "/nowhere/config.toml")
    with pytest.raises(BadSetting, match="there is no file /nowhere/config"):
        load_settings()


def test_every_setting_is_documented_with_its_description() -> None:
    page = SETTINGS_PAGE.read_text(encoding="utf-8")
    for name, field in Settings.model_fields.items():
        row = next((line for line in page.splitlines() if line.startswith(f"| `{name}` |")), None)
        assert row is not None, f"docs/settings.md does not list {name}"
        assert f"`R1BOX_{name.upper()}`" in row
        assert field.description is not None
        assert field.description in row
        if field.default_factory is None and field.default is not None:
            assert f"`{field.default}`" in row
    documented = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")]
    assert documented == list(Settings.model_fields)


def test_every_documented_flag_is_one_of_serve() -> None:
    command = get_command(app).commands["serve"]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in parameter.opts}
    page = SETTINGS_PAGE.read_text(encoding="utf-8")
    documented = {line.split(" | ")[1].strip("`") for line in page.splitlines() if line.startswith("| `")} - {"-"}
    assert "--port" in documented
    assert documented - known == set()


def test_example_on_the_page_is_accepted(file: Path) -> None:
    page = SETTINGS_PAGE.read_text(encoding="utf-8")
    file.write_text(page.split("```toml\n")[1].split("```")[0])
    assert load_settings().seats == 8
