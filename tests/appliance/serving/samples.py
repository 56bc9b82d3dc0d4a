"""Models and messages for the tests of serving."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from appliance.serving.profile import profile_for
from appliance.serving.template import ChatTemplate
from appliance.serving.types import ChatMessage, ServedModel

TEMPLATES = Path(__file__).parents[2] / "fixtures" / "templates"
BOS, EOS = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
USER, ASSISTANT = "<｜User｜>", "<｜Assistant｜>"
R1_TOKENS = frozenset((BOS, EOS, USER, ASSISTANT, "<|EOT|>", "<think>", "</think>", "<tool_call>", "</tool_call>"))
SMOL_TOKENS = frozenset(("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>"))


def template_text(name: str) -> str:
    return (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8")


def served(model_id: str, template: str | None, tokens: frozenset[str], bos: str, eos: str) -> ServedModel:
    return ServedModel(
        id=model_id,
        name=model_id,
        created_at=1_737_331_200,
        chat_template=template,
        bos_token=bos,
        eos_token=eos,
        control_tokens=tokens,
        profile=profile_for(name=model_id, chat_template=template, control_tokens=tokens),
    )


R1 = served("r1-distill-qwen-7b", template_text("r1_distill_qwen"), R1_TOKENS, BOS, EOS)
R1_OLD = served("r1-distill-qwen-7b-old", template_text("r1_distill_qwen_old"), R1_TOKENS, BOS, EOS)
R1_0528 = served("r1-0528-qwen3-8b", template_text("r1_0528"), R1_TOKENS, BOS, EOS)
SMOL = served("smollm2-135m", template_text("smollm2"), SMOL_TOKENS, "<|im_start|>", "<|im_end|>")
NO_TEMPLATE = replace(SMOL, id="base-model", chat_template=None)


def compiled(model: ServedModel) -> ChatTemplate:
    assert model.chat_template is not None
    return ChatTemplate(
        model.chat_template,
        control_tokens=model.control_tokens,
        bos_token=model.bos_token,
        eos_token=model.eos_token,
    )


def system(text: str) -> ChatMessage:
    return ChatMessage(role="system", content=text)


def user(text: str) -> ChatMessage:
    return ChatMessage(role="user", content=text)


def assistant(text: str, reasoning: str | None = None) -> ChatMessage:
    return ChatMessage(role="assistant", content=text, reasoning=reasoning)
