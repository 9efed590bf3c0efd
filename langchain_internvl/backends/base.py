"""What the chat model asks of an engine, and what it gets back.

Requests carry token ids and pixels; a backend knows nothing of messages, templates or LangChain.
Where nobody here knows the tokens (a server, whose tokenizer is not at hand), they carry the turns
of the conversation instead.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from langchain_internvl.errors import PromptError, RequestError
from langchain_internvl.media.lazy_tiles import ImageTiles, TileList
from langchain_internvl.reply_text.reasoning import Reasoning

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from langchain_internvl.grammars.grammar import Grammar
    from langchain_internvl.messages.conversation import Turn
    from langchain_internvl.prompting.tool_formats import ToolFormat

LEAST_SEED, GREATEST_SEED = -(2**63), 2**64 - 1
"""What torch takes."""

NO_TOKEN = -1
"""`token_id` of a delta that is no token: text of an engine that does not tell its tokens."""

FinishReason = Literal["stop", "length"]

ToolChoice = Literal["auto", "none", "required"]
"""Whether a model may, must not or must call a tool."""


def _check(
    name: str,
    value: Any,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
) -> None:
    if not isinstance(value, (int, float)):
        raise RequestError(f"{name} must be a number, not {value!r}")
    if at_least is not None and not value >= at_least:
        raise RequestError(f"{name} must be at least {at_least}, not {value}")
    if above is not None and not value > above:
        raise RequestError(f"{name} must be above {above}, not {value}")
    if at_most is not None and not value <= at_most:
        raise RequestError(f"{name} must be at most {at_most}, not {value}")


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Attributes:
        temperature: 0 takes the likeliest token always; above, the scores are divided by it.
        top_p: Choose among the likeliest tokens that together have this probability.
        top_k: Choose among this many likeliest tokens; 0: all.
        repetition_penalty: Scores of tokens of the reply so far are lowered by this factor; 1: not.
        seed: Makes the choices repeatable; None: another one each time.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        _check("temperature", self.temperature, at_least=0.0)
        _check("top_p", self.top_p, above=0.0, at_most=1.0)
        _check("top_k", self.top_k, at_least=0)
        if self.top_k != int(self.top_k):
            raise RequestError(f"top_k is a whole number, not {self.top_k}")
        _check("repetition_penalty", self.repetition_penalty, above=0.0)
        if self.seed is not None:
            _check("seed", self.seed, at_least=LEAST_SEED, at_most=GREATEST_SEED)


@dataclass(frozen=True)
class Choice:
    """A reply that may be chosen.

    Attributes:
        text: What it says.
        ids: Its tokens, the one that ends it included.
    """

    text: str
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Request:
    """One reply to make.

    Attributes:
        prompt_ids: The whole prompt, context tokens of images included; empty if there are `turns`.
        tiles: The tiles of the images, in prompt order; each uint8 [tiles, size, size, 3]. A
            `TileList` cuts them when they are looked at.
        sampling: How tokens are chosen.
        max_tokens: Most tokens of the reply.
        stop_ids: Tokens that end the reply.
        stop: Texts that end the reply and are cut off.
        top_logprobs: How many of the likeliest tokens to report with each token; None: report no
            probabilities at all.
        timeout: Seconds until the request is given up; None: never.
        grammar: What the reply may be; None: anything.
        markup: Special tokens that belong to the text of this reply, and their bytes: the frames
            of tool calls.
        choices: Replies of which the likeliest is the reply, at once and whatever `sampling` says;
            none: it is free.
        turns: The conversation, for a backend that takes it instead of ids and tiles. It has text
            and images only: frames of videos and pages of documents are images.
        tools: Tools as OpenAI describes them, for servers that tell the model of them, or enforce
            a call, by themselves. Engines that follow a grammar go by that.
        tool_choice: Whether one of the tools has to be called.
        single_call: Whether one call is all there may be, for servers too.
        tool_format: How calls are written in the reply's text; None: there can be none.
        reasoning: Whether and how much the model shall think, for a backend that takes `turns`;
            else the prompt says so.
        template_kwargs: Arguments of a server's own chat template.
    """

    prompt_ids: Sequence[int]
    tiles: Sequence[NDArray[np.uint8]] = ()
    sampling: Sampling = Sampling()
    max_tokens: int = 1024
    stop_ids: frozenset[int] = frozenset()
    stop: Sequence[str] = ()
    top_logprobs: int | None = None
    timeout: float | None = None
    grammar: Grammar | None = None
    markup: Mapping[int, bytes] = field(default_factory=dict)
    choices: Sequence[Choice] = ()
    turns: Sequence[Turn] = ()
    tools: Sequence[Mapping[str, Any]] = ()
    tool_choice: ToolChoice = "none"
    single_call: bool = False
    tool_format: ToolFormat | None = None
    reasoning: Reasoning = "auto"
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def images(self) -> tuple[ImageTiles, ...]:
        """The images with their keys; none of a `TileList` is cut for it."""
        if isinstance(self.tiles, TileList):
            return self.tiles.images
        return tuple(map(ImageTiles.of_array, self.tiles))

    @property
    def has_to_call(self) -> bool:
        """Whether the reply is a call of one of the tools."""
        return bool(self.tools) and self.tool_choice == "required"

    def __post_init__(self) -> None:
        if not self.prompt_ids and not self.turns:
            raise PromptError("the prompt is empty")
        _check("max_tokens", self.max_tokens, at_least=1)
        if self.top_logprobs is not None:
            _check("top_logprobs", self.top_logprobs, at_least=0, at_most=20)
        if self.timeout is not None:
            _check("timeout", self.timeout, above=0.0)


@dataclass(frozen=True)
class TokenLogprob:
    """A token and the natural logarithm of its probability."""

    token_id: int
    logprob: float


@dataclass(frozen=True)
class Usage:
    """Tokens as the engine counts them.

    Attributes:
        prompt_tokens: Of the prompt.
        completion_tokens: Of the reply.
        cached_tokens: Of the prompt, those that were not computed again.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


@dataclass(frozen=True)
class Delta:
    """What one step adds to a reply.

    Attributes:
        token_id: The token that was chosen, or `NO_TOKEN`.
        text: Text that is certain now; often nothing.
        finish_reason: Why the reply ends here, or None.
        logprob: Logarithm of the token's probability before temperature and cuts, if asked for.
        top_logprobs: The likeliest tokens instead of it, if asked for.
        choice_logprobs: Logarithms of the probabilities of the request's choices, in their order,
            with the last delta.
        told_logprobs: All of this in OpenAI's shape, from an engine that does not tell its tokens.
        usage: What the engine counted; in the last delta, if at all.
        call_ids: Ids of the reply's tool calls, in their order, if the backend has given them
            some; with the delta that begins the calls.
    """

    token_id: int
    text: str = ""
    finish_reason: FinishReason | None = None
    logprob: float | None = None
    top_logprobs: tuple[TokenLogprob, ...] = ()
    choice_logprobs: tuple[float, ...] = ()
    told_logprobs: tuple[Mapping[str, Any], ...] = ()
    usage: Usage | None = None
    call_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class EngineStats:
    """What an engine is doing.

    Attributes:
        active_rows: Requests that are being answered.
        queued: Requests that wait to begin.
        kv_bytes: Memory of the keys and values of the active rows, in bytes.
        decode_steps: Forward passes so far that gave rows their next token.
        feature_bytes: Memory of the vision features that are kept, in bytes.
        feature_hits: Images so far whose features were found.
        feature_misses: Images so far that were encoded.
        prefix_bytes: Memory of the keys and values that are kept for later turns, in bytes.
        prefix_hits: Prompts so far whose beginning was found among them.
        prefix_misses: Prompts so far of which nothing was found.
    """

    active_rows: int = 0
    queued: int = 0
    kv_bytes: int = 0
    decode_steps: int = 0
    # Two engines that do the same are equal, whatever they remember.
    feature_bytes: int = field(default=0, compare=False)
    feature_hits: int = field(default=0, compare=False)
    feature_misses: int = field(default=0, compare=False)
    prefix_bytes: int = field(default=0, compare=False)
    prefix_hits: int = field(default=0, compare=False)
    prefix_misses: int = field(default=0, compare=False)


@runtime_checkable
class Backend(Protocol):
    """An engine.

    One that has an attribute `takes_turns`, which is True, also answers requests that carry the
    conversation (`Request.turns`) instead of token ids. It gets those where the checkpoint's
    tokenizer is not at hand.
    """

    def stream(self, request: Request) -> Generator[Delta, None, None]:
        """Answer a request, token by token; the last delta has a `finish_reason`.

        Closing the generator ends the request. May be called from any thread.

        Raises:
            BackendError: The engine failed.
            PromptError: The tiles do not fit the context tokens of the prompt.
            SchemaError: The grammar cannot be made.
            RequestTimeoutError: The request took longer than its `timeout`.
        """

    def close(self) -> None:
        """Free what the engine holds; requests that are running end with `BackendError`."""


async def astream(backend: Backend, request: Request) -> AsyncGenerator[Delta, None]:
    """Answer a request in an event loop.

    Backends may have an `astream` of their own, which blocks no thread; for others every step of
    `stream` is waited for in another thread.

    Raises:
        BackendError: The engine failed.
        InternVLError: Whatever else `stream` raises.
    """
    native = getattr(backend, "astream", None)
    if native is not None:
        async with aclosing(native(request)) as deltas:
            async for delta in deltas:
                yield delta
        return
    steps = _Steps(backend.stream(request))
    loop = asyncio.get_running_loop()
    try:
        while True:
            step = loop.run_in_executor(None, steps.next)
            step.add_done_callback(lambda done: done.cancelled() or done.exception())
            delta_or_end = await asyncio.shield(step)
            if delta_or_end is None:
                return
            yield delta_or_end
    finally:
        steps.close()


class _Steps:
    """A stream that one thread advances and another may close meanwhile."""

    def __init__(self, stream: Generator[Delta, None, None]) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._is_closed = False

    def next(self) -> Delta | None:
        """The next delta; None at the end."""
        try:
            with self._lock:
                return None if self._is_closed else next(self._stream, None)
        finally:
            if self._is_closed:
                self.close()

    def close(self) -> None:
        """End the stream: now, or by the thread that is in it, as soon as it comes out."""
        self._is_closed = True
        if self._lock.acquire(blocking=False):
            try:
                self._stream.close()
            finally:
                self._lock.release()
