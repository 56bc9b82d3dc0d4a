"""The support bundle: it has what helps, says what it has, and none of the box's secrets."""

from __future__ import annotations

import json
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.backup.errors import BackupTargetUnusable
from appliance.backup.key import save_key
from appliance.rescue.bundle import Blotter, BundleOrder, write_bundle
from appliance.schemas.rescue import SupportBundle
from appliance.settings import Settings
from tests.appliance.backup.states import KEY, make_state
from tests.appliance.rescue.test_look import Tools

PEM = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEICANARY8\n-----END EC PRIVATE KEY-----"
CANARIES = {
    "r1b_CANARY1abcdef": "Authorization: Bearer r1b_CANARY1abcdef",
    "hf_CANARY2abcdefgh": "token hf_CANARY2abcdefgh in a line",
    "CANARY3pw": "http://someone:CANARY3pw@proxy:3128/",
    "CANARY4cookie": "cookie r1box_session=CANARY4cookie; path=/",
    "CANARY5": "password=CANARY5",
    "CANARY6": "api_key: CANARY6",
    "CANARY7": "$argon2id$v=19$m=65536$CANARY7",
    "CANARY8": PEM,
    "ABCDE-FGHJK-MNPQR-STUVW": "setup token ABCDE-FGHJK-MNPQR-STUVW for the chat page",
    "CANARYsigning-secret-9": "the secret CANARYsigning-secret-9 turns up in an odd place",
    "CANARYhub10": "someone sent CANARYhub10 as an argument",
    "hooks.example/CANARY11": "posted to https://hooks.example/CANARY11",
    KEY.secret.hex(): f"backup key {KEY.secret.hex()}",
}


def made(tmp_path: Path) -> tuple[SupportBundle, dict[str, str]]:
    state = make_state(tmp_path / "state")
    save_key(state, KEY)
    (state / "setup-token").write_text("ABCDE-FGHJK-MNPQR-STUVW")
    token = tmp_path / "hub-token"
    token.write_text("CANARYhub10\n")
    settings = Settings(
        state_dir=state,
        models_dir=state / "models",
        alert_secret="CANARYsigning-secret-9",
        alert_urls=("https://hooks.example/CANARY11",),
        hub_proxy="http://someone:CANARY3pw@proxy:3128",
        huggingface_token_file=token,
    )
    everything = list(CANARIES.values())
    order = BundleOrder(
        settings=settings,
        version="0.1.0",
        report={"findings": everything},
        log=[line for text in everything for line in text.splitlines()],
        doctor=lambda: {"summary": "well", "said": everything},
        run=Tools("\n".join(everything)),
        now=lambda: datetime(2026, 11, 22, tzinfo=UTC),
    )
    stick = tmp_path / "stick"
    stick.mkdir()
    bundle = write_bundle(order, stick)
    assert [path.name for path in stick.iterdir()] == [Path(bundle.path).name]
    with tarfile.open(bundle.path) as archive:
        members = archive.getmembers()
        assert all(one.isfile() and one.mode == 0o600 for one in members)
        texts = {}
        for one in members:
            file = archive.extractfile(one)
            assert file is not None
            texts[one.name.partition("/")[2]] = file.read().decode()
    return bundle, texts


def test_no_secret_is_in_it(tmp_path: Path) -> None:
    bundle, texts = made(tmp_path)
    whole = "\n".join(texts.values())
    assert [canary for canary in CANARIES if canary in whole] == []
    assert bundle.redacted > 5 * len(CANARIES)
    assert Path(bundle.path).stat().st_mode & 0o777 == 0o600


def test_it_says_what_it_has(tmp_path: Path) -> None:
    bundle, texts = made(tmp_path)
    assert {one.name for one in bundle.files} == set(texts) - {"CONTENTS.txt"}
    for one in bundle.files:
        assert one.name in texts["CONTENTS.txt"]
        assert one.size_bytes == len(texts[one.name].encode())
    assert f"{bundle.redacted:,} places" in texts["CONTENTS.txt"]
    values = json.loads(texts["settings.json"])
    assert (values["alert_secret"], values["max_waiting"]) == ("***", 7)
    assert "r1box.db" in texts["state.txt"]
    assert json.loads(texts["doctor.json"])["summary"] == "well"


def test_a_tool_or_a_doctor_that_fails_costs_only_its_part(tmp_path: Path) -> None:
    state = make_state(tmp_path / "state")

    def broken() -> dict[str, object]:
        raise RuntimeError("the driver is gone")

    settings = Settings(state_dir=state, models_dir=state / "models")
    order = BundleOrder(settings=settings, version="0.1.0", report={}, log=[], doctor=broken, run=Tools(None))
    bundle = write_bundle(order, tmp_path)
    with tarfile.open(bundle.path) as archive:
        told = {one.name.rpartition("/")[2]: archive.extractfile(one).read().decode() for one in archive}  # type: ignore[union-attr]
    assert "the driver is gone" in told["doctor.json"]
    assert "it failed" in told["disks.txt"]
    with pytest.raises(BackupTargetUnusable):
        write_bundle(order, tmp_path / "none")


def test_short_words_are_not_taken_for_secrets() -> None:
    blot = Blotter(["abc", ""])
    assert blot("abc is the alphabet") == "abc is the alphabet"
    assert blot.count == 0
