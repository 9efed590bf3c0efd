"""Replies of the model inside a tool: their text, and whether they are complete."""

from __future__ import annotations

from dataclasses import dataclass

from langchain_core.messages import AIMessage

from langchain_internvl.reply_text.finish_reasons import is_cut_off


@dataclass(frozen=True)
class Answer:
    """A reply.

    Attributes:
        text: Text of the reply, without thoughts.
        cut_off: Finish reason of an incomplete reply, one of `finish_reasons.CUT_OFF`; None: the
            model ended the reply.
    """

    text: str
    cut_off: str | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the model ended the reply, rather than the limit of tokens or a server."""
        return self.cut_off is None

    @property
    def for_agent(self) -> str:
        """The text for the agent, with a note if it is incomplete."""
        if not self.text:
            return "(The model said nothing.)"
        return self.text if self.is_complete else f"{self.text}\n(The answer was cut off here.)"


def answer_of(reply: AIMessage) -> Answer:
    """The answer in a reply."""
    reason = reply.response_metadata.get("finish_reason")
    return Answer(reply.text.strip(), reason if is_cut_off(reason) else None)


def in_language(question: str, language: str | None) -> str:
    """A question with the request to answer in a language; None: the question unchanged."""
    return f"{question} Answer in {language}." if language else question
