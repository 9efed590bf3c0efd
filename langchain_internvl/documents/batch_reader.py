"""Reading pages in many processes: a class for `map_batches`, without an import of Ray."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from langchain_internvl.chat_models import ChatInternVL
from langchain_internvl.documents.page_image import open_page, page_from_array
from langchain_internvl.documents.page_reader import Reader
from langchain_internvl.documents.reading import PageText, ReadOptions
from langchain_internvl.errors import (
    InternVLError,
    MediaError,
    RequestError,
    RunGuard,
    check_concurrency,
)
from langchain_internvl.media.image_frames import count_frames
from langchain_internvl.media.policy import MediaPolicy

_LOG = logging.getLogger("langchain_internvl")

_Value = TypeVar("_Value")


class PageReader:
    """Reads batches of pages: columns in, columns out.

    Meant for `ray.data.Dataset.map_batches(PageReader, batch_format="numpy", ...)`, where each
    actor holds one object, and for any other program that processes batches. The constructor
    makes one `ChatInternVL`; the pages of a batch are read concurrently. A failed page reports
    its error in the column `error` and does not affect the other pages.

    Args:
        model: Arguments of `ChatInternVL`, as {"model": "OpenGVLab/InternVL2-8B"}; or with
            "base_url", a client of a server.
        options: Fields of `ReadOptions`, as {"output": "markdown"}.
        concurrency: Most pages of a batch in flight at once.
        image_column: Column with each page's image: encoded bytes, or uint8 arrays.

    Raises:
        RequestError: A setting is out of range.

    Example:
        ```python
        reader = PageReader({"model": "nano", "temperature": 0})
        print(reader({"page_id": ["a-0"], "image": [open("page.png", "rb").read()]})["text"])
        ```
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        options: Mapping[str, Any] | None = None,
        *,
        concurrency: int = 16,
        image_column: str = "image",
    ) -> None:
        check_concurrency(concurrency)
        llm = ChatInternVL(**model)
        self._reader = Reader(llm, ReadOptions(**(options or {})).for_model(llm))
        self._concurrency = concurrency
        self._image = image_column
        self._policy = MediaPolicy()
        self._guard = RunGuard()

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        """Read a batch.

        Args:
            batch: Columns; one has images. All others are passed through.

        Returns:
            The other columns, and `text`, `ocr`, `problem`, `token_probability` (NaN: unknown),
            `attempts`, `rotation`, and `error` ("" for a page that was read).

        Raises:
            CheckpointError: The model cannot be used.
            ModelNotServedError: The server does not serve the model.
            ServerAccessError: The server rejected the key.
            RequestError: The batch has no column of images.
        """
        if self._image not in batch:
            raise RequestError(
                f"the batch has no column {self._image!r} (image_column=), but {', '.join(batch)}"
            )
        read = _run(self._all(list(batch[self._image])))
        kept = {name: values for name, values in batch.items() if name != self._image}
        done = [one if isinstance(one, PageText) else PageText("") for one in read]
        return {
            **kept,
            "text": _texts(one.text for one in done),
            "ocr": _texts(one.way if isinstance(one, PageText) else "" for one in read),
            "problem": _texts(one.problem or "" for one in done),
            "token_probability": np.array(
                [np.nan if one.probability is None else one.probability for one in done]
            ),
            "attempts": np.array([one.attempts for one in done]),
            "rotation": np.array([one.rotation for one in done]),
            "error": _texts("" if isinstance(one, PageText) else str(one) for one in read),
        }

    async def _all(self, images: Sequence[Any]) -> list[PageText | InternVLError]:
        gate = asyncio.Semaphore(self._concurrency)

        async def read(number: int, image: Any) -> PageText | InternVLError:
            async with gate:
                try:
                    page = await asyncio.to_thread(self._open, number, image)
                    text = await self._reader.aread(page)
                except InternVLError as error:
                    if self._guard.ends(error):
                        raise
                    return error
                if text.way == "model":
                    self._guard.succeeded()
                return text

        return await asyncio.gather(*(read(number, one) for number, one in enumerate(images)))

    def _open(self, number: int, image: Any) -> Image.Image:
        name = f"page {number} of the batch"
        if isinstance(image, (bytes, bytearray, memoryview)):
            page = open_page(data := bytes(image), name, self._policy)
            if (frames := count_frames(data, name, self._policy)) > 1:
                _LOG.warning("%s: has %d images, of which the first is read", name, frames)
            return page
        if isinstance(image, np.ndarray):
            return page_from_array(image, name, self._policy)
        raise MediaError(name, f"is neither bytes nor an array, but {type(image).__name__}")


def _run(work: Coroutine[Any, Any, _Value]) -> _Value:
    """Run a coroutine to its end, also where an event loop runs already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def _texts(values: Any) -> Any:
    return np.array(list(values), dtype=object)
