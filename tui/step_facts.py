"""What is so now, for each step of the first minutes' list: values of the box as text."""

from __future__ import annotations

from textual.content import Content

from appliance.schemas.first_run import Step
from appliance.schemas.plans import Plan
from tui.box import BoxView
from tui.figures import context, size
from tui.resource import known
from tui.screens.jobs import job_line
from tui.views import QUIET, Drawing
from tui.widgets.details import blocks, facts


class StepFacts:
    """How the box stands with a step; ``width`` is the screen's."""

    def __init__(self, draw: Drawing, box: BoxView, width: int) -> None:
        self._draw, self._box, self._width = draw, box, width

    def of(self, row: Step) -> Content | None:
        """Nothing where there is nothing to say."""
        told = {
            "language": self.language,
            "keyboard": self.keyboard,
            "network": self.network,
            "time": self.time,
            "tls": self.tls,
            "model": self.model,
            "self_test": self.self_test,
        }.get(row.name)
        return None if told is None else told(row)

    def language(self, row: Step) -> Content:
        names = {"en": "English", "zh": "中文" if self._draw.look.chinese else "Chinese"}
        return facts([(self._draw.words("first_run.now"), names[self._draw.words.language])])

    def keyboard(self, row: Step) -> Content:
        return facts([(self._draw.words("first_run.now"), row.told)])

    def network(self, row: Step) -> Content | None:
        told, words = known(self._box.network.state()), self._draw.words
        if told is None:
            return None
        lines = [
            (one.name, f"{', '.join(one.addresses)} ({words(f'network.mode.{one.mode}')})")
            for one in told.interfaces
            if one.addresses
        ]
        return facts([*(lines or [("", words("first_run.no_address"))]), (words("network.hostname"), told.hostname)])

    def time(self, row: Step) -> Content | None:
        told, words = known(self._box.network.state()), self._draw.words
        if told is None:
            return None
        kept = {True: "network.in_step", False: "network.not_in_step", None: "network.step_unknown"}
        return facts(
            [
                (words("network.zone"), told.clock.zone),
                (words("network.clock"), words(kept[told.clock.synchronized])),
                (words("network.ntp"), ", ".join(told.clock.servers) or words("network.ntp.default")),
                ("UTC", told.clock.now.strftime("%Y-%m-%d %H:%M")),
            ]
        )

    def tls(self, row: Step) -> Content | None:
        told, words = known(self._box.identity.state()), self._draw.words
        if told is None:
            return None
        if told.certificate is None:
            return Content.styled(words("first_run.no_tls"), "$warning")
        shown = [("first_run.certificate", told.certificate), ("first_run.authority", told.authority)]
        # Beside the list a panel of two fifths has no room for a long line.
        a_line = 8 if 120 <= self._width < 140 else 16
        lines = [
            Content.assemble((words(word), "bold"), f"\n{pairs(one.fingerprint, a_line)}")
            for word, one in shown
            if one is not None
        ]
        return blocks(*lines)

    def model(self, row: Step) -> Content | None:
        words, jobs, plans = self._draw.words, known(self._box.jobs.state()), known(self._box.plans.state())
        if row.state == "done":
            return facts([(words("first_run.now"), row.told)])
        job = None if jobs is None else next((one for one in jobs.jobs if one.id == row.job), None)
        if job is not None and row.state == "running":
            return job_line(self._draw, job)
        if row.model is not None and row.state == "open":
            return facts([(words("first_run.installed"), row.told)])
        if plans is None:
            return Content.styled(words("first_run.planning"), QUIET)
        if not plans.plans:
            return Content.styled(words("first_run.nothing_fits"), "$warning")
        return Content.assemble((words("first_run.fits"), "bold"), "\n", self.fit_words(plans.plans[0]))

    def self_test(self, row: Step) -> Content | None:
        words = self._draw.words
        lines = [
            Content.assemble(
                ("+ " if one.ok else "x ", "$success" if one.ok else "bold $error"),
                (f"{words(f'first_run.test.{one.what}')}: ", QUIET),
                one.told,
            )
            for one in row.lines
        ]
        return Content("\n").join(lines) if lines else None

    def fit_words(self, plan: Plan) -> str:
        """``R1-Distill-Qwen-32B Q8_0, 8 x 16k, ascend:0 ascend:1, 19-27 tok/s, 34.8 GiB to download``."""
        words, speed = self._draw.words, plan.decode_tokens_per_s
        parts = [
            f"{plan.variant} {plan.quantization}",
            f"{plan.seats} x {context(plan.context_tokens)}",
            " ".join(plan.devices) or words("model.processor"),
            "" if speed is None else f"{speed.low:.0f}-{speed.high:.0f} tok/s",
            size(plan.file_bytes) or "",
        ]
        return ", ".join(part for part in parts if part)


def pairs(fingerprint: str, a_line: int) -> str:
    """A fingerprint in lines that people can compare."""
    parts = fingerprint.split(":")
    return "\n".join(":".join(parts[place : place + a_line]) for place in range(0, len(parts), a_line))
