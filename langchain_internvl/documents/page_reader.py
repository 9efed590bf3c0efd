"""Reads a page image with a chat model: runs the steps of `read_page`, sync or async."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import run_in_executor
from PIL import Image

from langchain_internvl.documents.blank import is_blank
from langchain_internvl.documents.markup import normalise_markup
from langchain_internvl.documents.orientation import read_any_way_up
from langchain_internvl.documents.reading import (
    Ask,
    Attempt,
    PageText,
    ReadOptions,
    RetriesSpent,
    Script,
)
from langchain_internvl.documents.skew import find_skew, level
from langchain_internvl.errors import BackendError, EngineBusyError, InternVLError, RequestError
from langchain_internvl.media.deadline import check_work
from langchain_internvl.tools.inner_runs import inner_config

_PURPOSE = "internvl_page"
"""Tag of the requests: a page that is read within an agent's run is no answer of the agent."""


def read_page(page: Image.Image, options: ReadOptions) -> Script:
    """Read a page.

    Args:
        page: The page, in mode RGB.
        options: How pages are read.
    """
    if options.skip_blank and is_blank(page):
        return PageText("", "blank")
    angle = find_skew(page) if options.deskew else 0.0
    read = yield from _counted(read_any_way_up(level(page, angle), options), options.max_retries)
    text = normalise_markup(read.text) if options.output == "markdown" else read.text
    return replace(read, text=text, skew=angle)


def _counted(script: Script, max_retries: int | None) -> Script:
    """A script that is not granted more than so many retries, and counts its replies."""
    replies = retries = 0
    step = _advance(script)
    while isinstance(step, Ask):
        retries += step.is_retry
        if step.is_retry and max_retries is not None and retries > max_retries:
            step = _advance(script, RetriesSpent())
            continue
        try:
            reply = yield step
        except InternVLError as error:
            step = _advance(script, error)
        else:
            replies += 1
            step = _advance(script, reply)
    return replace(step, attempts=replies)


class Reader:
    """Executes reading scripts with a chat model.

    Args:
        llm: The model that reads pages: a `ChatInternVL`.
        options: How pages are read.
    """

    def __init__(self, llm: BaseChatModel, options: ReadOptions) -> None:
        self._llm = llm
        self._options = options
        self._settings: dict[str, Any] = {"logprobs": True}

    def read(self, page: Image.Image, config: RunnableConfig | None = None) -> PageText:
        """Read a page.

        Args:
            page: The page, in mode RGB.
            config: Callbacks and tags of the requests.

        Raises:
            InternVLError: The model gave no reply.
            RequestTimeoutError: The work of this thread was cancelled; see `part_of`.
        """
        config = inner_config(config, _PURPOSE)
        script = read_page(page, self._options)
        step = _advance(script)
        while isinstance(step, Ask):
            check_work()
            try:
                reply: Attempt | InternVLError = self._invoke(step, config)
            except InternVLError as error:
                reply = error
            step = _advance(script, reply)
        return step

    async def aread(self, page: Image.Image, config: RunnableConfig | None = None) -> PageText:
        """Read a page without blocking the event loop; see `read`."""
        config = inner_config(config, _PURPOSE)
        script = read_page(page, self._options)
        # Image processing between requests would block the event loop.
        step = await run_in_executor(None, _advance, script)
        while isinstance(step, Ask):
            try:
                reply: Attempt | InternVLError = await self._ainvoke(step, config)
            except InternVLError as error:
                reply = error
            step = await run_in_executor(None, _advance, script, reply)
        return step

    def _invoke(self, step: Ask, config: RunnableConfig | None) -> Attempt:
        settings = self._for(step)
        try:
            return Attempt.of(self._llm.invoke(step.messages, config, **settings))
        except (RequestError, BackendError) as error:
            if not self._can_do_without_logprobs(settings, error):
                raise
            return self._invoke(step, config)

    async def _ainvoke(self, step: Ask, config: RunnableConfig | None) -> Attempt:
        settings = self._for(step)
        try:
            return Attempt.of(await self._llm.ainvoke(step.messages, config, **settings))
        except (RequestError, BackendError) as error:
            if not self._can_do_without_logprobs(settings, error):
                raise
            return await self._ainvoke(step, config)

    def _for(self, step: Ask) -> dict[str, Any]:
        if "choices" in step.settings:  # choices include probabilities
            return dict(step.settings)
        return {**self._settings, **step.settings}

    def _can_do_without_logprobs(self, settings: dict[str, Any], error: InternVLError) -> bool:
        """Whether to retry without log probabilities, which some servers refuse.

        If so, later requests do not ask for them either.
        """
        if "logprobs" not in settings or "logprob" not in str(error).lower():
            return False
        if isinstance(error, EngineBusyError):
            return False
        self._settings = {}
        return True


def _advance(script: Script, reply: Attempt | Exception | None = None) -> Ask | PageText:
    """Run a script up to its next request, or to the text it returns.

    Args:
        script: The script.
        reply: The reply to its last request, or why there is none; None: it begins.
    """
    try:
        if reply is None:
            return next(script)
        return script.throw(reply) if isinstance(reply, Exception) else script.send(reply)
    except StopIteration as ended:
        text: PageText = ended.value
        return text
