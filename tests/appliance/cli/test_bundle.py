"""``r1box bundle`` end to end: the installed command, real keys, the tiny R1, folders as sticks."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer

from appliance.cli.bundle import EXIT_NEXT_STICK, parse_size
from tests.e2e.box import R1BOX, TINY_R1, Home
from tests.models.bundle_samples import KEY, OTHER_KEY, Sample, flip, make_bundle, rewrite
from tests.models.store_samples import write_dense

OWNER = "R1 Box test laboratory"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def trusting(home: Home) -> Home:
    """A box that trusts the key of the samples."""
    home.run("bundle", "trust", "add", KEY.public("x").base64, "--owner", OWNER)
    return home


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return make_bundle(tmp_path / "made")


@pytest.fixture
def sticks(tmp_path: Path) -> Sample:
    return make_bundle(tmp_path / "made", stick_bytes=600_000)


def as_json(home: Home, *arguments: str, check: bool = True) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(home.run(*arguments, "--json", check=check).stdout)
    assert value["schema"] == 1
    return value


def test_from_one_box_to_another(tmp_path: Path, home: Home) -> None:
    """keygen, trust, create, inspect, verify, import, export, import on the next box: the tiny R1 travels."""
    key = tmp_path / "lab.key"
    made = home.run("bundle", "keygen", str(key), "--no-password", "--owner", OWNER).stdout
    assert "r1box bundle trust add lab.pub" in made
    assert key.stat().st_mode & 0o777 == 0o600
    usb = tmp_path / "usb"
    usb.mkdir()
    folder = usb / "tiny"
    out = home.run("bundle", "create", str(TINY_R1), "-o", str(folder), "--sign-with", str(key)).stdout
    assert "Made tiny-r1-q8_0" in out
    refused = home.run("bundle", "import", str(usb), check=False)
    assert refused.returncode == 1
    assert "this box does not trust" in refused.stderr
    home.run("bundle", "trust", "add", str(tmp_path / "lab.pub"))
    shown = home.run("bundle", "inspect", str(usb)).stdout
    assert OWNER in shown
    assert "fits: " in shown
    assert "Tiny-R1 Q8_0" in shown
    assert home.run("models", "list", "--json").stdout.count('"id"') == 0
    assert "Every byte is right" in home.run("bundle", "verify", str(usb)).stdout
    imported = as_json(home, "bundle", "import", str(usb))
    assert (imported["id"], imported["is_new"], imported["default"]) == ("tiny-r1-q8_0", True, True)
    assert "Already there" in home.run("bundle", "import", str(folder)).stdout
    second = tmp_path / "second"
    second.mkdir()
    home.run("bundle", "export", "tiny-r1-q8_0", str(second), "--sign-with", str(key))
    assert sorted(p.name for p in (second / "tiny-r1-q8_0").iterdir()) == [
        "manifest.json",
        "manifest.json.minisig",
        "model.gguf",
    ]
    next_box = Home(tmp_path / "next")
    next_box.run("bundle", "trust", "add", str(tmp_path / "lab.pub"))
    assert "Imported: tiny-r1-q8_0" in next_box.run("bundle", "import", str(second)).stdout
    assert "is whole" in next_box.run("models", "verify", "tiny-r1-q8_0").stdout


def test_trusted_keys_come_and_go(tmp_path: Path, home: Home) -> None:
    assert "No trusted keys" in home.run("bundle", "trust", "list").stdout
    for key, owner in ((KEY, "Lab 2025"), (OTHER_KEY, "Lab 2026")):
        file = tmp_path / f"{owner}.pub"
        file.write_text(key.public(owner).text())
        home.run("bundle", "trust", "add", str(file))
    listed = as_json(home, "bundle", "trust", "list")
    assert {(k["id"], k["owner"]) for k in listed["keys"]} == {(KEY.id, "Lab 2025"), (OTHER_KEY.id, "Lab 2026")}
    assert "Lab 2026" in home.run("bundle", "trust", "list").stdout
    home.run("bundle", "trust", "remove", KEY.id, "--yes")
    assert [k["owner"] for k in as_json(home, "bundle", "trust", "list")["keys"]] == ["Lab 2026"]
    again = home.run("bundle", "trust", "remove", KEY.id, "--yes", check=False)
    assert again.returncode == 1
    assert "no trusted key" in again.stderr
    (Path(listed["folder"]) / "bad.pub").write_text("hello")
    assert "bad.pub is not a usable key" in home.run("bundle", "trust", "list").stderr


def test_locked_keys_sign_with_a_password_file(tmp_path: Path, home: Home, sample: Sample) -> None:
    """The password costs what it costs with minisign: 1 GiB of memory and some seconds each time."""
    password, wrong = tmp_path / "password", tmp_path / "wrong"
    password.write_text("correct horse\n")
    wrong.write_text("battery staple\n")
    key = tmp_path / "lab.key"
    home.run("bundle", "keygen", str(key), "--password-file", str(password))
    refused = home.run(
        "bundle", "sign", str(sample.folder), "--sign-with", str(key), "--password-file", str(wrong), check=False
    )
    assert "password does not open" in refused.stderr
    home.run("bundle", "sign", str(sample.folder), "--sign-with", str(key), "--password-file", str(password))
    home.run("bundle", "trust", "add", str(tmp_path / "lab.pub"))
    assert as_json(home, "bundle", "verify", str(sample.folder))["signer"]["trusted"] is True
    unasked = subprocess.run(
        [R1BOX, "bundle", "sign", str(sample.folder), "--sign-with", str(key)],
        env=home.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert unasked.returncode == 1
    assert "--password-file" in unasked.stderr


def test_unsigned_needs_the_flag_and_leaves_a_record(tmp_path: Path, trusting: Home) -> None:
    made = make_bundle(tmp_path / "unsigned", key=None)
    refused = trusting.run("bundle", "import", str(made.folder), check=False)
    assert refused.returncode == 1
    assert "--allow-unsigned" in refused.stderr
    taken = trusting.run("bundle", "import", str(made.folder), "--allow-unsigned")
    (line,) = [text for text in taken.stderr.splitlines() if "bundle_import_untrusted" in text]
    record = json.loads(line)
    assert record["level"] == "warning"
    assert record["bundle"] == "big-r1-q8_0"
    assert record["user"]
    assert len(record["manifest_sha256"]) == len(record["content_sha256"]) == 64
    assert "no trusted key had signed" in taken.stderr


def test_damage_is_named_range_by_range(trusting: Home, sample: Sample) -> None:
    flip(sample.payload, 70_000)
    told = trusting.run("bundle", "verify", str(sample.folder), check=False)
    assert told.returncode == 1
    assert "model.gguf (stick 1) bytes 65,536 to 131,072" in told.stderr
    row = as_json(trusting, "bundle", "verify", str(sample.folder), check=False)
    assert row["damaged"] == [
        {"path": "model.gguf", "stick": 1, "start": 65536, "end": 131072, "why": "they are not those of the manifest"}
    ]
    assert row["whole"] is False
    refused = trusting.run("bundle", "import", str(sample.folder), check=False)
    assert refused.returncode == 1
    assert "only these ranges are read" in refused.stderr
    assert "Unfinished: bundle:big-r1-q8_0" in trusting.run("models", "list").stdout
    flip(sample.payload, 70_000)
    assert "Imported" in trusting.run("bundle", "import", str(sample.folder)).stdout
    flip(sample.folder / "manifest.json", 300)
    for command in ("verify", "inspect", "import"):
        broken = trusting.run("bundle", command, str(sample.folder), check=False)
        assert broken.returncode == 1
        assert "signature of the bundle does not hold" in broken.stderr


def test_without_a_terminal_the_next_stick_is_an_exit_code(trusting: Home, sticks: Sample) -> None:
    for number in (0, 1):
        waits = trusting.run("bundle", "import", str(sticks.made.folders[number]), check=False)
        assert waits.returncode == EXIT_NEXT_STICK
    assert "stick 3 of 3 (big-r1-q8_0-3)" in waits.stderr
    assert "what was copied stays" in waits.stderr
    assert "Imported" in trusting.run("bundle", "import", str(sticks.made.folders[2])).stdout


def test_on_a_terminal_it_asks_for_sticks_by_name(trusting: Home, sticks: Sample) -> None:
    parent, child = pty.openpty()
    try:
        process = subprocess.Popen(
            [R1BOX, "bundle", "import", str(sticks.folder)],
            env=trusting.environment, stdin=child, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        answers = f"{sticks.folder}\n{sticks.made.folders[1]}\n{sticks.made.folders[2]}\n"
        os.write(parent, answers.encode())
        out, err = process.communicate(timeout=60)
    finally:
        os.close(child)
        os.close(parent)
    assert process.returncode == 0, err
    assert "Imported: big-r1-q8_0" in out
    assert err.count("Put in stick 2 of 3") == 2
    assert "has none of the files that are missing" in err
    assert "Put in stick 3 of 3 (big-r1-q8_0-3)" in err


def test_inspect_says_what_does_not_fit_and_import_refuses(trusting: Home, sample: Sample) -> None:
    def enlarge(manifest: dict[str, Any]) -> None:
        """A model of 40 TB by its manifest; nothing of it is there, and nothing is read."""
        chunk = manifest["files"][0]["chunk_bytes"] = 64 * 1024 * 1024
        size = chunk * 200_000
        manifest["files"][0] |= {"size_bytes": size, "chunks": ["0" * 64] * 200_000}
        manifest["files"][0]["parts"][0]["size_bytes"] = manifest["sticks"][0]["size_bytes"] = size
        hardware = manifest["hardware"]
        grown = size - hardware["weights_bytes"]
        for name in ("weights_bytes", "repeating_bytes", "largest_layer_bytes"):
            hardware[name] += grown

    rewrite(sample.folder, enlarge)
    row = as_json(trusting, "bundle", "inspect", str(sample.folder))
    assert row["fits"] is False
    assert row["needed_bytes"] > row["available_bytes"] > 0
    assert row["size_bytes"] == 64 * 1024 * 1024 * 200_000
    shown = trusting.run("bundle", "inspect", str(sample.folder)).stdout
    assert "does not fit" in shown
    assert "Too little room" in shown
    refused = trusting.run("bundle", "import", str(sample.folder), check=False)
    assert "would not run on this machine" in refused.stderr
    anyway = trusting.run("bundle", "import", str(sample.folder), "--even-if-it-does-not-fit", check=False)
    assert anyway.returncode == 1
    assert "are needed" in anyway.stderr  # the next check: the disk


def test_inspect_names_what_lies_elsewhere(trusting: Home, sticks: Sample) -> None:
    row = as_json(trusting, "bundle", "inspect", str(sticks.made.folders[1]))
    assert [part["stick"] for part in row["missing"]] == [1, 3]
    assert row["signer"] == {"key_id": KEY.id, "owner": OWNER, "trusted": True}
    assert [s["number"] for s in row["sticks"]] == [1, 2, 3]
    assert trusting.run("bundle", "inspect", str(sticks.made.folders[1])).stdout.count("not here") == 2


def test_sticks_are_made_by_size_and_by_folder(tmp_path: Path, home: Home) -> None:
    out = tmp_path / "out"
    made = as_json(home, "bundle", "create", str(TINY_R1), "-o", str(out), "--stick-size", "20M")
    assert made["folders"] == [str(out / "stick-1")]
    home.run("bundle", "import", str(out), "--allow-unsigned")
    for name in ("usb1", "usb2"):
        (tmp_path / name).mkdir()
    small = home.run("bundle", "export", "tiny-r1-q8_0", str(tmp_path / "usb1"), "--stick-size", "2M", check=False)
    assert small.returncode == 1
    assert "Give more or larger sticks" in small.stderr
    missing = home.run("bundle", "export", "tiny-r1-q8_0", str(tmp_path / "none"), check=False)
    assert "no such folder" in missing.stderr
    again = home.run("bundle", "create", str(TINY_R1), "-o", str(tmp_path), check=False)
    assert "something else is there" in again.stderr


def test_export_to_several_sticks(tmp_path: Path, home: Home) -> None:
    """By as many folders, and on a terminal one after the other, each asked for."""
    source = write_dense(tmp_path / "Big-R1-Q8_0.gguf", 40_000_000)
    home.run("models", "import", str(source))
    usbs = [tmp_path / f"usb{n}" for n in range(1, 7)]
    for usb in usbs:
        usb.mkdir()
    home.run("bundle", "export", "big-r1-q8_0", *map(str, usbs[:3]), "--stick-size", "20M")
    assert [p.name for usb in usbs[:3] for p in (usb / "big-r1-q8_0").glob("model*")] == [
        f"model.gguf.part-00{n}" for n in (1, 2, 3)
    ]
    parent, child = pty.openpty()
    try:
        process = subprocess.Popen(
            [R1BOX, "bundle", "export", "big-r1-q8_0", str(usbs[3]), "--stick-size", "20M"],
            env=home.environment, stdin=child, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        os.write(parent, f"{tmp_path / 'none'}\n{usbs[4]}\n{usbs[5]}\n".encode())
        _, err = process.communicate(timeout=60)
    finally:
        os.close(child)
        os.close(parent)
    assert process.returncode == 0, err
    assert err.count("Put in stick 2 of 3 (big-r1-q8_0-2) to be written.") == 2
    assert "is no folder" in err
    for sticks in (usbs[:3], usbs[3:]):
        row = as_json(home, "bundle", "verify", *map(str, sticks), check=False)
        assert row["whole"] is True
        assert row["signer"]["trusted"] is False


def test_signing_without_a_key_is_wrong_usage(home: Home, sample: Sample) -> None:
    assert home.run("bundle", "sign", str(sample.folder), check=False).returncode == 2


def test_keys_are_not_overwritten(tmp_path: Path, home: Home) -> None:
    key = tmp_path / "lab.key"
    home.run("bundle", "keygen", str(key), "--no-password")
    before = key.read_bytes(), (tmp_path / "lab.pub").read_bytes()
    assert home.run("bundle", "keygen", str(key), "--no-password", check=False).returncode == 1
    (tmp_path / "lab.pub").unlink()
    assert home.run("bundle", "keygen", str(key), "--no-password", check=False).returncode == 1
    assert key.read_bytes() == before[0]


@pytest.mark.parametrize(
    ("text", "size"),
    [("58G", 58 * 10**9), ("58gb", 58 * 10**9), ("29GiB", 29 * 2**30), ("3900M", 3_900_000_000), ("1.5T", 15 * 10**11),
     ("5000", 5000), (" 4 G ", 4 * 10**9)],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-5G", "0", "5X", "5PiB", "nan", "inf", "1e400G", "5GG"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_size(text)
