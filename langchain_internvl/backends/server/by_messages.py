"""Any server of OpenAI's protocol by messages: nothing is sent that only LMDeploy knows.

The server's own template writes the prompt, and its own parser reads calls of tools.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from langchain_internvl.backends.base import NO_TOKEN, Delta
from langchain_internvl.backends.lmdeploy.generation import (
    is_greedy,
    schema_format,
    seed_of,
)
from langchain_internvl.backends.server.messages import to_messages
from langchain_internvl.messages.conversation import ToolCall
from langchain_internvl.prompting.segments import Prompt
from langchain_internvl.prompting.tool_formats import HERMES
from langchain_internvl.reply_text.detokenization import TextStream
from langchain_internvl.reply_text.reasoning import CLOSE, OPEN, Reasoning

if TYPE_CHECKING:
    from langchain_internvl.backends.base import FinishReason, Request, Sampling, Usage
    from langchain_internvl.backends.server.events import Chunk


class MessageDialect:
    """Asks by messages."""

    def body(self, request: Request) -> dict[str, Any]:
        """The request as JSON; see `Dialect.body`.

        Stop texts are not sent, the reply is cut here: LMDeploy would end it at any token that has
        one in it, and keep what the token says before.
        """
        body: dict[str, Any] = {
            "messages": to_messages(request.turns),
            "max_tokens": request.max_tokens,
            "stream_options": {"include_usage": True},
            **_sampling(request.sampling),
        }
        seed = seed_of(request.sampling)
        schema = schema_format(request)
        if seed is not None:
            body["seed"] = seed
        if schema is not None:
            body["response_format"] = schema
        if request.tools:
            body |= {"tools": list(request.tools), "tool_choice": request.tool_choice}
            if request.single_call and request.tool_choice != "none":
                body["parallel_tool_calls"] = False
        body |= _reasoning(request.reasoning)
        if request.top_logprobs is not None:
            body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
        return body

    def reader(self, request: Request) -> _Reader:
        """A reader of its reply."""
        return _Reader(request)


def _reasoning(reasoning: Reasoning) -> dict[str, Any]:
    """In the words of LMDeploy, vLLM and SGLang; nothing is sent unless it is asked for."""
    if reasoning == "auto":
        return {}
    sent: dict[str, Any] = {"chat_template_kwargs": {"enable_thinking": reasoning is not False}}
    return sent if isinstance(reasoning, bool) else {**sent, "reasoning_effort": reasoning}


def _sampling(sampling: Sampling) -> dict[str, Any]:
    """In the words that LMDeploy, vLLM and SGLang share.

    `top_k` 1 makes LMDeploy greedy, which samples at temperature 0 too.
    """
    if is_greedy(sampling):
        parameters: dict[str, Any] = {"temperature": 0.0, "top_k": 1}
    else:
        parameters = {"temperature": float(sampling.temperature), "top_p": float(sampling.top_p)}
        if sampling.top_k:
            parameters["top_k"] = int(sampling.top_k)
    if sampling.repetition_penalty != 1:
        parameters["repetition_penalty"] = float(sampling.repetition_penalty)
    return parameters


class _Reader:
    """Reads a reply of words, and writes calls of tools as words in one format."""

    def __init__(self, request: Request) -> None:
        self._wants_logprobs = request.top_logprobs is not None
        self._text = TextStream({}, request.stop)
        self._calls: dict[int, dict[str, str]] = {}
        self._most_calls = 1 if request.single_call else None
        self._is_thinking = False
        self._may_think = True

    def push(self, chunk: Chunk) -> Iterator[Delta]:
        """The deltas of a chunk."""
        for call in chunk.delta.get("tool_calls") or ():
            self._add_call(call)
        content = chunk.delta.get("content") or ""
        if not isinstance(content, str):
            raise TypeError(f"content is {content!r}, which is no text")
        thoughts = self._thoughts(chunk.delta, ends=bool(content))
        text = thoughts + self._text.push_text(content)
        logprobs = self._logprobs(chunk.choice)
        if self._text.stopped_at is not None:
            yield Delta(NO_TOKEN, text + self._text.finish(), "stop", told_logprobs=logprobs)
        elif text or logprobs:
            yield Delta(NO_TOKEN, text, told_logprobs=logprobs)

    def end(self, reason: FinishReason, usage: Usage | None) -> Delta:
        """The last delta."""
        calls = [
            ToolCall(call["name"], call["arguments"]) for _, call in sorted(self._calls.items())
        ][: self._most_calls]
        written = HERMES.write_calls(calls, after_words=self._text.has_shown)
        text = (
            self._thoughts({}, ends=True) + self._text.finish() + Prompt(tuple(written)).to_text()
        )
        return Delta(NO_TOKEN, text, reason, usage=usage)

    def _thoughts(self, delta: Mapping[str, Any], *, ends: bool) -> str:
        """Thoughts that the server's parser took out of the reply, written as the model does.

        Args:
            delta: What a chunk adds.
            ends: Whether thoughts end with it.
        """
        told = delta.get("reasoning_content") or delta.get("reasoning") or ""
        if not isinstance(told, str):
            raise TypeError(f"thoughts are {told!r}, which is no text")
        text = ""
        if told and self._may_think:
            text = told if self._is_thinking else OPEN + told
            self._is_thinking = True
        if ends:
            text += CLOSE if self._is_thinking else ""
            self._is_thinking = self._may_think = False  # only a reply's beginning is thoughts
        return text

    def _add_call(self, call: Mapping[str, Any]) -> None:
        """Calls come in pieces, told apart by their index."""
        known = self._calls.setdefault(int(call.get("index") or 0), {"name": "", "arguments": ""})
        function = call.get("function") or {}
        for name in known:
            known[name] += function.get(name) or ""

    def _logprobs(self, choice: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
        if not self._wants_logprobs:
            return ()
        told = tuple((choice.get("logprobs") or {}).get("content") or ())
        if not all(isinstance(one, Mapping) for one in told):
            raise TypeError(f"logprobs are {told!r}")
        return told
