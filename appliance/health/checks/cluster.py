"""Boxes that belong together and are not there, and models in the wrong form: nothing is served by all of them then."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.health.types import BoxFacts, Problem


def cluster_is_not_whole(facts: BoxFacts) -> Iterator[Problem]:
    """One problem for each box; one for what keeps this box from taking part."""
    cluster = facts.cluster
    serves = cluster.model is not None
    if cluster.problem is not None:
        yield Problem(
            code="cluster_left_out",
            severity="error" if serves else "warning",
            message=f"This box takes no part in its cluster: {cluster.problem}",
            hint="r1box cluster status shows each box. r1box cluster leave makes this one a box of its own again.",
        )
    for box in cluster.boxes:
        if box.state == "away":
            yield Problem(
                code="cluster_box_away",
                severity="error" if serves else "warning",
                message=f"The box {box.name} of the cluster does not answer."
                + (f" {cluster.model}, which all serve together, waits for it." if serves else ""),
                subject=box.name,
                hint="It comes back by itself when it can be reached again. When it is gone for good, on the leading "
                f"box: r1box cluster remove {box.name}",
            )
        elif box.model in ("missing", "differs"):
            what = "is not in its store" if box.model == "missing" else "is another one in its store"
            yield Problem(
                code="cluster_model_missing",
                severity="error",
                message=f"The box {box.name} cannot do its part: {cluster.model} {what}.",
                subject=box.name,
                hint="Import the same files there: r1box models import, or r1box models pull.",
            )
