"""Chat templates as data.

Source: `internvl_chat/internvl/conversation.py` of OpenGVLab/InternVL, and the `chat_template` of
the `-hf` checkpoints. A new template is a new row of `TEMPLATES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType

from langchain_internvl.errors import PromptError
from langchain_internvl.reply_text.channels import HARMONY, Channels
from langchain_internvl.reply_text.reasoning import LEVELS


@dataclass(frozen=True)
class Frame:
    """Text around the content of a turn of one role.

    Attributes:
        open: Text before the content.
        close: Text after the content.
        empty: The whole turn if it has no content. The reference writes the header only.
    """

    open: str
    close: str
    empty: str


@dataclass(frozen=True)
class ChatTemplate:
    """A chat template.

    Attributes:
        name: Name, as in a checkpoint's config.
        system: Frame of system turns.
        user: Frame of human turns.
        assistant: Frame of AI turns.
        reply: Text at the end of the prompt that opens the reply.
        stop: Text of the token that ends the reply; replies are cut at it.
        default_system: System text of a conversation that has none; None: no system turn.
        stops_at_eos: Whether the checkpoint's own end tokens end a reply too. False: the
            template's separator only, as in the reference.
        channels: Delimiters of the channels of a reply; None: no channels.
        effort_system: System text that sets the reasoning effort, with `{effort}` in place of the
            level; None: the model has no effort levels.
    """

    name: str
    system: Frame
    user: Frame
    assistant: Frame
    reply: str
    stop: str
    default_system: str | None = None
    stops_at_eos: bool = False
    channels: Channels | None = None
    effort_system: str | None = None

    @property
    def effort_levels(self) -> tuple[str, ...]:
        """The levels of reasoning effort; empty: the model has none."""
        return () if self.effort_system is None else LEVELS


_SHANGHAI_AI_LAB = (
    "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, "
    "是一个有用无害的人工智能助手。"
)
_INTERNVL_2_5 = (
    "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的"
    "多模态大语言模型。"
)

_GPT_OSS = (
    "You are InternVL, a large language model trained by Shanghai AI Laboratory.\n"
    "Knowledge cutoff: 2024-06\nCurrent date: 2025-08-06\n\nReasoning: low\n\n"
    "# Valid channels: final. Channel must be included for every message."
)
# The template's own system text permits no thoughts. This one has the effort and the channels in
# the form of https://cookbook.openai.com/articles/openai-harmony ("System message format").
_GPT_OSS_EFFORT = _GPT_OSS.replace("Reasoning: low", "Reasoning: {effort}").replace(
    "channels: final", "channels: analysis, commentary, final"
)


def _chatml(role: str, close: str, *, closes_empty: bool = False) -> Frame:
    head = f"<|im_start|>{role}\n"
    return Frame(head, close, head + close if closes_empty else head)


def _harmony(role: str, *, channel: str = "", closes_empty: bool = False) -> Frame:
    head = f"<|start|>{role}{channel}<|message|>"
    empty = f"<|start|>{role}" if channel else head
    return Frame(head, "<|end|>", head + "<|end|>" if closes_empty else empty)


def _phi3(role: str) -> Frame:
    return Frame(f"<|{role}|>\n", "<|end|>", f"<|{role}|>\n")


def _internlm2(name: str) -> ChatTemplate:
    return ChatTemplate(
        name=name,
        system=_chatml("system", "<|im_end|>", closes_empty=True),
        user=_chatml("user", "<|im_end|>"),
        assistant=_chatml("assistant", "<|im_end|>"),
        reply="<|im_start|>assistant\n",
        stop="<|im_end|>",
        default_system=_SHANGHAI_AI_LAB,
    )


_ROWS = (
    _internlm2("internlm2-chat"),
    _internlm2("Hermes-2"),
    ChatTemplate(
        name="phi3-chat",
        system=Frame("<|system|>\n", "<|end|>", "<|system|>\n<|end|>"),
        user=_phi3("user"),
        assistant=_phi3("assistant"),
        reply="<|assistant|>\n",
        stop="<|end|>",
        default_system=_SHANGHAI_AI_LAB,
    ),
    ChatTemplate(
        name="internvl2_5",
        system=_chatml("system", "<|im_end|>\n", closes_empty=True),
        user=_chatml("user", "<|im_end|>\n"),
        assistant=_chatml("assistant", "<|im_end|>\n"),
        reply="<|im_start|>assistant\n",
        stop="<|im_end|>",
        default_system=_INTERNVL_2_5,
    ),
    # Source: `internvl_chat_gpt_oss/internvl/model/internvl_chat/conversation.py` of
    # OpenGVLab/InternVL. The model opens the channel of its reply itself: `analysis` for thoughts,
    # `final` for the answer. `<|end|>` ends a message of a reply, `<|return|>` the reply.
    ChatTemplate(
        name="internvl3_5_gpt_oss",
        system=_harmony("system", closes_empty=True),
        user=_harmony("user"),
        assistant=_harmony("assistant", channel="<|channel|>final"),
        reply="<|start|>assistant",
        stop="<|return|>",
        default_system=_GPT_OSS,
        channels=HARMONY,
        effort_system=_GPT_OSS_EFFORT,
    ),
    ChatTemplate(
        name="internvl_zh",
        system=Frame("", " ", " "),
        user=Frame("<human>: ", " ", "<human>:"),
        assistant=Frame("<bot>: ", "</s>", "<bot>:"),
        reply="<bot>:",
        stop="</s>",
        default_system="",
    ),
    # The jinja template of the -hf checkpoints.
    ChatTemplate(
        name="internvl-hf",
        system=_chatml("system", "<|im_end|>\n", closes_empty=True),
        user=_chatml("user", "<|im_end|>\n", closes_empty=True),
        assistant=_chatml("assistant", "<|im_end|>\n", closes_empty=True),
        reply="<|im_start|>assistant\n",
        stop="<|im_end|>",
        stops_at_eos=True,
    ),
)

TEMPLATES: Mapping[str, ChatTemplate] = MappingProxyType({row.name: row for row in _ROWS})
"""Every known template by name."""


def get_template(name: str) -> ChatTemplate:
    """The template with a name.

    Raises:
        PromptError: No template has this name.
    """
    try:
        return TEMPLATES[name]
    except KeyError:
        raise PromptError(f"chat template {name!r} is unknown; {suggest_template(name)}") from None


def suggest_template(name: str) -> str:
    """End of an error message: the template with the most similar name, and all names."""
    near = get_close_matches(name, TEMPLATES, 1, 0.5)
    meant = f"did you mean {near[0]!r}? " if near else ""
    return f"{meant}The known ones are {', '.join(TEMPLATES)}"
