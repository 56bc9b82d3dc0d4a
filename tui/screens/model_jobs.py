"""What both the models' screen and a new box's first steps do: ask for a job, and take in what is on a stick."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.schemas.jobs import BundleImportWish, ImportWish, Job, JobWish
from appliance.schemas.operators import StickItem
from tui.screens.jobs import job_name
from tui.screens.listed import ListScreen


class ModelJobsScreen(ListScreen):
    """A list whose entries become jobs about models."""

    def take_in(self, one: StickItem, items: Sequence[StickItem]) -> None:
        """A bundle with all its sticks that are there; one without a signature after a typed word."""
        words = self.drawing.words
        if one.kind != "bundle":
            self.submit(ImportWish(path=one.path))
            return
        paths = tuple(item.path for item in items if item.kind == "bundle" and item.bundle_id == one.bundle_id)
        if one.signed:
            self.submit(BundleImportWish(paths=paths))
            return
        self.confirm_typed(
            words("stick.unsigned.ask", name=one.name),
            words("stick.unsigned.about"),
            words("stick.unsigned.word"),
            lambda: self.submit(BundleImportWish(paths=paths, allow_unsigned=True)),
        )

    def submit(self, wish: JobWish) -> None:
        """Ask the box for a job and say so."""
        words = self.drawing.words

        def done(job: Job) -> str:
            return words("models.job", job=job_name(words, job))

        self.act(words("jobs.submitting"), lambda: self.box.submit(wish), done)
