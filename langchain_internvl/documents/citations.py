"""Answers over scanned documents whose sentences cite pages.

The prompt contains the retrieved text and the page images, each under a number; the reply cites
the numbers in brackets: "The rent is 900 EUR [2]." The brackets become LangChain `Citation`
annotations; with `ground`, the cited regions are located on their pages and drawn.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.messages.content import Citation, create_citation, create_text_block
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_core.runnables.config import run_in_executor
from PIL import Image

from langchain_internvl._optional import require
from langchain_internvl.documents.locating import (
    Batch,
    Located,
    Locating,
    Replies,
    Way,
    locate_by_boxes,
    locate_by_reading,
)
from langchain_internvl.documents.orientation import turn
from langchain_internvl.documents.pages import PageOptions, pages_of
from langchain_internvl.documents.sources import File, find_files
from langchain_internvl.errors import InternVLError, MediaError, RequestError
from langchain_internvl.grounding import Box, draw_boxes
from langchain_internvl.media.policy import MediaPolicy

QUESTION = (
    "Answer the question from the numbered pages. After each statement write the number of its "
    "page in brackets, like [1]. If the pages do not say it, say so.\n\n{pages}\n\n"
    "Question: {question}"
)
"""The prompt; `{pages}` is the retrieved text, page by page."""

_Answering: TypeAlias = "Generator[Batch, Replies, CitedAnswer]"
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
    ground: bool | Way = False,
    ground_llm: BaseChatModel | None = None,
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
        ground: Locate the cited statements on their pages, and draw the boxes. "boxes" (or True):
            the model is asked for their boxes. "reading": the model reads the page line by line,
            at most 200 lines, and the lines with the statement have its box; for models that read
            better than they point. Regions in the page's metadata (`elements`) whose label or
            brief is the statement take no request. A statement that is not found, or whose
            requests fail, has no box, and is in `CitedPage.unlocated`.
        ground_llm: The model that points or reads for `ground`; None: `llm`.
        prompt: The prompt; has `{pages}` and `{question}`.
        page_image: Opens the image of a page; None: from `source` and `page` in its metadata,
            turned as `rotation` says.
        media_policy: Limits on files and addresses that are opened; None: the defaults.

    Returns:
        A runnable from a question to a `CitedAnswer`. It raises the errors of `llm` and
        `retriever`; a page whose image cannot be opened contributes its text alone.

    Raises:
        RequestError: `ground` has another value.
        ImportError: `ground` is "reading", and the extra `documents` is not installed.
    """
    way = _way(ground)
    policy = media_policy or MediaPolicy(max_pages=1_000_000)
    opened = page_image or (lambda document: open_page_of(document, policy))

    def steps(question: str, found: Sequence[Document]) -> _Answering:
        documents = _by_page(found)[:max_pages]
        images = [_image(opened, one) if show_images else None for one in documents]
        (reply,) = yield Batch([_messages(prompt, question, documents, images)])
        if isinstance(reply, Exception):
            raise reply
        cited = cite(reply, documents)
        pages = []
        for number, (document, image) in enumerate(zip(documents, images, strict=True), 1):
            own = [one for one in cited.citations if one.get("extras", {}).get("number") == number]
            shown, located = image, Located()
            if way is not None and own:
                shown = image or _image(opened, document)
                located = yield from _locate(way, shown, own, document)
                if shown is not None and located.boxes:
                    shown = draw_boxes(shown, [_around(one, way) for one in located.boxes])
            page = CitedPage(number, document, bool(own), shown, located.boxes, located.unlocated)
            pages.append(page)
        return CitedAnswer(cited.text, cited.message, tuple(pages), cited.unknown, cited.citations)

    def answer(question: str, config: RunnableConfig) -> CitedAnswer:
        found = (
            retriever.invoke(question, config)
            if isinstance(retriever, BaseRetriever)
            else retriever(question)
        )
        script = steps(question, found)
        step, model = _advance(lambda: next(script)), llm
        while isinstance(step, Batch):
            replies = model.batch(
                list(step.inputs), config, return_exceptions=True, **step.settings
            )
            model = ground_llm or llm
            step = _advance(lambda replies=replies: script.send(replies))  # type: ignore[misc]
        return step

    async def aanswer(question: str, config: RunnableConfig) -> CitedAnswer:
        found = (
            await retriever.ainvoke(question, config)
            if isinstance(retriever, BaseRetriever)
            else await run_in_executor(config, retriever, question)
        )
        script = steps(question, found)
        # Opening and cutting of pages would block the event loop.
        step, model = await run_in_executor(config, _advance, lambda: next(script)), llm
        while isinstance(step, Batch):
            replies = await model.abatch(
                list(step.inputs), config, return_exceptions=True, **step.settings
            )
            model = ground_llm or llm
            send = lambda replies=replies: script.send(replies)  # noqa: E731
            step = await run_in_executor(config, _advance, send)
        return step

    return RunnableLambda(answer, aanswer, name="answer_with_citations")


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


def _way(ground: bool | Way) -> Way | None:  # noqa: FBT001 - as the caller gave it
    """How cited statements are located; None: they are not."""
    if ground is True:
        return "boxes"
    if ground is False:
        return None
    if ground not in {"boxes", "reading"}:
        raise RequestError(f"ground is a bool, 'boxes' or 'reading', not {ground!r}")
    if ground == "reading":
        require("rapidfuzz.fuzz", extra="documents")
    return ground


def _locate(
    way: Way, image: Image.Image | None, citations: Sequence[Citation], document: Document
) -> Locating:
    """The cited statements on the image of their page."""
    statements = [one.get("cited_text", "").strip() for one in citations]
    statements = list(dict.fromkeys(filter(None, statements)))
    if image is None:
        reason = "the image of the page cannot be opened"
        return Located((), tuple(f"{one!r}: {reason}" for one in statements))
    if way == "boxes":
        return (yield from locate_by_boxes(image, statements))
    return (yield from locate_by_reading(image, statements, document.metadata))


def _around(box: Box, way: Way) -> Box:
    """The frame that is drawn for a box: around ink with a margin, so that no letter is hidden."""
    if way == "boxes" or box.size is None:
        return box
    left, top, right, bottom = box.corners("pixel")
    margin = 0.15 * min(right - left, bottom - top)
    width, height = box.size
    frame = (
        max(0, left - margin), max(0, top - margin),
        min(width, right + margin), min(height, bottom + margin),
    )  # fmt: skip
    return Box.from_space(frame, "pixel", box.size, box.label)


def _advance(call: Callable[[], Batch]) -> Batch | CitedAnswer:
    """Runs the steps of an answer up to their next requests, or to the answer."""
    try:
        return call()
    except StopIteration as ended:
        answer: CitedAnswer = ended.value
        return answer
