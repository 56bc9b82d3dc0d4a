"""``r1box plan --explain``: everything the planner has to say of one variant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from appliance.cli.output import GIB, context, size, stdout

if TYPE_CHECKING:
    from models.explain import Explanation
    from models.types import FitPlan, Rejection


def print_explanation(explanation: Explanation) -> None:
    """The variant in a line, each plan with its memory, then each reason against."""
    console = stdout()
    variant = explanation.variant
    asked = f" {explanation.quantization}" if explanation.quantization else ""
    verdict = "[green]fits[/]" if explanation.plans else "[red]does not fit[/]"
    console.print(
        f"[bold]{escape(variant.id)}{escape(asked)}[/]: {verdict}   {variant.parameters / 1e9:,.1f} B parameters, "
        f"{context(variant.shape.context_length)} trained, licence {escape(variant.licence.name)}"
    )
    for plan in explanation.plans:
        console.print()
        _print_plan(plan)
    if explanation.rejections:
        console.print("\nWhy not:" if not explanation.plans else "\nNot possible:")
        for alike in _grouped(explanation.rejections):
            _print_rejections(alike)


def _print_plan(plan: FitPlan) -> None:
    console = stdout()
    speed = plan.decode_tokens_per_s
    parts = [
        f"{plan.seats} seats x {context(plan.context_tokens)}",
        f"cache {plan.kv_type}",
        "flash attention" if plan.flash_attention else "no flash attention",
        f"tensor parallel {plan.tensor_parallel}" if plan.tensor_parallel > 1 else None,
        f"data parallel {plan.data_parallel}" if plan.data_parallel > 1 else None,
        f"{speed.low:.0f}-{speed.high:.0f} tok/s for one person" if speed is not None else None,
        f"file {size(plan.file_bytes)}",
    ]
    console.print(
        f"[bold]{escape(plan.quantization)}[/] with {plan.engine}: {escape(', '.join(part for part in parts if part))}"
    )
    table = Table("Memory in GiB", box=None, header_style="dim", padding=(0, 2, 0, 0))
    draft = any(line.draft_bytes for line in plan.memory)
    for name in ("weights", "cache", "work", *(("draft",) if draft else ()), "reserve", "total", "there"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in plan.memory:
        of_draft = (line.draft_bytes,) if draft else ()
        parts_of_memory = (line.weights_bytes, line.kv_bytes, line.compute_bytes, *of_draft, line.reserve_bytes)
        table.add_row(
            f"  {line.device}",
            *(f"{one / GIB:.1f}" for one in (*parts_of_memory, line.total_bytes, line.available_bytes)),
        )
    console.print(table)
    if plan.repository is not None:
        console.print(f"  from {escape(plan.repository)}")
    for note in plan.notes:
        console.print(f"  [yellow]![/] {escape(note)}")


def _grouped(rejections: tuple[Rejection, ...]) -> list[list[Rejection]]:
    """Those with the same reason together, in the order of the first of each."""
    groups: dict[tuple[str, str], list[Rejection]] = {}
    for rejection in rejections:
        groups.setdefault((rejection.engine, rejection.reason), []).append(rejection)
    return list(groups.values())


def _print_rejections(alike: list[Rejection]) -> None:
    console = stdout()
    first = alike[0]
    names = ", ".join(rejection.quantization for rejection in alike)
    console.print(f"  [bold]{escape(names)}[/] with {first.engine}: {escape(first.reason)}")
    offer = first.counter_offer
    if offer is not None:
        console.print(f"      r1box plan --seats {offer.seats} --context {offer.context_tokens}")
