"""Answers over scanned documents whose sentences cite pages.

The prompt contains the retrieved text and the page images, each under a number; the reply cites
the numbers in brackets: "The rent is 900 EUR [2]." The brackets become LangChain `Citation`
annotations; with `ground`, the cited region is located on its page and drawn.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.messages.content import Citation, create_citation, create_text_block
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from PIL import Image

from langchain_internvl.documents.orientation import turn
from langchain_internvl.documents.pages import PageOptions, pages_of
from langchain_internvl.documents.sources import File, find_files
from langchain_internvl.errors import InternVLError, MediaError
from langchain_internvl.grounding import Box, draw_boxes, parse_boxes
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.tools.task_prompts import GROUND

QUESTION = (
    "Answer the question from the numbered pages. After each statement write the number of its "
    "page in brackets, like [1]. If the pages do not say it, say so.\n\n{pages}\n\n"
    "Question: {question}"
)
"""The prompt; `{pages}` is the retrieved text, page by page."""

_MARK = re.compile(r"\s*\[(\d{1,3}(?:\s*,\s*\d{1,3})*)\]")


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
    """

    number: int
    document: Document
    is_cited: bool
    image: Image.Image | None = None
    boxes: tuple[Box, ...] = ()


@dataclass(frozen=True)
class CitedAnswer:
    """An answer with its cited pages.

    Attributes:
        text: The answer, without the marks.
        message: The same as a message, whose text block has `Citation` annotations.
        pages: The pages of the prompt, in the order of their numbers.
        unknown: Cited numbers that no page has.
    """

    text: str
    message: AIMessage
    pages: tuple[CitedPage, ...]
    unknown: tuple[int, ...] = ()
    citations: tuple[Citation, ...] = field(default=())


def answer_with_citations(
    llm: BaseChatModel,
    retriever: BaseRetriever | Callable[[str], Sequence[Document]],
    *,
    max_pages: int = 4,
    show_images: bool = True,
    ground: bool = False,
    prompt: str = QUESTION,
    page_image: Callable[[Document], Image.Image] | None = None,
    media_policy: MediaPolicy | None = None,
) -> Runnable[str, CitedAnswer]:
    """A chain from a question to an answer with cited pages.

    Args:
        llm: The model that answers: a `ChatInternVL`.
        retriever: Finds documents of `InternVLLoader`, or parts of them, for a question.
        max_pages: Most pages in the prompt. Parts of one page count as one page.
        show_images: Send the page images as well as their text.
        ground: Locate the cited statements on their pages, and draw the boxes.
        prompt: The prompt; has `{pages}` and `{question}`.
        page_image: Opens the image of a page; None: from `source` and `page` in its metadata,
            turned as `rotation` says.
        media_policy: Limits on files and addresses that are opened; None: the defaults.

    Returns:
        A runnable from a question to a `CitedAnswer`. It raises the errors of `llm` and
        `retriever`; a page whose image cannot be opened contributes its text alone.
    """
    policy = media_policy or MediaPolicy(max_pages=1_000_000)
    opened = page_image or (lambda document: open_page_of(document, policy))

    def answer(question: str, config: RunnableConfig) -> CitedAnswer:
        found = (
            retriever.invoke(question, config)
            if isinstance(retriever, BaseRetriever)
            else retriever(question)
        )
        documents = _by_page(found)[:max_pages]
        images = [_image(opened, one) if show_images else None for one in documents]
        reply = llm.invoke(_messages(prompt, question, documents, images), config)
        cited = cite(reply, documents)
        pages = []
        for number, (document, image) in enumerate(zip(documents, images, strict=True), 1):
            own = [one for one in cited.citations if one.get("extras", {}).get("number") == number]
            shown = image
            boxes: tuple[Box, ...] = ()
            if ground and own:
                shown, boxes = _ground(llm, image or _image(opened, document), own, config)
            pages.append(CitedPage(number, document, bool(own), shown, boxes))
        return CitedAnswer(cited.text, cited.message, tuple(pages), cited.unknown, cited.citations)

    return RunnableLambda(answer, name="answer_with_citations")


def cite(reply: AIMessage, documents: Sequence[Document]) -> CitedAnswer:
    """A reply with marks such as [2], as text with `Citation` annotations.

    Each citation spans the statement before its mark: back to the end of the sentence before, or
    to the mark before. `url` is the document's source, `title` names document and page, and
    `extras` has `number`, `page` and `page_id`.

    Args:
        reply: The reply.
        documents: The pages; the first has number 1.
    """
    text, spans, unknown = "", [], []
    at = start = 0
    written = reply.text
    for mark in _MARK.finditer(written):
        text += written[at : mark.start()]
        at = mark.end()
        numbers = [int(one) for one in mark[1].split(",")]
        begin = max(start, _sentence_start(text, start))
        spans += [(begin, len(text), number) for number in numbers if number <= len(documents)
                  and number > 0]  # fmt: skip
        unknown += [number for number in numbers if not 0 < number <= len(documents)]
        start = len(text)
    text += written[at:]
    citations = []
    for begin, end, number in spans:
        metadata = documents[number - 1].metadata
        known = {name: metadata[name] for name in ("page", "page_id") if name in metadata}
        source = metadata.get("source")
        page = f", page {metadata['page'] + 1}" if "page" in metadata else ""
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


def open_page_of(document: Document, policy: MediaPolicy) -> Image.Image:
    """The image of a page, from `source` and `page` in its metadata, rotated by `rotation`.

    Raises:
        MediaError: The document has no source, or the page cannot be opened.
    """
    source = document.metadata.get("source")
    if source is None:
        raise MediaError("the document", "has no source in its metadata; pass page_image=")
    options = PageOptions(pages=[int(document.metadata.get("page", 0))], ocr="always")
    for file in find_files(str(source)):
        if not isinstance(file, File):
            raise file
        for page in pages_of(file.source, policy, options):
            if isinstance(page.picture, Image.Image):
                return turn(page.picture, int(document.metadata.get("rotation", 0)))
            if isinstance(page.picture, MediaError):
                raise page.picture
    raise MediaError(str(source), "has no such page")


def _by_page(documents: Sequence[Document]) -> list[Document]:
    """Parts of one page as one document, in the order of their first parts."""
    pages: dict[Any, Document] = {}
    for number, one in enumerate(documents):
        key = one.metadata.get("page_id", number)
        if key not in pages:
            pages[key] = Document(page_content=one.page_content, metadata=one.metadata)
        elif one.page_content not in pages[key].page_content:
            pages[key].page_content += f"\n{one.page_content}"
    return list(pages.values())


def _image(opened: Callable[[Document], Image.Image], document: Document) -> Image.Image | None:
    try:
        return opened(document)
    except (InternVLError, OSError):
        return None


def _messages(
    prompt: str,
    question: str,
    documents: Sequence[Document],
    images: Sequence[Image.Image | None],
) -> list[HumanMessage]:
    blocks: list[Any] = []
    for number, image in enumerate(images, 1):
        if image is not None:
            blocks += [{"type": "text", "text": f"[{number}]"}, {"type": "image", "image": image}]
    texts = "\n\n".join(f"[{n}] {one.page_content}" for n, one in enumerate(documents, 1))
    text = prompt.replace("{pages}", texts).replace("{question}", question)
    return [HumanMessage([*blocks, {"type": "text", "text": text}])]


def _sentence_start(text: str, least: int) -> int:
    """Index at which the last sentence begins, at least `least`."""
    ends = [match.end() for match in re.finditer(r"[.!?]\s+|\n+", text[: len(text.rstrip(" .!?"))])]
    begin = max([least, *ends])
    return begin + len(text[begin:]) - len(text[begin:].lstrip())


def _ground(
    llm: BaseChatModel,
    image: Image.Image | None,
    citations: Sequence[Citation],
    config: RunnableConfig,
) -> tuple[Image.Image | None, tuple[Box, ...]]:
    """The cited regions of a page, and the page with them drawn."""
    if image is None:
        return None, ()
    boxes: list[Box] = []
    for one in citations:
        phrase = one.get("cited_text", "").strip()[:200]
        question = {"type": "text", "text": GROUND.format(phrase)}
        reply = llm.invoke([HumanMessage([{"type": "image", "image": image}, question])], config)
        boxes += parse_boxes(reply.text, size=image.size)
    return (draw_boxes(image, boxes) if boxes else image), tuple(boxes)
