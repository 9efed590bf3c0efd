"""Answers with `Citation` annotations, from replies with marks of pages or from quotes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan
from pathlib import Path
from typing import Any

from langchain_core.documents import Document
from langchain_core.messages import AIMessage
from langchain_core.messages.content import Citation, create_citation, create_text_block
from PIL import Image

from langchain_internvl.documents.citation_marks import find_marks
from langchain_internvl.documents.quotes import UNSAID, Quote
from langchain_internvl.documents.sentences import last_sentence
from langchain_internvl.grounding import Box


@dataclass(frozen=True)
class CitedPage:
    """A page that the prompt of an answer contained.

    Attributes:
        number: Its number in the answer, from 1.
        document: The retrieved text of the page; retrieved parts of one page are joined.
        is_cited: Whether the answer cites it.
        image: The page, in mode RGB, with the cited regions drawn if they were located; None: the
            prompt had no image of the page, or the image cannot be opened.
        boxes: The cited regions on the page, in the order of the citations.
        unlocated: Cited statements that were not located on the page, each with the reason; empty
            without `ground`.
    """

    number: int
    document: Document
    is_cited: bool
    image: Image.Image | None = None
    boxes: tuple[Box, ...] = ()
    unlocated: tuple[str, ...] = ()


@dataclass(frozen=True)
class CitedAnswer:
    """An answer with its cited pages.

    Attributes:
        text: The answer, without the marks.
        message: The same as a message, whose text block has `Citation` annotations.
        pages: The pages of the prompt, in the order of their numbers.
        unknown: Cited numbers that no page has; of a range such as [pages 2-9], the first and the
            last of them.
        citations: The citations, in the order of the text; those of the message.
    """

    text: str
    message: AIMessage
    pages: tuple[CitedPage, ...]
    unknown: tuple[int, ...] = ()
    citations: tuple[Citation, ...] = field(default=())


def cite(reply: AIMessage, documents: Sequence[Document]) -> CitedAnswer:
    """A reply with marks such as [2], as text with `Citation` annotations.

    Each citation spans the statement before its mark: back to the end of the sentence before, or
    to the mark before; or the statement after it, if the mark leads one (see `find_marks`). `url`
    is the document's source, `title` names document and page, and `extras` has `number`, `page`
    and `page_id`. See `citation_marks` for the forms of marks.

    Args:
        reply: The reply.
        documents: The pages; the first has number 1.
    """
    spans: list[tuple[int, int, int]] = []
    unknown: list[int] = []
    text = ""
    at = start = 0
    statement: tuple[int, int] | None = None
    written = reply.text
    for mark in find_marks(written, len(documents)):
        text += written[at : mark.start]
        at = mark.end
        if mark.statement is not None:
            statement = len(text), len(text) + mark.statement - mark.end
        elif statement is None or any(letter.isalnum() for letter in text[start:]):
            statement = last_sentence(text, start), len(text)
        spans += [(*statement, one) for one in mark.numbers if 0 < one <= len(documents)]
        unknown += [one for one in mark.numbers if not 0 < one <= len(documents)]
        start = len(text)
    text += written[at:]
    return _annotated(reply, text, spans, documents, unknown)


def cite_quotes(
    reply: AIMessage, documents: Sequence[Document], quotes: Sequence[Quote]
) -> CitedAnswer:
    """A reply of quotes, a line each, with a citation for each; brackets in them are text.

    Args:
        reply: The reply.
        documents: The pages; the first has number 1.
        quotes: Its quotes; none: the pages do not say it.
    """
    text, spans = "", []
    for quote in quotes:
        text += "\n" if text else ""
        spans.append((len(text), len(text) + len(quote.text), quote.number))
        text += quote.text
    return _annotated(reply, text or UNSAID, spans, documents)


def given(metadata: Mapping[str, Any], name: str) -> Any:
    """A value of metadata; None if it is missing, as stores of columns say by None or NaN."""
    value = metadata.get(name)
    return None if isinstance(value, float) and isnan(value) else value


def _annotated(
    reply: AIMessage,
    text: str,
    spans: Sequence[tuple[int, int, int]],
    documents: Sequence[Document],
    unknown: Sequence[int] = (),
) -> CitedAnswer:
    """The answer of a reply.

    Args:
        reply: The reply.
        text: Its text without marks.
        spans: Start and end of each cited statement in the text, and the number of its page.
        documents: The pages.
        unknown: Cited numbers that no page has.
    """
    citations = []
    for begin, end, number in spans:
        metadata = documents[number - 1].metadata
        named = {name: given(metadata, name) for name in ("page", "page_id")}
        known = {name: value for name, value in named.items() if value is not None}
        source = given(metadata, "source")
        page = _page_of(metadata)
        citations.append(
            create_citation(
                url=None if source is None else str(source),
                title=f"{Path(str(source)).name if source else 'document'}{page}",
                start_index=begin,
                end_index=end,
                cited_text=text[begin:end],
                number=number,
                **known,
            )
        )
    block: Any = create_text_block(text)
    if citations:
        block["annotations"] = list(citations)
    message = AIMessage(
        content=[block],
        response_metadata=reply.response_metadata,
        usage_metadata=reply.usage_metadata,
        id=reply.id,
    )
    return CitedAnswer(text, message, (), tuple(dict.fromkeys(unknown)), tuple(citations))


def _page_of(metadata: Mapping[str, Any]) -> str:
    """The page in a title, counted from 1; vector stores may return its index as text or float."""
    try:
        return f", page {int(metadata['page']) + 1}"
    except (KeyError, TypeError, ValueError, OverflowError):
        return ""
