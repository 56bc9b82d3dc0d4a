"""What runs here: versions and licences of the box, its engines, its models and its parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual.content import Content

from appliance.schemas.operators import About, Component
from tui.figures import since
from tui.resource import Resource, known
from tui.screens.base import Keys
from tui.screens.listed import ListScreen
from tui.widgets.details import blocks, facts
from tui.widgets.table import Column


@dataclass(frozen=True, slots=True)
class Part:
    """A component with what it is: box, engine, model or part."""

    kind: str
    component: Component


class AboutScreen(ListScreen):
    """The box first, then what runs models, the models, the packages."""

    NAME = "about"
    KEYS: ClassVar[Keys] = (("r", "refresh", "app.refresh_box"),)

    def resource(self) -> Resource[About]:
        """What is installed."""
        return self.box.about

    def rows(self, value: About) -> Sequence[Part]:
        """All parts."""
        box = Component(name=value.name, version=value.version, licence=value.licence)
        return [
            Part("box", box),
            *(Part("engine", one) for one in value.engines),
            *(Part("model", one) for one in value.models),
            *(Part("part", one) for one in value.components),
        ]

    @staticmethod
    def key(row: Part) -> object:
        """By kind and name."""
        return (row.kind, row.component.name)

    def columns(self) -> tuple[Column, ...]:
        """What, which version, under what licence."""
        words = self.drawing.words
        return (
            Column(words("about.kind"), lambda part: words(f"about.kind.{part.kind}"), 10, rank=1),
            Column(words("about.name"), lambda part: part.component.name, share=2),
            Column(words("about.version"), lambda part: part.component.version, 16),
            Column(words("about.licence"), lambda part: part.component.licence or "-", share=2),
        )

    def detail(self, row: Part) -> Content:
        """Of the box where it runs, of a part what it is."""
        words, one = self.drawing.words, row.component
        rows: list[tuple[str, Content | str | None]] = [
            (words("about.name"), Content.styled(one.name, "bold")),
            (words("about.version"), one.version),
            (words("about.licence"), one.licence or words("about.licence.unknown")),
        ]
        told = known(self.box.about.state())
        if row.kind == "box" and told is not None:
            rows += [
                (words("about.host"), told.hostname),
                (words("about.platform"), told.platform),
                ("Python", told.python),
                (words("about.started"), since(words, told.started_at, self.box.clock.now())),
                (words("about.page"), self.box.page_url),
            ]
        return blocks(facts(rows), None if one.summary is None else Content(one.summary))
