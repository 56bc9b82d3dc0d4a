"""Long work of the box: how far it is, how it ended, and its end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar

from textual.content import Content

from appliance.schemas.jobs import Job, JobList
from tui.figures import bar, per_second, since, size
from tui.resource import Resource
from tui.screens.base import Keys
from tui.screens.listed import ListScreen
from tui.strings import Words
from tui.views import Drawing
from tui.widgets.details import blocks, bullets, facts, heading
from tui.widgets.table import Column

STYLES = {
    "running": "bold $primary",
    "queued": "$text-muted",
    "cancelling": "$warning",
    "succeeded": "$success",
    "failed": "bold $error",
    "interrupted": "bold $warning",
    "cancelled": "$text-muted",
}
ENDED = frozenset(("succeeded", "failed", "cancelled", "interrupted"))
_BAR = 12


class JobsScreen(ListScreen):
    """All jobs, the newest first."""

    NAME = "jobs"
    KEYS: ClassVar[Keys] = (("x", "cancel_job", "screen.cancel"), ("d", "doctor", "screen.doctor"))

    def resource(self) -> Resource[JobList]:
        """The jobs."""
        return self.box.jobs

    def rows(self, value: JobList) -> Sequence[Job]:
        """As the daemon has them."""
        return value.jobs

    def columns(self) -> tuple[Column, ...]:
        """State, what, how far."""
        words, draw = self.drawing.words, self.drawing
        return (
            Column(words("col.state"), lambda job: state_of(words, job), 11),
            Column(words("col.what"), lambda job: job_name(words, job), least=26),
            Column(words("col.progress"), lambda job: progress_bar(draw, job), _BAR + 6),
            Column(words("col.left"), lambda job: left(words, job), 9, rank=1),
            Column(words("col.by"), lambda job: job.created_by, 12, rank=3),
            Column(words("col.when"), lambda job: since(words, job.created_at, self.box.clock.now()) or "", 12, rank=2),
        )

    def detail(self, row: Job) -> Content:
        """What was asked for, how far it is, what came of it."""
        return job_detail(self.drawing, row, self.box.clock.now())

    def action_cancel(self) -> None:
        """End the job under the cursor."""
        job, words = self.chosen, self.drawing.words
        if job is None:
            return
        if job.state in ENDED or not job.cancellable:
            self.tell(words("jobs.not_cancellable"))
            return

        def then() -> None:
            self.act(
                words("jobs.cancelling"),
                lambda: self.box.client.send("DELETE", f"/api/admin/jobs/{job.id}", Job),
                lambda answer: words("jobs.cancelled", job=job_name(words, answer)),
            )

        self.confirm(words("jobs.cancel.ask", job=job_name(words, job)), words("jobs.cancel.about"), then)

    def action_doctor(self) -> None:
        """Have the doctor look at the cards."""
        start_doctor(self)


def start_doctor(screen: Any) -> None:
    """Begin the doctor's job from any screen."""
    from appliance.schemas.jobs import DoctorWish

    words = screen.drawing.words
    screen.act(
        words("jobs.submitting"), lambda: screen.box.submit(DoctorWish()), lambda _: words("jobs.doctor.started")
    )


def job_name(words: Words, job: Job) -> str:
    """``pull R1-Distill-Qwen-7B:Q8_0``."""
    request = job.request
    subject = request.get("target") or request.get("model") or request.get("path") or " ".join(request.get("paths", ()))
    return f"{words.state('job.kind', job.kind)} {subject or ''}".rstrip()


def state_of(words: Words, job: Job) -> Content:
    """The state with its colour."""
    return Content.styled(words.state("job.state", job.state), STYLES.get(job.state, ""))


def progress_bar(draw: Drawing, job: Job) -> Content:
    """A bar with its percent while the work goes on; nothing where nobody can say."""
    fraction = 1.0 if job.state == "succeeded" else job.progress.fraction
    if fraction is None:
        return Content("")
    return Content.assemble(bar(draw, fraction, _BAR), f" {fraction:>4.0%}")


def left(words: Words, job: Job) -> str:
    """How long it will still take."""
    eta_s = job.progress.eta_s
    return "" if eta_s is None or job.state in ENDED else words.age(eta_s)


def job_line(draw: Drawing, job: Job) -> Content:
    """One job in a line, for other screens."""
    words, told = draw.words, job.progress
    parts = [job_name(words, job), words.state("job.state", job.state)]
    if told.fraction is not None and job.state not in ENDED:
        parts.append(f"{told.fraction:.0%}")
    if job.error is not None:
        parts.append(job.error.message)
    elif left(words, job):
        parts.append(words("jobs.left", left=left(words, job)))
    return Content.assemble((f" {draw.look.dot} ".join(parts), STYLES.get(job.state, "")))


def job_detail(draw: Drawing, job: Job, now: Any) -> Content:
    """All that is known of a job."""
    words, told = draw.words, job.progress
    done = None
    if told.total_bytes:
        done = words("jobs.bytes", done=size(told.done_bytes or 0), total=size(told.total_bytes))
    head = facts(
        [
            (words("col.what"), Content.styled(job_name(words, job), "bold")),
            (words("col.state"), state_of(words, job)),
            (
                words("jobs.phase"),
                None if job.state in ENDED or told.phase is None else words.state("phase", told.phase),
            ),
            (words("col.progress"), None if told.fraction is None else progress_bar(draw, job)),
            (words("jobs.amount"), done),
            (words("jobs.rate"), None if job.state in ENDED else per_second(told.bytes_per_s)),
            (words("col.left"), left(words, job)),
            (words("col.by"), job.created_by),
            (words("jobs.began"), since(words, job.started_at or job.created_at, now)),
            (words("jobs.ended"), since(words, job.ended_at, now)),
            ("id", job.id),
        ]
    )
    error = None
    if job.error is not None:
        error = Content.styled(job.error.message, "$error")
        if job.error.hint:
            error = Content("\n").join([error, Content.assemble((f"{words('issues.next')}: ", "bold"), job.error.hint)])
    return blocks(head, error, _result(draw, job))


def _result(draw: Drawing, job: Job) -> Content | None:
    """What came of it: the doctor's findings as a list, of others the figures as they are."""
    if not job.result:
        return None
    words = draw.words
    if job.kind == "doctor":
        return doctor_report(draw, job.result)
    rows = [
        (name.replace("_", " "), value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for name, value in job.result.items()
        if value not in (None, [], {}) and name != "size_bytes"
    ]
    if isinstance(job.result.get("size_bytes"), int):
        rows.append((words("col.size"), size(job.result["size_bytes"]) or ""))
    return blocks(heading(words("jobs.result")), facts(rows))


def doctor_report(draw: Drawing, report: dict[str, Any]) -> Content:
    """The checklist of ``r1box doctor``: each layer with its mark, then what is broken and how it is mended."""
    words = draw.words
    marks = {"ok": ("ok", "$success"), "broken": ("x", "bold $error"), "waiting": ("..", "$warning")}
    parts: list[Content | None] = [Content.styled(str(report.get("summary", "")), "bold")]
    lines = []
    for check in report.get("checks", ()):
        mark, style = marks.get(str(check.get("state")), ("-", "$text-muted"))
        detail = check.get("detail")
        lines.append(
            Content.assemble(
                (f"{mark:<3}", style),
                f"{check.get('vendor', '')} {check.get('layer', '')}",
                f"  {detail}" if detail else "",
            )
        )
    if lines:
        parts.append(Content("\n").join(lines))
    for broken in report.get("breaks", ()):
        told = [Content.assemble(("x ", "bold $error"), str(broken.get("message", "")))]
        if broken.get("fix"):
            told.append(Content.assemble((f"  {words('issues.next')}: ", "bold"), str(broken["fix"])))
        told += [Content.styled(f"    {command}", "$primary") for command in broken.get("commands", ())]
        parts.append(Content("\n").join(told))
    notes = [str(note.get("message", "")) for note in report.get("notes", ())]
    if notes:
        parts.append(bullets("i", "$primary", notes))
    return blocks(*parts)
