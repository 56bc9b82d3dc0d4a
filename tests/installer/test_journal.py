"""Journal and resume: cut off anywhere, every lasting step is done, once, in order; another plan is refused."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from installer.actions import Action, ConfirmDisk, Mount, Unmount
from installer.apply import carry_out
from installer.errors import InstallFailed, InstallRefused
from installer.journal import Journal, open_journal, start_journal
from installer.plan import Plan, make_plan
from tests.installer.boxes import answers, facts

PLAN = make_plan(facts(), answers())
LASTING = [step.action for step in PLAN.steps if step.action.lasting]


FLUSHED: list[int] = []


@pytest.fixture(autouse=True, scope="module")
def _counted_instead_of_waited_for() -> Iterator[None]:
    """Thousands of flushes on a busy disk take minutes; here they are counted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", FLUSHED.append)
        yield


def test_every_line_is_flushed_before_what_comes_after_it(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    path = tmp_path / "journal"

    class Looking(Recording):
        def execute(self, action: Action) -> None:
            super().execute(action)
            seen.append((len(FLUSHED) - before, len(path.read_bytes().splitlines())))

    before = len(FLUSHED)
    carry_out(start_journal(path, PLAN), Looking(), silent)
    # The plan and its folder, then a line begun for this step and two for each before it.
    assert seen == [(2 * number + 3, 2 * number + 2) for number in range(len(PLAN.steps))]


class PowerCut(BaseException):
    """Nothing of the program's runs after it."""


class Recording:
    """Records what is carried out. The power goes before the action ``cut`` of this start, or right after it. Refuses
    what needs a mount that a restart has taken away."""

    def __init__(self, cut: int | None = None, after: bool = False) -> None:
        self.actions: list[Action] = []
        self._cut = cut
        self._after = after
        self._mounted: set[str] = set()

    def execute(self, action: Action) -> None:
        if self._cut == len(self.actions) and not self._after:
            raise PowerCut
        self._need(action)
        self.actions.append(action)
        if self._cut == len(self.actions) - 1 and self._after:
            raise PowerCut

    def _need(self, action: Action) -> None:
        if isinstance(action, Mount):
            if action.target != "/run/r1box/target":
                assert "/run/r1box/target" in self._mounted
            self._mounted.add(action.target)
        elif isinstance(action, Unmount):
            self._mounted.clear()
        elif not isinstance(action, ConfirmDisk):
            text = json.dumps(action.describe())
            if "/run/r1box/target/etc" in text:
                assert "/run/r1box/target/etc" in self._mounted


def silent(line: str) -> None:
    """Nobody listens."""


def cut_at(path: Path, plan: Plan, cuts: list[tuple[int | None, bool]]) -> list[list[Action]]:
    """Starts with the power cut at each place in turn, then one that ends. What each start carried out."""
    starts: list[list[Action]] = []
    journal: Journal | None = start_journal(path, plan)
    for cut, after in [*cuts, (None, False)]:
        journal = journal or open_journal(path, plan.installation)
        executor = Recording(cut, after)
        starts.append(executor.actions)
        try:
            carry_out(journal, executor, silent)
        except PowerCut:
            journal = None
            continue
        break
    return starts


@pytest.mark.parametrize("after", [False, True])
def test_cut_off_at_every_action(tmp_path: Path, after: bool) -> None:
    for cut in range(len(PLAN.steps)):
        path = tmp_path / f"{cut}"
        first, second = cut_at(path, PLAN, [(cut, after)])
        done = [action for action in (*first, *second) if action.lasting]
        if after and PLAN.steps[cut].action.lasting:
            # Done, and the power went before that was noted: the one step that is repeated.
            done.remove(PLAN.steps[cut].action)
        assert done == LASTING
        assert open_finished(path)


def open_finished(path: Path) -> bool:
    with pytest.raises(InstallRefused) as caught:
        open_journal(path)
    return caught.value.code == "journal_finished"


@settings(deadline=None, max_examples=40)
@given(
    cuts=st.lists(st.tuples(st.integers(min_value=0, max_value=len(PLAN.steps) + 8), st.just(False)), max_size=8),
)
def test_cut_off_again_and_again(cuts: list[tuple[int, bool]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        starts = cut_at(Path(folder) / "journal", PLAN, cuts)
    assert [action for actions in starts for action in actions if action.lasting] == LASTING
    # Every start that comes to a step looks at the disk first.
    assert all(actions[0].kind == "confirm-disk" for actions in starts if actions)


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_a_journal_torn_at_any_byte_resumes_or_begins_anew(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        cut = data.draw(st.integers(min_value=1, max_value=len(PLAN.steps) - 1))
        journal, executor = start_journal(path, PLAN), Recording(cut)
        with pytest.raises(PowerCut):
            carry_out(journal, executor, silent)
        content = path.read_bytes()
        header = content.index(b"\n") + 1
        path.write_bytes(content[: data.draw(st.integers(min_value=header, max_value=len(content)))])
        again = Recording()
        resumed = open_journal(path, PLAN.installation)
        already = len(resumed.done)
        carry_out(resumed, again, silent)
        # Whatever was lost is repeated; nothing is left out, and the order is the plan's.
        assert resumed.done == set(range(len(PLAN.steps)))
        assert [a for a in again.actions if a.lasting] == [s.action for s in PLAN.steps[already:] if s.action.lasting]
        assert open_finished(path)


def test_another_plan_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    other = make_plan(facts(), answers(S64FNE0R100001="S64FNE0R100002"))
    with pytest.raises(PowerCut):
        carry_out(start_journal(path, PLAN), Recording(5), silent)
    for act in (lambda: open_journal(path, other.installation), lambda: start_journal(path, other)):
        with pytest.raises(InstallRefused) as caught:
            act()
        assert caught.value.code == "journal_of_another_plan"
    assert open_journal(path, PLAN.installation).begun == 5


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("S64FNE0R100001", "S64FNE0R100009"),
        ("--zap-all", "--zap-some"),
        ('"kind": "copy-image"', '"kind": "copy-anything"'),
        ('"r1box-install": 1', '"r1box-install": 2'),
        ('"done": 0', '"done": 700'),
        ('"done": 0', '"done": 1'),
        ('"steps"', '"stepz"'),
    ],
)
def test_a_changed_journal_is_refused(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "journal"
    with pytest.raises(PowerCut):
        carry_out(start_journal(path, PLAN), Recording(3), silent)
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")
    with pytest.raises(InstallRefused) as caught:
        open_journal(path)
    assert caught.value.code == "journal_unreadable"


def test_nothing_to_resume_and_a_failure_that_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with pytest.raises(InstallRefused, match="There is no"):
        open_journal(path)

    class Full(Recording):
        def execute(self, action: Action) -> None:
            if action.kind == "copy-image":
                raise InstallFailed("action_failed", "The target is full.", "Give more room.")
            super().execute(action)

    with pytest.raises(
        InstallFailed, match=r"Step 11 of \d+ \(root-file-system\) failed: The target is full"
    ) as caught:
        carry_out(start_journal(path, PLAN), Full(), silent)
    assert caught.value.hint == "Give more room."
    assert '"message": "The target is full."' in path.read_text("utf-8")
    assert path.stat().st_mode & 0o777 == 0o600
    carry_out(open_journal(path), Recording(), silent)
    assert open_finished(path)
