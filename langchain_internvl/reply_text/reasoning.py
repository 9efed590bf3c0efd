"""Reasoning of models that think before they answer (InternVL3.5).

A system text requests it; the model then writes `<think>...</think>` before its answer.
"""

from __future__ import annotations

from typing import Literal

from langchain_internvl.reply_text.stop_strings import begun_length

OPEN, CLOSE = "<think>", "</think>"

THINKING_SYSTEM = (
    "You are an AI assistant that rigorously follows this response protocol:\n\n"
    "1. First, conduct a detailed analysis of the question. Consider different angles, potential "
    "solutions, and reason through the problem step-by-step. Enclose this entire thinking process "
    f"within {OPEN} and {CLOSE} tags.\n\n"
    "2. After the thinking section, provide a clear, concise, and direct answer to the user's "
    "question. Separate the answer from the think section with a newline.\n\n"
    "Ensure that the thinking process is thorough but remains focused on the query. The final "
    "answer should be standalone and not reference the thinking section."
)
"""System text that requests reasoning. Source: the model cards of OpenGVLab/InternVL3_5."""


EMPTY_THOUGHT = f"{OPEN}\n{CLOSE}\n"
"""Prefix of a reply that suppresses reasoning. InternVL3.5 may think without a request, and a
system text that forbids it does not prevent that."""

Reasoning = bool | Literal["auto", "low", "medium", "high"]
"""True: request reasoning; False: suppress it; "auto": the model's own behaviour; a level: the
effort, for models with levels."""

THINKING_MODELS = frozenset({"qwen3", "qwen3_moe"})
"""Language models that may think without a request: those of InternVL3.5."""

LEVELS = ("low", "medium", "high")
"""Levels of reasoning effort, as in harmony's `Reasoning: high` and OpenAI's `reasoning_effort`."""


def asks_to_think(reasoning: Reasoning) -> bool:
    """Whether the prompt requests reasoning."""
    return reasoning is True or reasoning in LEVELS


class ThoughtStream:
    """Splits a streamed reply into thoughts and answer.

    Only replies that begin with `<think>` have thoughts. Both parts are stripped; a possible
    beginning of a tag and trailing white space are held back until the following text decides.

    Attributes:
        is_thinking: Whether the current text belongs to the thoughts.
    """

    def __init__(self) -> None:
        self.is_thinking = False
        self._begun = False
        self._held = ""
        self._shown = False  # whether any text of the current part was emitted

    def push(self, text: str, *, last: bool = False) -> tuple[str, str]:
        """Add text of the reply.

        Args:
            text: The text.
            last: Whether the reply ends with it.

        Returns:
            Thoughts and answer that became final with this text.
        """
        self._held += text
        if not self._begun:
            if OPEN.startswith(self._held) and self._held != OPEN and not last:
                return "", ""
            self._begun = True
            self.is_thinking = self._held.startswith(OPEN)
            self._held = self._held.removeprefix(OPEN) if self.is_thinking else self._held
        thoughts = ""
        if self.is_thinking:
            thought, tag, rest = self._held.partition(CLOSE)
            if not tag:
                return self._show(
                    len(thought) if last else len(thought) - begun_length(thought, CLOSE)
                ), ""
            self._held = thought
            thoughts = self._show(len(thought)).rstrip()
            self.is_thinking, self._held, self._shown = False, rest, False
        return thoughts, self._show(len(self._held))

    def _show(self, end: int) -> str:
        """Remove the held text up to an index, and return what is final of it."""
        shown = self._held[:end].rstrip()
        self._held = self._held[len(shown) :]
        if not self._shown:
            shown = shown.lstrip()
            self._shown = bool(shown)
        return shown
