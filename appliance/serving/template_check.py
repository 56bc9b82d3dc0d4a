"""Renders a model's chat template through golden conversations before the model is taken in.

A template is refused when it cannot be rendered at all or breaks the sandbox's bounds. What R1 wants and a template
does not do is a warning: a BOS written twice, no ``<think>`` to begin with, a system prompt that is lost, turns that
are lost or doubled, a second round of tool calls that breaks (a fault of the template R1-Distill was published with:
its calls are opened once in a conversation and closed from the second one on).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from appliance.errors import AppError
from appliance.serving.profile import prepare_history, profile_for
from appliance.serving.template import ChatTemplate, RenderedPrompt
from appliance.serving.types import ChatMessage, ModelProfile, ProfileName, ToolCall

# Words that no template contains, so that each can be counted in what was rendered.
_SYSTEM = "golden-system-q7"
_USERS = ("golden-user-a1", "golden-user-b2", "golden-user-c3")
_ANSWERS = ("golden-answer-a1", "golden-answer-b2")
_CALLS = (("golden_tool_a", '{"city": "golden-argument-a1"}'), ("golden_tool_b", '{"city": "golden-argument-b2"}'))
_RESULTS = ("golden-result-a1", "golden-result-b2")


@dataclass(frozen=True, slots=True)
class TemplateFindings:
    """``refusal`` says why the template cannot be used, ``None`` when it can; ``warnings`` are whole sentences."""

    refusal: str | None = None
    warnings: tuple[str, ...] = ()


def check_template(
    source: str, *, control_tokens: frozenset[str], bos_token: str | None, eos_token: str | None, name: str
) -> TemplateFindings:
    """Checks one template; takes up to a few seconds for a hostile one. Never raises for what the template does."""
    profile = profile_for(name=name, chat_template=source, control_tokens=control_tokens)
    try:
        template = ChatTemplate(source, control_tokens=control_tokens, bos_token=bos_token, eos_token=eos_token)
        plain = template.render([_user(0)])
    except AppError as error:
        return TemplateFindings(refusal=error.message.rstrip("."))
    if _text(plain).count(_USERS[0]) == 0:
        return TemplateFindings(refusal="it leaves the user's message out")
    golden = _Golden(template, profile)
    warnings = [
        *_bos_warnings(plain, profile, bos_token),
        *_think_warnings(plain, profile),
        *golden.system(),
        *golden.turns(),
        *golden.tools(source),
    ]
    return TemplateFindings(warnings=tuple(dict.fromkeys(warnings)))


class _Golden:
    """The conversations that go on for longer, rendered with one template."""

    def __init__(self, template: ChatTemplate, profile: ModelProfile) -> None:
        self._template = template
        self._profile = profile

    def system(self) -> list[str]:
        text = self._render([ChatMessage(role="system", content=_SYSTEM), _user(0)])
        if text is None:
            return ["The chat template refuses a system prompt."]
        return _lost_or_doubled(text, (_SYSTEM, _USERS[0]), "a system prompt")

    def turns(self) -> list[str]:
        """Three turns, with the thoughts of the earlier ones sent back."""
        messages = [_user(0), _answer(0), _user(1), _answer(1), _user(2)]
        text = self._render(messages)
        if text is None:
            return ["The chat template refuses a conversation of three turns."]
        spoken = (_USERS[0], _ANSWERS[0], _USERS[1], _ANSWERS[1], _USERS[2])
        return _lost_or_doubled(text, spoken, "three turns")

    def tools(self, source: str) -> list[str]:
        """One round of a tool's use, then two. Templates that know nothing of tools are not blamed for it."""
        if "tool" not in source:
            return []
        text: str | None = ""
        words = [_USERS[0]]
        messages = [_user(0)]
        for number, (name, arguments) in enumerate(_CALLS):
            call = ToolCall(id=f"call_{number}", name=name, arguments=arguments)
            messages += [
                ChatMessage(role="assistant", content="", tool_calls=(call,)),
                ChatMessage(role="tool", content=_RESULTS[number], tool_call_id=call.id, name=name),
            ]
            words += [name, _RESULTS[number]]
            text = self._render(messages)
            round_name = "the first round of tool calls" if number == 0 else "a second round of tool calls"
            if text is None:
                return [f"The chat template breaks at {round_name}."]
            found = _lost_or_doubled(text, words, round_name)
            if found:
                return found
        if _between(text, *words[1:3]) != _between(text, *words[3:5]):
            return ["The chat template writes a second round of tool calls otherwise than the first."]
        return []

    def _render(self, messages: Sequence[ChatMessage]) -> str | None:
        try:
            return _text(self._template.render(prepare_history(self._profile, messages)))
        except AppError:
            return None


def _bos_warnings(plain: RenderedPrompt, profile: ModelProfile, bos_token: str | None) -> list[str]:
    """The engine adds a BOS only when the template wrote none, so only a second one written here is one too many.

    Some models (SmolLM2) begin every turn with the token they call BOS; R1 has it once.
    """
    if not bos_token:
        return []
    text = _text(plain).lstrip()
    doubled = text.removeprefix(bos_token).lstrip().startswith(bos_token) and text.startswith(bos_token)
    if doubled or (profile.name is not ProfileName.PLAIN and text.count(bos_token) > 1):
        return [f"The chat template writes the beginning token {bos_token} twice; answers may be worse."]
    return []


def _think_warnings(plain: RenderedPrompt, profile: ModelProfile) -> list[str]:
    """R1's templates of January 2025 did not open the thought; DeepSeek changed them in February because the model left
    out thinking now and then. R1-0528 needs no opening."""
    if profile.name is not ProfileName.R1 or plain.opens_reasoning:
        return []
    return ["The chat template does not open the thought (<think>): the model may answer without thinking."]


def _lost_or_doubled(text: str, words: Sequence[str], what: str) -> list[str]:
    counts = [text.count(word) for word in words]
    if 0 in counts:
        return [f"The chat template loses part of the conversation when there is {what}."]
    if any(count > 1 for count in counts):
        return [f"The chat template repeats part of the conversation when there is {what}."]
    places = [text.index(word) for word in words]
    if places != sorted(places):
        return [f"The chat template changes the order of the conversation when there is {what}."]
    return []


def _between(text: str | None, name: str, result: str) -> str:
    """What the template writes from a call's name to its result, the golden words taken out."""
    piece = (text or "").partition(name)[2].partition(result)[0]
    for _, arguments in _CALLS:
        piece = piece.replace(arguments, "")
    return piece


def _text(prompt: RenderedPrompt) -> str:
    return "".join(segment.text for segment in prompt.segments)


def _user(number: int) -> ChatMessage:
    return ChatMessage(role="user", content=_USERS[number])


def _answer(number: int) -> ChatMessage:
    return ChatMessage(role="assistant", content=_ANSWERS[number], reasoning="golden-thought")
