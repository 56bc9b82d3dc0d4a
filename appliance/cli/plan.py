"""``r1box plan``: which R1 fits this machine, best first, and why not the others."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.markup import escape
from rich.table import Table

from appliance.cli.output import GIB, context, print_json, size, stdout

if TYPE_CHECKING:
    from drivers.types import HardwareSnapshot, Vendor
    from models.residuals import CatalogueCorrections
    from models.types import EngineName, FitPlan, PlanResult, Rejection

MOST_NAMED_CARDS = 2
_Judged = TypeVar("_Judged", "FitPlan", "Rejection")


def plan_command(
    machine: Annotated[
        Path | None,
        typer.Option(help="Plan for another machine: a file that 'r1box detect --json' printed there."),
    ] = None,
    seats: Annotated[int | None, typer.Option(min=1, help="Chats answered at the same time.")] = None,
    context_tokens: Annotated[int | None, typer.Option("--context", min=256, help="Tokens one seat holds.")] = None,
    offload: Annotated[
        bool, typer.Option("--offload", help="Allow a part of a model in the host's memory: it fits, but is slow.")
    ] = False,
    why: Annotated[
        str | None,
        typer.Option("--explain", metavar="VARIANT[:QUANT]", help="Why this one fits or not: R1, qwen-32b:Q4_K_M, ..."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All plans and rejections.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Rank every R1 variant and quantization that fits, and give the reason for each that does not."""
    from appliance.cli.explain import print_explanation
    from appliance.cli.models import open_catalogue
    from models.choice import choose_engine
    from models.explain import explain
    from models.plan_json import plan_result_to_json
    from models.planner import plan
    from models.types import EngineName, PlanResult

    snapshot = _snapshot(machine)
    catalogue = open_catalogue()
    # For another machine nothing is known of the engines there, so all of them and all of its cards count.
    vendors = None if machine is not None else _engine_vendors()
    installed = None if machine is not None else _installed_engines()
    result = plan(
        catalogue, snapshot, seats, context_tokens,
        usable_vendors=vendors, engines=tuple(EngineName), installed=installed, offload=offload,
        corrections=_measured() if machine is None else None,
    )  # fmt: skip
    if why is not None:
        explanations = explain(catalogue, result, why)
        if not as_json:
            stdout().print(f"[bold]This machine:[/] {escape(_machine(snapshot))}\n")
            for explanation in explanations:
                print_explanation(explanation)
            return
        result = PlanResult(
            tuple(plan for one in explanations for plan in one.plans),
            tuple(rejection for one in explanations for rejection in one.rejections),
            result.notes,
        )
    if as_json:
        print_json(plan_result_to_json(result))
        return
    choice = choose_engine(catalogue, result)
    print_plans(snapshot, result, everything=everything, why=None if choice is None else choice.reason)


def print_plans(snapshot: HardwareSnapshot, result: PlanResult, *, everything: bool, why: str | None = None) -> None:
    """The machine in a line, the plans, the rejections. ``why`` says why the best one's engine was taken."""
    console = stdout()
    console.print(f"[bold]This machine:[/] {escape(_machine(snapshot))}\n")
    for note in result.notes:
        console.print(f"[yellow]![/] {escape(note)}")
    if result.plans:
        plans = result.plans if everything else _best_of_each(result.plans)
        console.print(_plan_table(plans))
        _more(len(result.plans) - len(plans), "plans in other quantizations")
        if why is not None and len({plan.engine for plan in result.plans}) > 1:
            console.print(f"\n[bold]Why this engine:[/] {escape(why)}")
    else:
        console.print("[bold]No R1 fits this machine.[/]")
    planned = {plan.variant for plan in result.plans}
    rejections = result.rejections if everything else _best_of_each(result.rejections, leaving_out=planned)
    if rejections:
        console.print("\nNot possible, the nearest first:")
        for rejection in rejections:
            console.print(f"  {escape(_rejection(rejection))}")
    _more(len(result.rejections) - len(rejections), "reasons")


def _best_of_each(items: tuple[_Judged, ...], *, leaving_out: Collection[str] = ()) -> tuple[_Judged, ...]:
    """The first of each variant: both lists have their best first."""
    best: dict[str, _Judged] = {}
    for item in items:
        if item.variant not in leaving_out:
            best.setdefault(item.variant, item)
    return tuple(best.values())


def _plan_table(plans: tuple[FitPlan, ...]) -> Table:
    engines = {plan.engine.value for plan in plans}
    title = f"With {engines.pop()}:" if len(engines) == 1 else None
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), title=title, title_justify="left")
    columns = ("", "Model", "Quant", "Cards", "Memory", "Seats", "tok/s")
    for name in columns if title else (*columns, "Engine"):
        table.add_column(name, no_wrap=True, justify="right" if name in ("", "tok/s") else "left")
    for number, plan in enumerate(plans, start=1):
        largest = max(plan.memory, key=lambda memory: memory.total_bytes)
        speed = plan.decode_tokens_per_s
        cells = [
            str(number),
            plan.variant,
            plan.quantization,
            _cards(plan.devices),
            f"{largest.total_bytes / GIB:.1f}/{largest.available_bytes / GIB:.1f} GiB",
            f"{plan.seats} x {context(plan.context_tokens)}",
            "-" if speed is None else f"{speed.low:.0f}-{speed.high:.0f}",
        ]
        table.add_row(*cells if title else (*cells, plan.engine.value))
    return table


def _cards(devices: tuple[str, ...]) -> str:
    """``0,1`` of one vendor's cards, or how many; the vendor is in the line above the table."""
    if len(devices) > MOST_NAMED_CARDS:
        return f"{len(devices)} devices"
    return ",".join(device.partition(":")[2] for device in devices) or "processor"


def _rejection(rejection: Rejection) -> str:
    line = f"{rejection.variant} {rejection.quantization}: {rejection.reason}"
    offer = rejection.counter_offer
    if offer is not None:
        line += f" (r1box plan --seats {offer.seats} --context {offer.context_tokens})"
    return line


def _machine(snapshot: HardwareSnapshot) -> str:
    counted: dict[str, int] = {}
    for device in snapshot.devices:
        name = f"{device.chip or device.name} {size(device.memory_total_bytes)}"
        counted[name] = counted.get(name, 0) + 1
    cards = ", ".join(f"{count} x {name}" for name, count in counted.items()) or "no cards"
    return f"{cards}; host memory {size(snapshot.host.memory_available_bytes)} available"


def _snapshot(machine: Path | None) -> HardwareSnapshot:
    from appliance.cli.detect import read_snapshot
    from drivers.probe import default_probes, detect

    return detect(default_probes()) if machine is None else read_snapshot(machine)


def _engine_vendors() -> frozenset[Vendor]:
    from appliance.model_setup import engine_vendors
    from appliance.settings import load_settings

    return engine_vendors(load_settings().backends_dir)


def _measured() -> CatalogueCorrections:
    """What loads on this machine took beside their plans."""
    from appliance.cli.models import open_store
    from appliance.model_setup import measured_corrections
    from appliance.settings import load_settings

    return measured_corrections(load_settings(), lambda: open_store().list().models)


def _installed_engines() -> frozenset[EngineName]:
    from appliance.engine.installed import installed_engines

    return installed_engines()


def _more(count: int, what: str) -> None:
    if count > 0:
        stdout().print(f"  [dim]and {count} more {what}: r1box plan --all[/]")
