"""The plan: every stage's actions in order, with one hash over all. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from installer.actions import Action, digest
from installer.answers import Answers
from installer.facts import Facts
from installer.installation import installation_id
from installer.stages import STAGES
from installer.target import Target, target_of

FORCE = "r1box.force"
WIPE = "r1box.wipe"


@dataclass(frozen=True, slots=True)
class Step:
    """One action and the stage it belongs to."""

    stage: str
    action: Action


@dataclass(frozen=True, slots=True)
class Plan:
    """``installation`` names what is made where; ``target`` is None when everything is in place already."""

    installation: str
    target: Target
    steps: tuple[Step, ...]

    @property
    def hash(self) -> str:
        """SHA-256 over the installation and every action in order, in hex."""
        return plan_hash(self.installation, self.steps)


def plan_hash(installation: str, steps: tuple[Step, ...]) -> str:
    """See Plan.hash."""
    whole = hashlib.sha256(installation.encode())
    for step in steps:
        whole.update(f"\n{step.stage} {digest(step.action)}".encode())
    return whole.hexdigest()


def make_plan(facts: Facts, answers: Answers) -> Plan:
    """What is to be done; no steps when the stick says that this very installation was finished on this disk, so that a
    stick left in the machine does not install again at every start (kernel argument r1box.force: it does).

    Raises InstallRefused with the first reason why it cannot be done. Consent is not asked for here.
    """
    target = target_of(facts, answers)
    name = installation_id(facts, answers)
    if facts.installed == name and FORCE not in facts.kernel_arguments:
        return Plan(name, target, ())
    steps = tuple(Step(stage.name, action) for stage in STAGES for action in stage.plan(facts, answers))
    return Plan(name, target, steps)
