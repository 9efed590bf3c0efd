"""The backend protocol, and the data classes of requests and replies.

Requests carry token ids and pixels; backends are independent of messages, templates and LangChain.
Where the tokenizer is not available on this machine (some servers), requests carry the turns of
the conversation instead.
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
"""Range of seeds that torch accepts, inclusive."""

NO_TOKEN = -1
"""`token_id` of deltas without a token, from engines that report text only."""

FinishReason = Literal["stop", "length"]

ToolChoice = Literal["auto", "none", "required"]
"""Whether tool calls are optional, forbidden or required."""


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
    """Sampling parameters.

    Attributes:
        temperature: Divisor of the logits; 0: greedy decoding.
        top_p: Nucleus sampling: keep the likeliest tokens up to this cumulative probability;
            1: all.
        top_k: Keep this many likeliest tokens; 0: all.
        repetition_penalty: Factor that lowers the logits of tokens already in the reply; 1: off.
        seed: Seed of the random generator; None: a new one for each request.

    Raises:
        RequestError: A value is out of range.
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
    """One of several candidate replies.

    Attributes:
        text: Its text.
        ids: Its token ids, with the end token.
    """

    text: str
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Request:
    """A generation request: the prompt of one reply and its parameters.

    Attributes:
        prompt_ids: Token ids of the whole prompt, image context tokens included; empty if the
            request has `turns`.
        tiles: Tiles of the images in prompt order, each uint8 [tiles, size, size, 3]. A `TileList`
            cuts them on access.
        sampling: Sampling parameters.
        max_tokens: Maximum number of tokens of the reply.
        stop_ids: Token ids that end the reply.
        stop: Stop strings; they are cut off.
        top_logprobs: Number of alternatives reported with each token (0 to 20); None: no log
            probabilities at all.
        timeout: Seconds until the request fails; None: no limit.
        grammar: Grammar that constrains the reply; None: unconstrained.
        markup: Special tokens that are part of the text of this reply, with their bytes (for
            example the delimiters of tool calls).
        choices: Candidate replies. The likeliest one becomes the reply, regardless of `sampling`;
            empty: free generation.
        turns: The conversation, for backends that take it instead of ids and tiles. It has text
            and images only: video frames and document pages are images.
        tools: Tool definitions in OpenAI's format, for servers that render tools or enforce calls
            themselves. Engines with a grammar ignore them.
        tool_choice: Whether a tool call is optional, forbidden or required.
        single_call: Whether the reply may have one tool call at most.
        tool_format: Format of tool calls in the reply's text; None: no tool calls.
        reasoning: Reasoning mode, for backends that take `turns`; otherwise the prompt sets it.
        template_kwargs: Arguments of the server's chat template.

    Raises:
        PromptError: The request has neither `prompt_ids` nor `turns`.
        RequestError: A parameter is out of range.
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
        """The images with their cache keys; a `TileList` is not cut for this."""
        if isinstance(self.tiles, TileList):
            return self.tiles.images
        return tuple(map(ImageTiles.of_array, self.tiles))

    @property
    def has_to_call(self) -> bool:
        """Whether the reply must be a call of one of the tools."""
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
    """Token counts as reported by the engine.

    Attributes:
        prompt_tokens: Tokens of the prompt.
        completion_tokens: Tokens of the reply.
        cached_tokens: Prompt tokens that were read from the prefix cache.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


@dataclass(frozen=True)
class Delta:
    """One increment of a streamed reply.

    Attributes:
        token_id: The sampled token, or `NO_TOKEN`.
        text: Text that is final now; often empty, because stop strings and incomplete characters
            are held back.
        finish_reason: Why the reply ends with this delta: a `FinishReason`, or another reason as a
            server reports it ("content_filter"); None: it continues.
        logprob: Natural logarithm of the token's probability before temperature, top_p and top_k;
            None: not requested.
        top_logprobs: The likeliest tokens at this position, if requested.
        choice_logprobs: Natural logarithms of the probabilities of the request's choices, in their
            order; in the last delta.
        openai_logprobs: Log probabilities in OpenAI's format, from engines without token ids.
        usage: Token counts of the engine; in the last delta, if at all.
        call_ids: Ids of the reply's tool calls in order, if the backend assigned any; in the delta
            that begins the calls.
    """

    token_id: int
    text: str = ""
    finish_reason: str | None = None
    logprob: float | None = None
    top_logprobs: tuple[TokenLogprob, ...] = ()
    choice_logprobs: tuple[float, ...] = ()
    openai_logprobs: tuple[Mapping[str, Any], ...] = ()
    usage: Usage | None = None
    call_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class EngineStats:
    """Counters of an engine.

    Attributes:
        active_rows: Number of running requests.
        queued: Number of waiting requests.
        kv_bytes: KV cache of the running requests, in bytes.
        decode_steps: Number of decode steps so far.
        feature_bytes: Cached vision features, in bytes.
        feature_hits: Images so far whose features came from the cache.
        feature_misses: Images so far that were encoded.
        prefix_bytes: Prefix cache (keys and values kept for later turns), in bytes.
        prefix_hits: Prompts so far with a cached prefix.
        prefix_misses: Prompts so far without a cached prefix.
        graph_steps: Decode steps so far that a CUDA graph ran.
    """

    active_rows: int = 0
    queued: int = 0
    kv_bytes: int = 0
    decode_steps: int = 0
    # Cache contents are not compared: they do not change what an engine is doing.
    feature_bytes: int = field(default=0, compare=False)
    feature_hits: int = field(default=0, compare=False)
    feature_misses: int = field(default=0, compare=False)
    prefix_bytes: int = field(default=0, compare=False)
    prefix_hits: int = field(default=0, compare=False)
    prefix_misses: int = field(default=0, compare=False)
    graph_steps: int = field(default=0, compare=False)


@runtime_checkable
class Backend(Protocol):
    """An engine that answers requests.

    A backend with an attribute `takes_turns = True` also accepts requests that carry the
    conversation (`Request.turns`) instead of token ids. It receives those where the checkpoint's
    tokenizer is not available.
    """

    def stream(self, request: Request) -> Generator[Delta, None, None]:
        """Answer a request, token by token; the last delta has a `finish_reason`.

        Closing the generator ends the request. May be called from any thread.

        Raises:
            BackendError: The engine failed.
            PromptError: The tiles do not fit the context tokens of the prompt.
            SchemaError: The grammar cannot be compiled.
            RequestTimeoutError: The request took longer than its `timeout`.
        """

    def close(self) -> None:
        """Free the engine's resources; running requests end with `BackendError`."""


async def astream(backend: Backend, request: Request) -> AsyncGenerator[Delta, None]:
    """Answer a request in an event loop.

    Uses the backend's own `astream` if it has one, which blocks no thread. Otherwise each step of
    `stream` runs in the loop's default executor.

    Raises:
        BackendError: The engine failed.
        InternVLError: Any other error of `Backend.stream`.
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
    """A stream that one thread advances while another thread may close it."""

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
        """Close the stream now, or, if a thread is inside it, as soon as that step returns."""
        self._is_closed = True
        if self._lock.acquire(blocking=False):
            try:
                self._stream.close()
            finally:
                self._lock.release()
