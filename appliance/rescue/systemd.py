"""What systemd says of the service, and the few things asked of it. Any of it may be missing: a box that was started by
hand, a container."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from appliance.schemas.rescue import RescueUnit
from drivers.command import CommandFailed, CommandResult, minimal_environment, run

SERVICE = "r1box.service"
_LOOK_S = 5.0
_ACT_S = 120.0
_PROPERTIES = "LoadState,ActiveState,SubState,Result,ExecMainStatus,NRestarts,StateChangeTimestamp"


class Runner(Protocol):
    """``drivers.command.run`` with what is the same for all: the environment."""

    def __call__(self, argv: Sequence[str], timeout_s: float) -> CommandResult: ...


def run_tool(argv: Sequence[str], timeout_s: float) -> CommandResult:
    """A system's tool. Raises CommandFailed."""
    return run(argv, timeout_s=timeout_s, environment=minimal_environment(("DBUS_SESSION_BUS_ADDRESS",)))


def read_unit(run_it: Runner = run_tool) -> RescueUnit:
    """The service's state; ``problem`` where nobody can say."""
    try:
        told = run_it(["systemctl", "show", SERVICE, f"--property={_PROPERTIES}"], _LOOK_S).stdout
    except CommandFailed as error:
        return RescueUnit(name=SERVICE, problem=_short(error))
    values = dict(line.partition("=")[::2] for line in told.splitlines())
    restarts = values.get("NRestarts", "")
    return RescueUnit(
        name=SERVICE,
        load=values.get("LoadState") or None,
        active=values.get("ActiveState") or None,
        sub=values.get("SubState") or None,
        result=values.get("Result") or None,
        exit_status=values.get("ExecMainStatus") or None,
        restarts=int(restarts) if restarts.isdecimal() else None,
        since=values.get("StateChangeTimestamp") or None,
    )


def is_there(unit: RescueUnit) -> bool:
    """Whether systemd has the service, so that it can be asked to start it."""
    return unit.problem is None and unit.load == "loaded"


def restart(run_it: Runner = run_tool) -> None:
    """Start the service, or end it and start it again; its counter of failures begins anew. Raises CommandFailed."""
    run_it(["systemctl", "reset-failed", SERVICE], _LOOK_S)
    run_it(["systemctl", "restart", SERVICE], _ACT_S)


def journal(lines: int, run_it: Runner = run_tool) -> tuple[str, ...] | None:
    """The service's last lines in the journal; ``None`` where there are none to be had."""
    argv = ["journalctl", f"--unit={SERVICE}", f"--lines={lines}", "--output=short-iso", "--no-pager", "--quiet"]
    try:
        told = run_it(argv, 2 * _LOOK_S).stdout
    except CommandFailed:
        return None
    return tuple(told.splitlines()) or None


def _short(error: CommandFailed) -> str:
    said = " ".join(error.result.stderr.split())
    return said.split(". ")[0][:200] or error.message


Journal = Callable[[int], tuple[str, ...] | None]
