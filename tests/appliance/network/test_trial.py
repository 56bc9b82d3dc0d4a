"""Changes on trial: kept, taken back, forgotten by the operator, interrupted at every place."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.network.errors import AddressTaken, ChangeFailed, NetworkInvalid, NotKept, NoTrial, TrialRunning
from tests.appliance.network.rig import Rig, of
from tests.fakes.network import FIRST_FILE, FakeNetwork

NEW = of(addresses=["10.0.4.30/24"], ntp=["10.0.4.5"], hostname="ward-3")
BEFORE = (["10.0.4.17/24"], [], "r1box")
AFTER = (["10.0.4.30/24"], ["10.0.4.5"], "ward-3")


def now(machine: FakeNetwork) -> tuple[list[str], list[str], str]:
    return machine.addresses(), machine.state()["ntp"], machine.hostname()


def test_a_confirmed_change_stays(machine: FakeNetwork) -> None:
    rig = Rig(machine)
    trials = rig.trials()
    trial = trials.begin(NEW, 120).trial
    assert trial is not None
    assert [line.what for line in trial.lines] == ["addresses", "ntp", "hostname"]
    assert (trial.seconds_left, trial.gateway_answers) == (120.0, True)
    assert now(machine) == AFTER
    # The new address was asked for before it was taken, the router afterwards from it.
    assert rig.asked == [("10.0.4.30", None), ("10.0.4.1", "10.0.4.30")]
    rig.at_s += 119
    ended = trials.confirm(trial.id)
    assert (ended.trial, ended.last and ended.last.outcome) == (None, "confirmed")
    assert trials.next_s() is None
    machine.boot()
    assert now(machine) == AFTER
    assert "127.0.1.1 ward-3\n" in (machine.root / "etc/hosts").read_text()
    # And once more: what was kept is what the next one comes back to.
    assert trials.begin(of(mode="dhcp"), 60).trial is not None
    assert machine.addresses() == ["10.0.4.99/24"]
    trials.roll_back()
    assert now(machine) == AFTER


def test_nobody_confirms(machine: FakeNetwork) -> None:
    rig = Rig(machine)
    trials = rig.trials()
    trials.begin(NEW, 120)
    rig.at_s += 119.5
    trials.wake()
    assert now(machine) == AFTER
    rig.at_s += trials.next_s() or 0
    trials.wake()
    assert now(machine) == BEFORE
    last = trials.status().last
    assert last is not None
    assert last.outcome == "expired"
    with pytest.raises(NoTrial, match="nobody confirmed it in time"):
        trials.confirm(last.id)


def test_a_power_cut_takes_it_back_by_itself(machine: FakeNetwork) -> None:
    rig = Rig(machine)
    rig.trials().begin(NEW, 120)
    machine.boot()
    assert now(machine) == BEFORE
    assert not rig.record.exists()
    assert rig.trials().status().trial is None


def test_a_helper_that_was_killed_goes_on_with_the_same_clock(machine: FakeNetwork) -> None:
    rig = Rig(machine)
    trial = rig.trials().begin(NEW, 120).trial
    assert trial is not None
    rig.at_s += 50
    again = rig.trials()
    again.wake()
    assert again.next_s() == 70
    assert now(machine) == AFTER
    rig.at_s += 71
    late = rig.trials()
    late.wake()
    assert now(machine) == BEFORE
    with pytest.raises(NoTrial):
        late.confirm(trial.id)


def test_killed_while_it_is_put_in_force(machine: FakeNetwork) -> None:
    class Killed(BaseException):
        pass

    rig = Rig(machine)
    trials = rig.trials()

    def killed(_name: str) -> None:
        raise Killed

    trials._parts.machine._set_hostname = killed  # the last of the three steps
    with pytest.raises(Killed):
        trials.begin(NEW, 120)
    assert now(machine)[:2] == AFTER[:2]
    again = rig.trials()
    again.wake()
    assert now(machine) == BEFORE
    last = again.status().last
    assert last is not None
    assert (last.outcome, last.reason) == ("failed", "the helper ended in the middle of it")


def test_only_one_at_a_time_and_only_the_one_that_was_seen(machine: FakeNetwork) -> None:
    rig = Rig(machine)
    trials = rig.trials()
    trials.begin(NEW, 60)
    with pytest.raises(TrialRunning, match="60 more seconds"):
        trials.begin(of(mode="dhcp"), 60)
    with pytest.raises(NoTrial):
        trials.confirm("net_other")
    trials.roll_back()
    assert now(machine) == BEFORE
    with pytest.raises(NoTrial, match="was taken back"):
        trials.roll_back()


def test_what_the_system_refuses_is_taken_back_and_explained(machine: FakeNetwork) -> None:
    rig = Rig(machine)
    trials = rig.trials()
    machine.refuse("systemctl")
    with pytest.raises(ChangeFailed, match="systemctl ended with exit code 1"):
        trials.begin(NEW, 60)
    # timesyncd could not be told of its old servers either: that is tried again until it works.
    assert machine.addresses() == BEFORE[0]
    assert trials.status().trial is not None
    assert trials.next_s() == 5.0
    machine.refuse("")
    trials.wake()
    assert now(machine) == BEFORE
    last = trials.status().last
    assert last is not None
    assert last.outcome == "failed"


def test_what_cannot_be_kept_goes_with_its_time(machine: FakeNetwork) -> None:
    rig = Rig(machine)
    trials = rig.trials()
    trial = trials.begin(NEW, 60).trial
    assert trial is not None
    machine.refuse("hostnamectl")
    with pytest.raises(NotKept, match="in force and could not be kept: hostnamectl"):
        trials.confirm(trial.id)
    assert now(machine) == AFTER
    rig.at_s += 60
    trials.wake()
    assert now(machine) == BEFORE
    machine.refuse("")
    machine.boot()
    assert now(machine) == BEFORE


def test_another_file_for_the_card_comes_first(networkd: FakeNetwork) -> None:
    rig = Rig(networkd)
    folder = networkd.root / "etc/systemd/network"
    (folder / FIRST_FILE).rename(folder / "00-a.network")
    with pytest.raises(ChangeFailed, match="networkd does not use it for eth0"):
        rig.trials().begin(of(addresses=["10.0.4.30/24"]), 60)
    assert networkd.addresses() == BEFORE[0]
    assert not (networkd.root / "run/systemd/network/00-r1box-eth0.network").exists()


def test_an_address_that_somebody_has(machine: FakeNetwork) -> None:
    rig = Rig(machine)
    rig.holders["10.0.4.30"] = "52:54:00:11:22:33"
    with pytest.raises(AddressTaken, match="52:54:00:11:22:33 answers for it"):
        rig.trials().begin(NEW, 60)
    assert now(machine) == BEFORE
    assert not rig.record.exists()


def test_a_gateway_that_is_silent_is_told(machine: FakeNetwork) -> None:
    rig = Rig(machine, holders={})
    trial = rig.trials().begin(of(addresses=["10.0.4.30/24"]), 60).trial
    assert trial is not None
    assert trial.gateway_answers is False


def test_a_refused_change_leaves_nothing_behind(machine: FakeNetwork) -> None:
    rig = Rig(machine)
    with pytest.raises(NetworkInvalid):
        rig.trials().begin(of(gateways=["10.9.9.9"]), 60)
    assert now(machine) == BEFORE
    assert not (machine.root / "run").exists()


def test_a_record_of_an_older_version_is_no_reason_to_fail(machine: FakeNetwork) -> None:
    rig = Rig(machine)
    rig.record.parent.mkdir(parents=True)
    rig.record.write_text('{"trial": {"phase": "dreaming"}}')
    assert rig.trials().status().trial is None


def test_the_confirmed_file_is_not_one_of_the_operators(networkd: FakeNetwork) -> None:
    folder = networkd.root / "etc/systemd/network"
    before = (folder / FIRST_FILE).read_text()
    rig = Rig(networkd)
    trials = rig.trials()
    trial = trials.begin(of(dns=["10.0.4.9"]), 60).trial
    assert trial is not None
    trials.confirm(trial.id)
    assert (folder / FIRST_FILE).read_text() == before
    written: Path = folder / "01-r1box-eth0.network"
    assert written.read_text().splitlines()[1:] == [
        "[Match]",
        "Name=eth0",
        "",
        "[Network]",
        "Address=10.0.4.17/24",
        "Gateway=10.0.4.1",
        "DNS=10.0.4.9",
    ]
    assert written.stat().st_mode & 0o777 == 0o644
