"""People in the database: passwords, names, throttling."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from sqlalchemy import Engine

from appliance.security.accounts import Accounts
from appliance.security.errors import BadPassword, BadUserName, LastAdmin, LoginFailed, LoginThrottled, UserNameTaken
from appliance.security.passwords import Passwords, check_password
from appliance.security.roles import Role
from appliance.security.throttle import LoginThrottle, network_of
from appliance.store.database import open_database

GOOD = "three blind mice 7"
QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


class CountingHasher(PasswordHasher):
    """Counts how much work was done."""

    work = 0

    def verify(self, hash: str | bytes, password: str | bytes) -> bool:  # type: ignore[override]  # noqa: A002
        self.work += 1
        return bool(super().verify(hash, password))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_database(tmp_path / "r1box.db")
    yield engine
    engine.dispose()


@pytest.fixture
def hasher() -> CountingHasher:
    return CountingHasher(time_cost=1, memory_cost=8, parallelism=1)


@pytest.fixture
def accounts(engine: Engine, tmp_path: Path, hasher: CountingHasher) -> Accounts:
    return Accounts(engine, tmp_path, passwords=Passwords(hasher))


SHORT_OR_LONG = ["", "short 9", "x" * 513]
COMMON = [
    "li.wei",
    "Li.Wei2026!",
    "Password123",
    "QWERTYUIOP",
    "aaaaaaaaaaaa",
    "abababababab",
    "23456789:;<",
    "１２３４５６７８９０",
]
SANE = [GOOD, "correct horse battery staple", "我的密码很长很长很长", "nocapitalsneeded", "é" * 5 + "abcde"]


@pytest.mark.parametrize("password", [*SHORT_OR_LONG, *COMMON])
def test_passwords_that_are_guessed_first(password: str) -> None:
    with pytest.raises(BadPassword) as caught:
        check_password(password, user_name="li.wei")
    assert password == "" or password not in caught.value.message


@pytest.mark.parametrize("password", SANE)
def test_passwords_without_nonsense(password: str) -> None:
    check_password(password, user_name="li.wei")


def test_the_default_hash_is_argon2id_at_its_recommended_cost() -> None:
    passwords = Passwords()
    stored = passwords.hash(GOOD)
    assert stored.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert passwords.verify(stored, GOOD)
    assert not passwords.verify(stored, GOOD + "x")
    assert not passwords.verify(None, GOOD)
    assert not passwords.verify("rubbish", GOOD)
    assert passwords._decoy.split("$")[:4] == stored.split("$")[:4]
    assert len(passwords._decoy) == len(stored)


def test_the_same_accent_from_another_keyboard() -> None:
    passwords = Passwords(QUICK)
    assert passwords.verify(passwords.hash("cafe\u0301 au lait"), "caf\u00e9 au lait")


def test_unknown_and_disabled_people_cost_the_same_work(accounts: Accounts, hasher: CountingHasher) -> None:
    accounts.users.create("li", Role.USER, GOOD)
    accounts.users.create("gone", Role.USER, GOOD)
    accounts.users.create("new", Role.USER, None)
    accounts.users.change("gone", disabled=True)
    for name, password in (("li", "wrong one 12"), ("nobody", GOOD), ("gone", GOOD), ("new", GOOD), ("x" * 999, GOOD)):
        before = hasher.work
        assert accounts.users.authenticate(name, password) is None
        assert hasher.work == before + 1, name
    found = accounts.users.authenticate("LI", GOOD)
    assert found is not None
    assert found.name == "li"


def test_an_old_hash_is_made_anew_at_the_login(engine: Engine, tmp_path: Path) -> None:
    Accounts(engine, tmp_path, passwords=Passwords(QUICK)).users.create("li", Role.USER, GOOD)
    stronger = Accounts(
        engine, tmp_path, passwords=Passwords(PasswordHasher(time_cost=2, memory_cost=16, parallelism=1))
    )
    assert stronger.users.authenticate("li", GOOD) is not None
    with engine.connect() as connection:
        assert "t=2" in str(connection.exec_driver_sql("SELECT password_hash FROM user").scalar())
    assert stronger.users.authenticate("li", GOOD) is not None


@pytest.mark.parametrize("name", ["", " li", "li ", "a/b", "a\nb", "<b>", "x" * 65, "\u202eli"])
def test_names_that_nobody_should_have(accounts: Accounts, name: str) -> None:
    with pytest.raises(BadUserName):
        accounts.users.create(name, Role.USER, GOOD)
    assert accounts.users.list() == ()


def test_one_name_in_capitals_or_wide_letters_is_the_same(accounts: Accounts) -> None:
    accounts.users.create("Li.Wei", Role.USER, GOOD)
    for same in ("li.wei", "LI.WEI", "Ｌｉ.Ｗｅｉ"):
        with pytest.raises(UserNameTaken):
            accounts.users.create(same, Role.USER, GOOD)
    assert accounts.users.create("李伟", Role.VIEWER, GOOD).name == "李伟"


def test_the_last_administrator_who_can_log_in_stays(accounts: Accounts) -> None:
    accounts.users.create("one", Role.ADMIN, GOOD)
    accounts.users.create("no-password", Role.ADMIN, None)
    accounts.users.create("disabled", Role.ADMIN, GOOD)
    accounts.users.change("disabled", disabled=True)
    with pytest.raises(LastAdmin):
        accounts.users.change("one", disabled=True)
    with pytest.raises(LastAdmin):
        accounts.users.change("one", role=Role.OPERATOR)
    assert accounts.users.get("one").role is Role.ADMIN
    accounts.users.change("disabled", disabled=False)
    assert accounts.users.change("one", disabled=True).disabled_at is not None


def test_no_password_is_in_any_file(accounts: Accounts, tmp_path: Path) -> None:
    accounts.users.create("li", Role.USER, GOOD)
    with pytest.raises(LoginFailed):
        accounts.log_in("li", "a secret typed wrong", address=None, user_agent=None)
    secret = accounts.log_in("li", GOOD, address=None, user_agent=None).session.secret
    content = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    for private in (GOOD, "a secret typed wrong", secret):
        assert private.encode() not in content


def test_waits_double_and_end(accounts: Accounts) -> None:
    now = [0.0]
    throttle = LoginThrottle(lambda: now[0])
    waits = []
    for _ in range(18):
        try:
            throttle.begin("li", "192.0.2.1")
        except LoginThrottled as refused:
            waits.append(refused.retry_after_s)
            now[0] += refused.retry_after_s or 0
            throttle.begin("li", "192.0.2.1")
    assert waits[:10] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    assert set(waits[10:]) <= {900}
    throttle.begin("li", "192.0.2.2")  # from elsewhere
    now[0] += 4_000
    throttle.begin("li", "192.0.2.1")


def test_strangers_keep_nobody_out_for_long() -> None:
    now = [0.0]
    throttle = LoginThrottle(lambda: now[0])
    waits: list[int | None] = []
    for number in range(500):
        try:
            throttle.begin("li", f"10.0.{number // 250}.{number % 250}")
        except LoginThrottled as refused:
            waits.append(refused.retry_after_s)
            now[0] += 1
    assert max(wait for wait in waits if wait) == 30
    now[0] += 30
    throttle.begin("li", "192.0.2.9")


def test_one_right_password_gives_no_free_tries_at_others() -> None:
    throttle = LoginThrottle(lambda: 0.0)
    for number in range(20):
        throttle.begin(f"user{number}", "192.0.2.1")
    with pytest.raises(LoginThrottled):
        throttle.begin("mine", "192.0.2.1")
    throttle = LoginThrottle(lambda: 0.0)
    for number in range(19):
        throttle.begin(f"user{number}", "192.0.2.1")
        throttle.begin("mine", "192.0.2.1") if number == 5 else None
        throttle.succeed("mine", "192.0.2.1") if number == 5 else None
    throttle.begin("another", "192.0.2.1")
    with pytest.raises(LoginThrottled):
        throttle.begin("yet-another", "192.0.2.1")


NETWORKS = {
    "2001:db8:1:2:3::1": "2001:db8:1:2::/64",
    "::ffff:192.0.2.1": "192.0.2.1",
    "fe80::1%eth0": "fe80::/64",
    "192.0.2.1": "192.0.2.1",
    None: "",
    "unix": "unix",
}


@pytest.mark.parametrize(("address", "network"), NETWORKS.items())
def test_what_counts_as_one_machine(address: str | None, network: str) -> None:
    assert network_of(address) == network


def test_only_one_of_two_processes_makes_the_first_administrator(engine: Engine, tmp_path: Path) -> None:
    program = (
        "import sys, pathlib\n"
        "from argon2 import PasswordHasher\n"
        "from appliance.store.database import open_database\n"
        "from appliance.security.accounts import Accounts\n"
        "from appliance.security.identity import SYSTEM\n"
        "from appliance.security.passwords import Passwords\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "quick = Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))\n"
        "users = Accounts(open_database(folder / 'r1box.db'), folder, passwords=quick).users\n"
        "made = users.create_first_admin(sys.argv[2], 'three blind mice 7', language='en', actor=SYSTEM)\n"
        "print(made is not None)\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path), name], stdout=subprocess.PIPE, text=True)
        for name in ("a", "b", "c")
    ]
    assert sorted(process.communicate()[0].strip() for process in running) == ["False", "False", "True"]
