"""Replies as tools use them: their text, and whether that is all of it."""

from __future__ import annotations

from dataclasses import dataclass

from langchain_core.messages import AIMessage


@dataclass(frozen=True)
class Answer:
    """A reply.

    Attributes:
        text: What was said, without thoughts.
        is_complete: Whether it ended by itself, not at the limit of its length.
    """

    text: str
    is_complete: bool

    @property
    def for_agent(self) -> str:
        """The text, and what an agent must know about it."""
        if not self.text:
            return "(The model said nothing.)"
        return self.text if self.is_complete else f"{self.text}\n(The answer was cut off here.)"


def answer_of(reply: AIMessage) -> Answer:
    """What a reply says."""
    return Answer(reply.text.strip(), reply.response_metadata.get("finish_reason") != "length")


def in_language(question: str, language: str | None) -> str:
    """A question that asks for an answer in a language."""
    return f"{question} Answer in {language}." if language else question
