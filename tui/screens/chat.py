"""A chat with the box's models, in the terminal. Thoughts are folded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static, TextArea

from appliance.schemas.models import ModelEntry
from appliance.schemas.requests import RunningRequest
from tui.chat_session import ChatSession, Turn
from tui.resource import Resource, known
from tui.screens.base import BoxScreen, Keys, quiet
from tui.widgets.dialogs import ChoiceDialog

_PAINT_S = 0.1


class Question(TextArea):
    """Enter sends; Ctrl-J is a new line."""

    class Sent(Message):
        """Enter was pressed."""

    async def _on_key(self, event: events.Key) -> None:
        if event.key == "enter":
            event.stop()
            event.prevent_default()
            self.post_message(self.Sent())
        elif event.key == "ctrl+j":
            event.stop()
            event.prevent_default()
            self.insert("\n")
        else:
            await super()._on_key(event)


class TurnView(Static):
    """One question and its answer."""

    def __init__(self, turn: Turn) -> None:
        super().__init__(expand=True)
        self.turn = turn
        self.drawn: tuple[object, ...] | None = None


class ChatScreen(BoxScreen):
    """The conversation over the line to type in. Esc leaves the line, so that the numbers of the screens work."""

    NAME = "chat"
    KEYS: ClassVar[Keys] = (
        ("f2", "chat_model", "screen.model"),
        ("f3", "unfold", "screen.unfold"),
        ("f4", "answer_now", "screen.answer_now"),
        ("f5", "new_chat", "screen.new_chat"),
        ("escape", "stop", "screen.stop"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter,i", "write", show=False)]

    def __init__(self) -> None:
        super().__init__()
        self._unfolded = False
        self._dirty = True
        self._session: ChatSession | None = None

    def feeds(self) -> tuple[Resource[object], ...]:
        """The models one may ask."""
        return (self.box.models,)  # type: ignore[return-value]

    @property
    def session(self) -> ChatSession:
        """The conversation, which lasts as long as the console."""
        if self._session is None:
            self._session = ChatSession(self.box.client, self.box.clock.seconds, self._changed)
        return self._session

    def panels(self) -> Iterator[Widget]:
        """What was said, and where one writes."""
        yield VerticalScroll(id="said")
        yield Static(id="chat-state")
        yield Question(id="question", compact=True, show_line_numbers=False, soft_wrap=True)

    def on_mount(self) -> None:
        """One may write at once."""
        super().on_mount()
        self.set_interval(_PAINT_S, self._repaint)
        self.query_one(Question).focus()

    def _changed(self) -> None:
        self._dirty = True

    def _repaint(self) -> None:
        """At most ten times a second, however fast the tokens come."""
        if self._dirty and self.app.screen is self:
            self._dirty = False
            self.paint()

    def paint(self) -> None:
        """Draw what was said; the reader's place stays unless it is the end."""
        super().paint()
        if not self.can_draw:
            return
        said = self.query_one("#said", VerticalScroll)
        views = list(self.query(TurnView))
        turns = self.session.turns
        at_end = said.scroll_offset.y >= said.max_scroll_y - 1
        if [view.turn for view in views] != turns[: len(views)]:
            said.remove_children()
            views = []
        for turn in turns[len(views) :]:
            view = TurnView(turn)
            views.append(view)
            said.mount(view)
        for view in views:
            key = (self._unfolded, self.drawing, len(view.turn.thought), len(view.turn.answer), _status(view.turn))
            if key != view.drawn or view.turn.going_on:
                view.drawn = key
                view.update(self._said(view.turn))
        if at_end:
            said.scroll_end(animate=False)
        self.put("#chat-state", self._state(), layout=False)

    def _said(self, turn: Turn) -> Content:
        words = self.drawing.words
        parts = [Content.assemble(("> ", "bold $primary"), (turn.question, "bold"))]
        if turn.position is not None:
            told = words("chat.queued", n=turn.position)
            parts.append(quiet(told if turn.wait_s is None else f"{told}, {words.age(turn.wait_s)}"))
        if turn.loading_percent is not None:
            parts.append(quiet(words("chat.loading", percent=turn.loading_percent)))
        if turn.thought:
            parts.append(quiet(self._thought_line(turn)))
            if self._unfolded:
                parts.append(quiet(turn.thought.strip()))
        if turn.answer.strip():
            parts.append(Content(turn.answer.strip()))
        if turn.problem is not None:
            parts.append(self.not_done(turn.problem))
        elif turn.finish == "length":
            parts.append(Content.styled(words("chat.cut"), "$warning"))
        elif turn.finish == "stopped":
            parts.append(Content.styled(words("chat.stopped"), "$warning"))
        return Content("\n").join([*parts, Content("")])

    def _thought_line(self, turn: Turn) -> str:
        words = self.drawing.words
        mark = "v" if self._unfolded else ">"
        end_s = turn.thought_s
        if end_s is None:
            end_s = (turn.ended_s or self.box.clock.seconds()) - turn.began_s
        word = "chat.thinking" if turn.thought_s is None and turn.going_on else "chat.thought"
        told = words(word, age=words.age(end_s))
        if turn.thinking_tokens:
            told += f" {self.drawing.look.dot} " + words("chat.tokens", n=f"{turn.thinking_tokens:,}")
        return f"{mark} {told}"

    def _state(self) -> Content:
        words, model = self.drawing.words, self._model()
        if model is None:
            return Content.styled(words("chat.no_model"), "$warning")
        parts = [words("chat.with", model=model.id)]
        turns = self.session.turns
        if turns and turns[-1].answer_tokens and turns[-1].ended_s is not None:
            seconds = max(turns[-1].ended_s - turns[-1].began_s, 0.1)
            parts.append(f"{turns[-1].answer_tokens / seconds:.1f} tok/s")
        parts.append(words("chat.keys"))
        return quiet(f" {self.drawing.look.dot} ".join(parts))

    def _model(self) -> ModelEntry | None:
        """The chosen one, else the default, else one that is loaded."""
        models = known(self.box.models.state())
        entries = () if models is None else models.models
        chosen = next((one for one in entries if one.id == self.session.model), None)
        default = next((one for one in entries if one.default), None)
        return chosen or default or next((one for one in entries if one.state == "ready"), None)

    def on_question_sent(self) -> None:
        """Ask, unless an answer is coming."""
        line, model = self.query_one(Question), self._model()
        text = line.text.strip()
        if not text or model is None or (self.session.turns and self.session.turns[-1].going_on):
            return
        line.text = ""
        self.run_worker(self.session.ask(text, model.id), group="answer")

    def action_write(self) -> None:
        """To the line."""
        self.query_one(Question).focus()

    def action_stop(self) -> None:
        """End the answer that is coming; without one leave the line."""
        if self.session.turns and self.session.turns[-1].going_on:
            self.workers.cancel_group(self, "answer")
        else:
            self.query_one("#said", VerticalScroll).focus()

    def action_unfold(self) -> None:
        """Show the thoughts, or hide them."""
        self._unfolded = not self._unfolded
        self.paint()

    def action_new_chat(self) -> None:
        """Forget what was said."""
        self.workers.cancel_group(self, "answer")
        self.session.clear()
        self.query_one(Question).focus()

    def action_answer_now(self) -> None:
        """End the thought, so that the answer begins."""
        turns = self.session.turns
        if not turns or not turns[-1].going_on or turns[-1].request_id is None:
            return
        path = f"/v1/chat/requests/{turns[-1].request_id}/answer_now"
        words = self.drawing.words
        self.act(words("chat.answer_now"), lambda: self.box.client.send("POST", path, RunningRequest), lambda _: "")

    def action_model(self) -> None:
        """Ask another model."""
        models, words = known(self.box.models.state()), self.drawing.words
        entries = () if models is None else models.models
        if not entries:
            return
        lines = [f"{one.id}  {words.state('model.state', one.state)}" for one in entries]

        def then(place: int | None) -> None:
            if place is not None:
                self.session.model = entries[place].id
                self.paint()

        self.app.push_screen(ChoiceDialog(self.drawing, words("chat.models"), lines), then)


def _status(turn: Turn) -> tuple[object, ...]:
    return (turn.finish, turn.problem, turn.position, turn.loading_percent, turn.thought_s, turn.thinking_tokens)
