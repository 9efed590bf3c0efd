"""Replies with channels: thoughts in one, the answer in another.

gpt-oss (InternVL3.5-GPT-OSS-20B-A4B) writes OpenAI's harmony format: each message of a reply is
`<|channel|>` and a name, `<|message|>` and its text; `<|end|>` ends a message, and the next one
begins with `<|start|>assistant`.
"""

from __future__ import annotations

from dataclasses import dataclass

from langchain_internvl.reply_text.reasoning import CLOSE, OPEN, ThoughtStream
from langchain_internvl.reply_text.stop_strings import begun_length


@dataclass(frozen=True)
class Channels:
    """The delimiters of channels.

    Attributes:
        start: Delimiter before the role of a message.
        name: Delimiter before the name of a channel.
        text: Delimiter between the name and the text of a message.
        end: Delimiter after the text of every message but the last.
        thoughts: Names of the channels of thoughts; the text of all others is the answer.
        answer: Prefix of an answer without thoughts.
    """

    start: str
    name: str
    text: str
    end: str
    thoughts: frozenset[str]
    answer: str

    @property
    def marks(self) -> tuple[str, str, str, str]:
        """All delimiters."""
        return self.start, self.name, self.text, self.end


HARMONY = Channels(
    start="<|start|>",
    name="<|channel|>",
    text="<|message|>",
    end="<|end|>",
    thoughts=frozenset({"analysis"}),
    answer="<|channel|>final<|message|>",
)
"""Source: https://cookbook.openai.com/articles/openai-harmony, and the training code of InternVL's
gpt-oss models."""


class ChannelStream:
    """Splits a streamed reply with channels into thoughts and answer; see `ThoughtStream`.

    A reply that opens no channel is an answer, because the prompt may have opened its channel. The
    answer may begin with `<think>...</think>`, which are thoughts too. Messages of one kind are
    joined by an empty line.

    Args:
        channels: The delimiters.
    """

    def __init__(self, channels: Channels) -> None:
        self._channels = channels
        self._answer = ThoughtStream()
        self._held = ""
        self._place = "text"  # of a message; or "name", of a channel; or "between" two messages
        self._in_thoughts = False
        self._said = {True: False, False: False}  # whether thoughts, and the answer, have words
        self._thoughts = _Stripped()

    @property
    def is_thinking(self) -> bool:
        """Whether the current text belongs to the thoughts."""
        return self._in_thoughts or self._answer.is_thinking

    def push(self, text: str, *, last: bool = False) -> tuple[str, str]:
        """Add text of the reply.

        Args:
            text: The text, with the delimiters.
            last: Whether the reply ends with it.

        Returns:
            Thoughts and answer that became final with this text.
        """
        self._held += text
        said = {True: "", False: ""}
        goes_on = True
        while goes_on:
            text, goes_on = self._next(last=last)
            kind = self._in_thoughts
            if not self._said[kind]:
                text = text.lstrip()
            self._said[kind] = self._said[kind] or bool(text)
            said[kind] += text
            if goes_on:
                said[kind] += self._cross()
        thoughts = self._thoughts.push(said[True])
        inner, answer = self._answer.push(said[False], last=last)
        if inner:
            thoughts += self._thoughts.push(inner)
        return thoughts, answer

    def _next(self, *, last: bool) -> tuple[str, bool]:
        """The text up to the next delimiter, which stays held, and whether there is one."""
        awaited = self._awaited()
        found = [self._held.find(mark) for mark in awaited if mark in self._held]
        end = min(found, default=len(self._held))
        if not found and not last:
            end -= max(begun_length(self._held, mark) for mark in awaited)
        if self._place != "text":  # text outside messages
            return "", bool(found)
        text, self._held = self._held[:end], self._held[end:]
        return text, bool(found)

    def _awaited(self) -> tuple[str, ...]:
        marks = self._channels
        if self._place == "text":
            return marks.start, marks.name, marks.end
        return (marks.text,) if self._place == "name" else (marks.name, marks.text)

    def _cross(self) -> str:
        """Consume the delimiter at the start of the held text; return the separator to emit."""
        place, mark = min(
            (self._held.find(one), one) for one in self._awaited() if one in self._held
        )
        before, self._held = self._held[:place], self._held[place + len(mark) :]
        was, marks = self._place, self._channels
        self._place = {marks.name: "name", marks.text: "text"}.get(mark, "between")
        if was == "text":
            return "\n\n" if self._said[self._in_thoughts] else ""
        if was == "name":
            self._in_thoughts = (before.split() or [""])[0] in marks.thoughts
        return ""


class _Stripped:
    """Strips streamed text; possibly trailing white space is held back."""

    def __init__(self) -> None:
        self._held = ""

    def push(self, text: str) -> str:
        """Add text, and return what became final."""
        whole = self._held + text
        shown = whole.rstrip()
        self._held = whole[len(shown) :]
        return shown


def without_thoughts(reply: str) -> str:
    """A complete reply without its thoughts; the whole reply if the thoughts are not closed."""
    if reply.startswith(HARMONY.name) and HARMONY.text in reply:
        return ChannelStream(HARMONY).push(reply, last=True)[1] or reply
    has_thoughts = reply.startswith(OPEN) and CLOSE in reply
    return ThoughtStream().push(reply, last=True)[1] if has_thoughts else reply
