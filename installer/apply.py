"""Carries a plan out with a journal, from its beginning or from where it stopped.

For every step: note it as begun, do it, note it as done. A step that was begun and not done is repeated; one that was
done is not, except those that a restart undoes (mounts): they are done again before the first step that is still open.
"""

from __future__ import annotations

from collections.abc import Callable

from installer.errors import InstallFailed
from installer.executor import Executor
from installer.journal import Journal

Say = Callable[[str], None]


def carry_out(journal: Journal, executor: Executor, say: Say) -> None:
    """All that is left to do. Raises InstallFailed with the step that failed; the journal then can be resumed."""
    total = len(journal.steps)
    left = [number for number in range(total) if number not in journal.done]
    if left:
        for number in _again(journal, left[0]):
            say(f"again  {journal.steps[number].action.describe()}")
            _execute(journal, executor, number)
    for number in left:
        say(f"{number + 1}/{total}  {journal.steps[number].action.describe()}")
        journal.begin(number)
        _execute(journal, executor, number)
        journal.end(number)
    journal.finish()


def _again(journal: Journal, first: int) -> list[int]:
    """Steps before the first open one whose effect a restart undid: not those that an unmount after them took back."""
    needed: list[int] = []
    for number in range(first):
        action = journal.steps[number].action
        if action.kind == "unmount":
            needed = [n for n in needed if journal.steps[n].action.kind != "mount"]
        elif not action.lasting:
            needed.append(number)
    return needed


def _execute(journal: Journal, executor: Executor, number: int) -> None:
    step = journal.steps[number]
    try:
        executor.execute(step.action)
    except InstallFailed as error:
        journal.fail(number, error.message)
        raise InstallFailed(
            error.code,
            f"Step {number + 1} of {len(journal.steps)} ({step.stage}) failed: {error.message}",
            error.hint,
            step=number + 1,
            stage=step.stage,
        ) from error
