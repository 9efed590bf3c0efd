"""LMDeploy's server by token ids.

The ids are those of the backends in this process, so no text can forge a control token. Requests
have `input_ids` and `image_data` in place of messages, and replies have ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from langchain_internvl.backends.lmdeploy.generation import (
    StopRule,
    eos_ids,
    json_schema_format,
    refuse_choices,
    sampling_parameters,
    schema_format,
    seed_of,
)
from langchain_internvl.backends.lmdeploy.prompts import fold
from langchain_internvl.backends.server.calls import CallFrame, call_schema
from langchain_internvl.backends.server.images import tile_url
from langchain_internvl.backends.token_reply import Logprobs, TokenReply
from langchain_internvl.errors import BrokenReplyError
from langchain_internvl.prompting.tool_formats import get_tool_format

if TYPE_CHECKING:
    from langchain_internvl.backends.base import Delta, Request, Usage
    from langchain_internvl.backends.server.events import Chunk
    from langchain_internvl.checkpoint import Checkpoint
    from langchain_internvl.prompting.tokenization import PromptTokenizer


class IdDialect:
    """Requests and replies by token ids.

    Args:
        checkpoint: The served checkpoint.
        tokenizer: Its tokenizer.
    """

    def __init__(self, checkpoint: Checkpoint, tokenizer: PromptTokenizer) -> None:
        self._checkpoint = checkpoint
        self._tokenizer = tokenizer
        self._tool_format = get_tool_format(checkpoint.language_model)
        self._eos_ids = eos_ids(checkpoint, tokenizer)

    def body(self, request: Request) -> dict[str, Any]:
        """The request as JSON; see `Dialect.body`."""
        refuse_choices(request)
        prompt = fold(request, self._tokenizer.image_context_id, self._checkpoint.tokens_per_tile)
        body: dict[str, Any] = {
            "messages": [],
            "input_ids": prompt.ids,
            "max_tokens": request.max_tokens,
            "ignore_eos": StopRule(request, self._eos_ids).ignores_eos,
            # If the engine handles end tokens itself, the end token is part of its output.
            "include_stop_str_in_output": True,
            "return_token_ids": True,
            "stream_options": {"include_usage": True},
            **sampling_parameters(request.sampling),
        }
        if prompt.tiles:
            body["image_data"] = [
                {"url": tile_url(tile), "max_dynamic_patch": 1} for tile in prompt.tiles
            ]
        seed = seed_of(request.sampling)
        schema = (
            json_schema_format(call_schema(request.tools, self._tool_format))
            if request.has_to_call
            else schema_format(request)
        )
        if seed is not None:
            body["seed"] = seed
        if schema is not None:
            body["response_format"] = schema
        if request.top_logprobs is not None:
            body |= {
                "logprobs": True,
                "top_logprobs": max(request.top_logprobs, 1),
                "return_logprob": True,
            }
        return body

    def reader(self, request: Request) -> _Reader:
        """A reader of its reply."""
        rule = StopRule(request, self._eos_ids)
        reply = TokenReply(request, self._tokenizer.token_bytes, rule.ids)
        frame = CallFrame(self._tool_format) if request.has_to_call else None
        return _Reader(reply, self._tokenizer, frame)


class _Reader:
    """Reads a reply of token ids."""

    def __init__(
        self, reply: TokenReply, tokenizer: PromptTokenizer, frame: CallFrame | None
    ) -> None:
        self._reply = reply
        self._tokenizer = tokenizer
        self._frame = frame

    def push(self, chunk: Chunk) -> Iterator[Delta]:
        """The deltas of a chunk."""
        ids = chunk.choice.get("output_ids")
        if ids is None:
            if chunk.delta.get("content"):
                raise BrokenReplyError(
                    "the server sent words without their token ids: it is no LMDeploy, or too old "
                    'for prompts by ids; use server_prompt="messages"'
                )
            return iter(())
        if not isinstance(ids, list) or not all(type(one) is int for one in ids):
            raise TypeError(f"output_ids are {ids!r}")
        deltas = self._reply.push(ids, self._logprobs(chunk.choice, ids))
        return deltas if self._frame is None else self._frame.around(deltas)

    def end(self, reason: str, usage: Usage | None) -> Delta:
        """The last delta."""
        last = self._reply.end(reason, usage)
        return last if self._frame is None else self._frame.of(last)

    def _logprobs(self, choice: Mapping[str, Any], ids: list[int]) -> list[Logprobs] | None:
        """Log probabilities of each token; the server names alternatives by vocabulary piece."""
        chosen = choice.get("output_token_logprobs")
        if not chosen:
            return None
        logprobs: list[dict[int, float]] = [{int(one): float(logprob)} for logprob, one in chosen]
        content = (choice.get("logprobs") or {}).get("content") or []
        for place, entry in zip(logprobs, content, strict=False):
            for other in entry.get("top_logprobs") or ():
                token_id = self._tokenizer.piece_id(other["token"])
                if token_id is not None:
                    place[token_id] = float(other["logprob"])
        return list(logprobs[: len(ids)])
