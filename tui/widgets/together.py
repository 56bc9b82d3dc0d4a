"""The boxes that serve a model together, as lines of a panel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content

from tui.widgets.details import facts

if TYPE_CHECKING:
    from appliance.schemas.cluster import ClusterBox, ClusterStatus
    from tui.strings import Words

STYLES = {"here": "$success", "away": "bold $error", "unknown": "$warning"}


def together(words: Words, cluster: ClusterStatus | None, model: str) -> Content | None:
    """Each box with its state and part; nothing for a model that this box serves alone."""
    if cluster is None or cluster.model != model:
        return None
    lines = [
        Content.assemble((words("cluster.title"), "bold"), " ", words.state("cluster.run", cluster.run)),
        *([Content(cluster.plan)] if cluster.plan else []),
        *([Content.styled(cluster.cause, "$warning")] if cluster.cause and cluster.run != "running" else []),
        facts([(box.name, _line(words, box)) for box in cluster.boxes]),
    ]
    return Content("\n").join([line for line in lines if line.plain])


def _line(words: Words, box: ClusterBox) -> Content:
    parts = [Content.styled(words.state("cluster.box", box.state), STYLES[box.state])]
    if box.rank is not None:
        parts.append(Content(words("cluster.rank", rank=box.rank)))
    if box.model in ("missing", "differs"):
        parts.append(Content.styled(words(f"cluster.model.{box.model}"), "$error"))
    return Content(", ").join(parts)
