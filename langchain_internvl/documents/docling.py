"""Descriptions of the pictures of a Docling document by a chat model."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, HumanMessage

from langchain_internvl._optional import require
from langchain_internvl.errors import check_chat_model, check_concurrency
from langchain_internvl.messages.media_blocks import image_block
from langchain_internvl.reply_text.finish_reasons import advice_about
from langchain_internvl.tools.inner_runs import inner_config
from langchain_internvl.tools.task_prompts import DESCRIBE

if TYPE_CHECKING:
    from docling_core.types.doc.document import DoclingDocument

_LOG = logging.getLogger("langchain_internvl")


def describe_pictures(
    document: DoclingDocument,
    llm: BaseChatModel,
    *,
    prompt: str = DESCRIBE,
    concurrency: int = 8,
    **settings: Any,
) -> dict[str, Exception]:
    """Describe every picture of a document, in its `meta.description`, in place.

    Pictures that have a description keep it. Docling writes the descriptions into its Markdown and
    its chunks, so that a retriever finds a figure by its content. One that was cut off, such as by
    `max_tokens`, is kept, with a warning in the log.

    Args:
        document: A document whose pictures hold their images: convert it with
            `PdfPipelineOptions(generate_picture_images=True)`.
        llm: The model that writes descriptions, such as `ChatInternVL`.
        prompt: The prompt for each picture.
        concurrency: Most requests in flight.
        **settings: Settings of every call, such as `max_tokens`.

    Returns:
        Errors by the picture's reference (`#/pictures/0`): `ValueError` for a picture without an
        image or a reply without text, else the error of its image or the model's. A failed picture
        does not affect the others, and has no description.

    Raises:
        RequestError: `llm` is the name of a model, or `concurrency` is below 1.
        ImportError: docling-core is not installed (extra `docling`).
    """
    check_chat_model(llm)
    check_concurrency(concurrency)
    docling = require("docling_core.types.doc", extra="docling")
    failures: dict[str, Exception] = {}
    pictures, messages = [], []
    for picture in document.pictures:
        if picture.meta is not None and picture.meta.description is not None:
            continue
        try:
            block = _block(picture, document)
        except Exception as error:  # noqa: BLE001 - docling opens files, and images may be damaged
            failures[picture.self_ref] = error
            continue
        pictures.append(picture)
        question: list[str | dict[str, Any]] = [block, {"type": "text", "text": prompt}]
        messages.append([HumanMessage(question)])
    config = inner_config({"max_concurrency": concurrency}, "internvl_picture")
    inputs: list[LanguageModelInput] = list(messages)
    replies: list[AIMessage | Exception] = llm.batch(  # type: ignore[assignment]
        inputs, config, return_exceptions=True, **settings
    )
    for picture, reply in zip(pictures, replies, strict=True):
        if isinstance(reply, Exception):
            failures[picture.self_ref] = reply
            continue
        text = reply.text.strip()
        cut_off = advice_about(reply.response_metadata.get("finish_reason"))
        if not text:
            # An empty description would look as if there were one, also to the next run.
            failures[picture.self_ref] = ValueError(
                f"the reply has no text{cut_off and f'; it was {cut_off}'}"
            )
            continue
        if cut_off:
            _LOG.warning("the description of %s was %s", picture.self_ref, cut_off)
        picture.meta = picture.meta or docling.PictureMeta()
        picture.meta.description = docling.DescriptionMetaField(
            text=text, created_by=reply.response_metadata.get("model_name")
        )
    return failures


def _block(picture: Any, document: Any) -> dict[str, Any]:
    """The content block of a picture.

    Raises:
        ValueError: The picture has no image.
        MediaError: Its image cannot be read.
    """
    image = picture.get_image(document)
    if image is None:
        raise ValueError(
            f"{picture.self_ref} holds no image; convert the document with "
            "PdfPipelineOptions(generate_picture_images=True)"
        )
    return dict(image_block(image))
