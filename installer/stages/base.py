"""What a stage is: a name and a pure function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from installer.actions import Action
from installer.answers import Answers
from installer.facts import Facts

Planner = Callable[[Facts, Answers], list[Action]]


@dataclass(frozen=True, slots=True)
class Stage:
    """``plan`` looks at values alone; it may raise InstallRefused. [] when nothing is due."""

    name: str
    title: str
    plan: Planner
