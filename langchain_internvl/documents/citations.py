"""Answers over scanned documents whose sentences cite pages.

The prompt contains the retrieved text and the page images, each under a number; the reply cites
the numbers in brackets: "The rent is 900 EUR [2]." The brackets become LangChain `Citation`
annotations; with `ground`, the cited regions are located on their pages and drawn.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import HumanMessage
from langchain_core.messages.content import Citation
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_core.runnables.config import run_in_executor
from PIL import Image
from pydantic import BaseModel

from langchain_internvl._optional import require
from langchain_internvl.chat_models import ChatInternVL
from langchain_internvl.documents.cited_answer import (
    CitedAnswer,
    CitedPage,
    cite,
    cite_quotes,
    given,
)
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
from langchain_internvl.documents.quotes import QUOTE, QUOTES, Quotable, quotable_text
from langchain_internvl.documents.sources import file_of
from langchain_internvl.errors import InternVLError, MediaError, RequestError, check_chat_model
from langchain_internvl.grounding import Box, draw_boxes
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.tools.inner_runs import inner_config

QUESTION = (
    "Answer the question from the numbered pages. After each statement write the number of its "
    "page in brackets, like [1]. If the pages do not say it, say so.\n\n{pages}\n\n"
    "Question: {question}"
)
"""The prompt; `{pages}` is the retrieved text, page by page."""

_NAMES = re.compile(r"\{(pages|question)\}")
_Answering: TypeAlias = "Generator[Batch, Replies, CitedAnswer]"


def answer_with_citations(
    llm: BaseChatModel,
    retriever: BaseRetriever | Callable[[str], Sequence[Document]],
    *,
    max_pages: int = 4,
    show_images: bool = True,
    quote: bool | int = False,
    ground: bool | Way = False,
    ground_llm: ChatInternVL | None = None,
    prompt: str | None = None,
    page_image: Callable[[Document], Image.Image] | None = None,
    media_policy: MediaPolicy | None = None,
) -> Runnable[str, CitedAnswer]:
    """A chain from a question to an answer with cited pages.

    Args:
        llm: The model that answers: a `ChatInternVL`.
        retriever: Finds documents of `InternVLLoader`, or parts of them, for a question.
        max_pages: Most pages in the prompt, from 1. Parts of one page, as `page_id`, or else
            `source` and `page` in the metadata say, count as one page.
        show_images: Send the page images as well as their text.
        quote: The answer is a line of the retrieved text, word for word, or `UNSAID` ("The pages do
            not say it."); a number: at most so many lines. Decoding is constrained to them. Lines
            of more than 300 characters are quoted by sentences, or in parts. Rows of HTML tables
            are lines "cell | cell", in the prompt as well.
        ground: Locate the cited statements on their pages, and draw the boxes. "boxes" (or True):
            the model is asked for their boxes. "reading": the model reads the page line by line,
            in batches of 32 and at most 200 lines, until it has read all statements word for word,
            and the lines with the statement have its box; for models that read better than they
            point. Regions in the page's metadata (`elements`) whose label or brief is the
            statement take no request. A statement that is not found, or whose requests fail, has
            no box, and is in `CitedPage.unlocated`.
        ground_llm: The model that points or reads for `ground`, a `ChatInternVL`; None: `llm`.
        prompt: The prompt; has `{question}`, and `{pages}` for the text of the pages, without which
            it has their images alone. None: `QUESTION`, or with `quote` `QUOTE` or `QUOTES`.
        page_image: Opens the image of a page; None: from `source` and `page` in its metadata,
            turned as `rotation` says. Without `page` (mode "single" of the loader) there is an
            image of files of one page only.
        media_policy: Limits on files and addresses that are opened; None: the defaults.

    Returns:
        A runnable from a question to a `CitedAnswer`. It raises the errors of `llm` and
        `retriever`, and a `RequestError` for a question that is no text; a page whose image cannot
        be opened contributes its text alone.

    Raises:
        RequestError: `llm` is the name of a model; `max_pages`, `prompt`, `ground` or `quote` has
            another value; or `quote` is given and `llm` is not a `ChatInternVL`, which alone
            constrains decoding to the lines; or the model that points or reads is none.
        ImportError: `ground` is "reading", and the extra `documents` is not installed.
    """
    check_chat_model(llm)
    way = _way(ground)
    _check_model(way, llm, ground_llm)
    most = _most_quotes(quote, llm)
    _check_prompt(prompt, max_pages, show_images=show_images)
    asked = prompt or (QUESTION if most == 0 else QUOTE if most == 1 else QUOTES)
    policy = media_policy or MediaPolicy(max_pages=1_000_000)
    opened = page_image or (lambda document: open_page_of(document, policy))

    def steps(question: str, found: Sequence[Document]) -> _Answering:
        documents = _by_page(_documents(found))[:max_pages]
        images = [_image(opened, one) if show_images else None for one in documents]
        quotable = Quotable.of(documents, most) if most else None
        texts = [one.page_content for one in documents]
        shown_texts = texts if quotable is None else list(map(quotable_text, texts))
        messages = _messages(asked, question, shown_texts, images)
        (reply,) = yield Batch([messages], _settings(llm, quotable))
        if isinstance(reply, Exception):
            raise reply
        cited = (
            cite(reply, documents)
            if quotable is None
            else cite_quotes(reply, documents, quotable.read(reply.text))
        )
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
        _check_question(question)
        found = (
            retriever.invoke(question, config)
            if isinstance(retriever, BaseRetriever)
            else retriever(question)
        )
        script = steps(question, found)
        step, model = _advance(script), llm
        while isinstance(step, Batch):
            replies = model.batch(
                list(step.inputs), config, return_exceptions=True, **step.settings
            )
            model, config = ground_llm or llm, inner_config(config, "internvl_ground")
            step = _advance(script, replies)
        return step

    async def aanswer(question: str, config: RunnableConfig) -> CitedAnswer:
        _check_question(question)
        found = (
            await retriever.ainvoke(question, config)
            if isinstance(retriever, BaseRetriever)
            else await run_in_executor(config, retriever, question)
        )
        script = steps(question, found)
        # Opening and cutting of pages would block the event loop.
        step, model = await run_in_executor(config, _advance, script), llm
        while isinstance(step, Batch):
            replies = await model.abatch(
                list(step.inputs), config, return_exceptions=True, **step.settings
            )
            model, config = ground_llm or llm, inner_config(config, "internvl_ground")
            step = await run_in_executor(config, _advance, script, replies)
        return step

    return RunnableLambda(answer, aanswer, name="answer_with_citations")


def open_page_of(document: Document, policy: MediaPolicy) -> Image.Image:
    """The image of a page, from `source` and `page` in its metadata, rotated by `rotation`.

    A document without `page`, such as a file as a whole or a part of one, has an image if its file
    has one page only: on which page a part of a longer file stands is not known.

    Raises:
        MediaError: The document has no source or no page, or the page cannot be opened.
    """
    metadata = _of_the_only_page(document.metadata)
    source = given(metadata, "source")
    if source is None:
        raise MediaError("the document", "has no source in its metadata; pass page_image=")
    page_index, rotation = given(metadata, "page"), given(metadata, "rotation")
    try:
        number = int(page_index or 0)
        turned = int(rotation or 0) % 360
    except (TypeError, ValueError, OverflowError) as error:
        raise MediaError(str(source), f"has no page in its metadata: {error}") from error
    if turned % 90:
        raise MediaError(str(source), f"is turned by {rotation}, not by right angles")
    options = PageOptions(pages=[number], ocr="always")
    for page in pages_of(file_of(str(source)).source, policy, options):
        if page_index is None and page.total > 1:
            raise MediaError(
                str(source),
                f"has {page.total} pages, and the metadata of the document names none of them; "
                "pass page_image=",
            )
        if isinstance(page.picture, Image.Image):
            return turn(page.picture, turned)
        if isinstance(page.picture, MediaError):
            raise page.picture
    raise MediaError(str(source), "has no such page")


def _of_the_only_page(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """The metadata with those of the page, if a file as a whole (mode "single") has only one."""
    match metadata.get("pages"):
        case [Mapping() as page]:
            return {**page, **metadata}
    return metadata


def _check_question(question: Any) -> None:
    if not isinstance(question, str):
        raise RequestError(
            f"the question is text, not {type(question).__name__}; in a chain over dictionaries "
            'put operator.itemgetter("question") before it'
        )


def _documents(found: Any) -> list[Document]:
    """What a retriever found.

    Raises:
        RequestError: It is something else than a list of documents.
    """
    # Iterating over these gives letters, keys or fields.
    is_list = isinstance(found, Iterable) and not isinstance(
        found, str | bytes | Mapping | BaseModel
    )
    documents = list(found) if is_list else []
    wrong = [one for one in documents if not isinstance(one, Document)] if is_list else [found]
    if wrong:
        raise RequestError(
            f"the retriever gives Documents in a list, not {type(wrong[0]).__name__}"
            + (" in it" if is_list else "")
        )
    return documents


def _by_page(documents: Sequence[Document]) -> list[Document]:
    """Parts of one page as one document, in the order of their first parts."""
    pages: dict[Any, Document] = {}
    for number, one in enumerate(documents):
        key = _page_key(one.metadata) or number
        if key not in pages:
            pages[key] = Document(page_content=one.page_content, metadata=one.metadata)
        elif one.page_content not in pages[key].page_content:
            pages[key].page_content += f"\n{one.page_content}"
    return list(pages.values())


def _page_key(metadata: Mapping[str, Any]) -> tuple[str, ...] | None:
    """What identifies a page, in our metadata or those of other loaders; None: nothing."""
    if (own := given(metadata, "page_id")) is not None:
        return (str(own),)
    source, page = given(metadata, "source"), given(metadata, "page")
    return None if source is None or page is None else (str(source), str(page))


def _image(opened: Callable[[Document], Image.Image], document: Document) -> Image.Image | None:
    try:
        return opened(document)
    except (InternVLError, OSError):
        return None


def _messages(
    prompt: str,
    question: str,
    texts: Sequence[str],
    images: Sequence[Image.Image | None],
) -> list[HumanMessage]:
    blocks: list[Any] = []
    for number, image in enumerate(images, 1):
        if image is not None:
            blocks += [{"type": "text", "text": f"[{number}]"}, {"type": "image", "image": image}]
    pages = "\n\n".join(f"[{number}] {text}" for number, text in enumerate(texts, 1))
    values = {"pages": pages, "question": question}
    # In one pass: what a page or the question says is no name to be filled in.
    text = _NAMES.sub(lambda name: values[name[1]], prompt)
    return [HumanMessage([*blocks, {"type": "text", "text": text}])]


def _check_prompt(prompt: str | None, max_pages: Any, *, show_images: bool) -> None:
    """Refuses settings with which the model would not see the question, or no page."""
    if isinstance(max_pages, bool) or not isinstance(max_pages, int) or max_pages < 1:
        raise RequestError(f"max_pages is a whole number from 1, not {max_pages!r}")
    names = set(_NAMES.findall(prompt or QUESTION))
    if "question" not in names:
        raise RequestError("prompt has no {question}, so that the model would not see it")
    if "pages" not in names and not show_images:
        raise RequestError("prompt has no {pages}, and without show_images the model sees none")


def _most_quotes(quote: Any, llm: BaseChatModel) -> int:
    """Most lines of a quoted answer; 0: the answer is free text."""
    if not isinstance(quote, int) or quote < 0:
        raise RequestError(f"quote is a bool or a number of lines from 1, not {quote!r}")
    if quote and not isinstance(llm, ChatInternVL):
        raise RequestError(
            f"quote constrains decoding, which {type(llm).__name__} may not do; give a "
            "ChatInternVL, or leave quote out"
        )
    return int(quote)


def _settings(llm: BaseChatModel, quotable: Quotable | None) -> dict[str, Any]:
    """The settings of the request for an answer."""
    if quotable is None or not isinstance(llm, ChatInternVL):
        return {}
    return quotable.settings(llm.max_tokens)


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


def _check_model(way: Way | None, llm: BaseChatModel, ground_llm: Any) -> None:
    """Refuses models that do not take the requests of `locating`, before they are paid for."""
    name, model = ("llm", llm) if ground_llm is None else ("ground_llm", ground_llm)
    if (way is not None or ground_llm is not None) and not isinstance(model, ChatInternVL):
        raise RequestError(
            f"{name} is a {type(model).__name__}, which does not point or read as `ground` asks; "
            "give a ChatInternVL as ground_llm, or leave ground out"
        )


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


def _advance(script: _Answering, replies: Replies | None = None) -> Batch | CitedAnswer:
    """Runs the steps of an answer, from the replies on, to their next requests or the answer."""
    try:
        return next(script) if replies is None else script.send(replies)
    except StopIteration as ended:
        answer: CitedAnswer = ended.value
        return answer
