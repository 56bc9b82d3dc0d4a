"""``r1box plan``: which R1 fits this machine, best first, and why not the others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from appliance.cli.output import context, print_json, size, stdout

if TYPE_CHECKING:
    from drivers.types import HardwareSnapshot, Vendor
    from models.types import FitPlan, PlanResult, Rejection

SHOWN_PLANS = 8
SHOWN_REJECTIONS = 6


def plan_command(
    machine: Annotated[
        Path | None,
        typer.Option(help="Plan for another machine: a file that 'r1box detect --json' printed there."),
    ] = None,
    seats: Annotated[int | None, typer.Option(min=1, help="Chats answered at the same time.")] = None,
    context_tokens: Annotated[int | None, typer.Option("--context", min=256, help="Tokens one seat holds.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All plans and rejections.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Rank every R1 variant and quantization that fits, and give the reason for each that does not."""
    from models.catalogue import load_catalogue
    from models.plan_json import plan_result_to_json
    from models.planner import plan

    snapshot = _snapshot(machine)
    # For another machine nothing is known of the llama.cpp there, so all of its cards count.
    vendors = None if machine is not None else _engine_vendors()
    result = plan(load_catalogue(), snapshot, seats, context_tokens, usable_vendors=vendors)
    if as_json:
        print_json(plan_result_to_json(result))
        return
    print_plans(snapshot, result, everything=everything)


def print_plans(snapshot: HardwareSnapshot, result: PlanResult, *, everything: bool) -> None:
    """The machine in a line, the plans, the rejections."""
    console = stdout()
    console.print(f"[bold]This machine:[/] {escape(_machine(snapshot))}\n")
    for note in result.notes:
        console.print(f"[yellow]![/] {escape(note)}")
    if result.plans:
        plans = result.plans if everything else result.plans[:SHOWN_PLANS]
        console.print(_plan_table(plans))
        _more(len(result.plans) - len(plans), "plans")
    else:
        console.print("[bold]No R1 fits this machine.[/]")
    if result.rejections:
        rejections = result.rejections if everything else result.rejections[:SHOWN_REJECTIONS]
        console.print("\nNot possible, the nearest first:")
        for rejection in rejections:
            console.print(f"  {escape(_rejection(rejection))}")
        _more(len(result.rejections) - len(rejections), "reasons")


def _plan_table(plans: tuple[FitPlan, ...]) -> Table:
    columns = ("", "Model", "Quant", "Engine", "Cards", "Memory", "Seats x context", "Speed (expected)")
    table = Table(*columns, box=None, header_style="bold")
    for number, plan in enumerate(plans, start=1):
        largest = max(plan.memory, key=lambda memory: memory.total_bytes)
        speed = plan.decode_tokens_per_s
        table.add_row(
            str(number),
            plan.variant,
            plan.quantization,
            plan.engine.value,
            ", ".join(plan.devices) or "processor",
            f"{size(largest.total_bytes)} of {size(largest.available_bytes)}",
            f"{plan.seats} x {context(plan.context_tokens)}",
            "-" if speed is None else f"{speed.low:.0f}-{speed.high:.0f} tok/s",
        )
    return table


def _rejection(rejection: Rejection) -> str:
    line = f"{rejection.variant} {rejection.quantization}: {rejection.reason}"
    offer = rejection.counter_offer
    if offer is not None:
        line += f" It fits with: r1box plan --seats {offer.seats} --context {offer.context_tokens}"
    return line


def _machine(snapshot: HardwareSnapshot) -> str:
    counted: dict[str, int] = {}
    for device in snapshot.devices:
        name = f"{device.chip or device.name} {size(device.memory_total_bytes)}"
        counted[name] = counted.get(name, 0) + 1
    cards = ", ".join(f"{count} x {name}" for name, count in counted.items()) or "no cards"
    return f"{cards}; host memory {size(snapshot.host.memory_available_bytes)} available"


def _snapshot(machine: Path | None) -> HardwareSnapshot:
    from appliance.errors import UnreadableFile
    from drivers.probe import default_probes, detect
    from drivers.snapshot_json import from_json

    if machine is None:
        return detect(default_probes())
    try:
        return from_json(machine.read_bytes())
    except OSError as error:
        raise UnreadableFile(path=str(machine), reason=(error.strerror or str(error)).lower()) from error


def _engine_vendors() -> frozenset[Vendor]:
    from appliance.model_setup import engine_vendors

    return engine_vendors()


def _more(count: int, what: str) -> None:
    if count > 0:
        stdout().print(f"  [dim]and {count} more {what}: r1box plan --all[/]")
