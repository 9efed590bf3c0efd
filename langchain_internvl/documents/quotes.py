"""Answers that are lines of the shown pages, word for word, by constrained decoding.

The reply is a JSON string (or a list of strings) that is one of the pages' lines with the mark of
its page. A grammar permits no other, so that a reply cannot state what the pages do not say, and no
text of a page, such as `[7]` or a control token, is read as markup.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from langchain_core.documents import Document

from langchain_internvl.documents.html_text import lines_of
from langchain_internvl.documents.sentences import sentence_ends
from langchain_internvl.errors import BackendError
from langchain_internvl.reply_text.json_replies import read_json

UNSAID = "The pages do not say it."
"""The answer to a question that no page answers."""

QUOTE = (
    "Answer the question with one line of the numbered pages, word for word, and the number of its "
    'page in brackets, as a JSON string like "The line [1]". If the pages do not say it, answer '
    f'"{UNSAID}"\n\n{{pages}}\n\nQuestion: {{question}}'
)
"""The prompt for an answer of one line; `{pages}` is the retrieved text, page by page."""

QUOTES = (
    "Answer the question with lines of the numbered pages, word for word, each with the number of "
    'its page in brackets, as a JSON list like ["The line [1]", "Another line [2]"]. If the pages '
    f'do not say it, answer "{UNSAID}"\n\n{{pages}}\n\nQuestion: {{question}}'
)
"""The prompt for an answer of several lines."""

_LONGEST = 300
"""Most characters of a quote: longer lines are quoted by sentences, and these by parts."""
_SURROGATES = re.compile("[\ud800-\udfff]")
"""Halves of characters, which no encoding can write."""
_CLOSING = 16
"""Tokens for brackets, commas and the end of the reply."""


class Quote(NamedTuple):
    """A line of a page.

    Attributes:
        text: The line.
        number: The number of its page, from 1.
    """

    text: str
    number: int


@dataclass(frozen=True)
class Quotable:
    """What an answer may quote.

    Attributes:
        quotes: The lines, by how a reply writes them: with the mark of their page.
        most: Most lines of an answer.
    """

    quotes: Mapping[str, Quote]
    most: int = 1

    @classmethod
    def of(cls, documents: Sequence[Document], most: int) -> Quotable:
        """The lines of pages; a line that a page has twice is there once.

        Args:
            documents: The pages; the first has number 1.
            most: Most lines of an answer.
        """
        quotes: dict[str, Quote] = {}
        for number, document in enumerate(documents, 1):
            for text in pieces_of(document.page_content):
                quotes.setdefault(f"{text} [{number}]", Quote(text, number))
        return cls(quotes, most)

    def settings(self, max_tokens: int) -> dict[str, Any]:
        """The settings of the request.

        Args:
            max_tokens: Most tokens of a reply otherwise; more are permitted if a quote needs them.
        """
        own = [len(json.dumps(one, ensure_ascii=False).encode()) for one in self.quotes]
        needed = self.most * max([*own, len(UNSAID)]) + _CLOSING  # of byte tokens
        form = {"type": "json_object", "schema": self.schema()}
        return {"response_format": form, "max_tokens": max(max_tokens, needed)}

    def schema(self) -> dict[str, Any]:
        """The JSON schema of a reply."""
        if self.most == 1 or not self.quotes:
            return {"enum": [*self.quotes, UNSAID]}
        items = {"type": "array", "items": {"enum": list(self.quotes)},
                 "minItems": 1, "maxItems": self.most}  # fmt: skip
        return {"anyOf": [items, {"const": UNSAID}]}

    def read(self, reply: str) -> tuple[Quote, ...]:
        """The quotes of a reply, each once; none: the pages do not say it.

        Args:
            reply: The text of the reply.

        Raises:
            BackendError: The reply is no quote: it was cut off, or the server does not constrain
                decoding.
        """
        try:
            value = read_json(reply)
            texts = value if isinstance(value, list) else [value]
            quotes = [self.quotes[text] for text in texts if text != UNSAID]
        except (ValueError, KeyError, TypeError) as error:
            raise BackendError(
                f"the reply is no quote of the pages: {reply[:200]!r}; it was cut off, or the "
                "server does not constrain decoding"
            ) from error
        return tuple(dict.fromkeys(quotes))


def quotable_text(text: str) -> str:
    """A page as a prompt for quotes shows it: each of its quotes is a line, or a part of one.

    Rows of HTML tables are lines of the text of their own cells, "cell | cell".

    Args:
        text: The text of the page.
    """
    return "\n".join(lines_of(_SURROGATES.sub("", text)))


def pieces_of(text: str) -> Iterator[str]:
    """The parts of a page that can be quoted: its lines, in order, without empty ones.

    Rows of HTML tables are the text of their cells, "cell | cell". A line of more than 300
    characters is cut into sentences, and a sentence that is as long between words, into parts of at
    most 300.

    Args:
        text: The text of the page.
    """
    for line in quotable_text(text).split("\n"):
        whole = line.strip()
        for sentence in [whole] if len(whole) <= _LONGEST else _sentences(whole):
            rest = sentence.strip()
            while len(rest) > _LONGEST:
                end = rest.rfind(" ", 1, _LONGEST + 1)
                end = end if end > 0 else _LONGEST
                yield rest[:end].rstrip()
                rest = rest[end:].lstrip()
            if rest:
                yield rest


def _sentences(text: str) -> Iterator[str]:
    at = 0
    for end, start in sentence_ends(text):
        yield text[at:end]
        at = start
    yield text[at:]
