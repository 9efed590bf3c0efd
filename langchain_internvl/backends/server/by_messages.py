"""Any server with OpenAI's API by messages, with the request fields of its kind.

The server's own template renders the prompt, and its own parser reads tool calls.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_internvl.backends.base import NO_TOKEN, Delta
from langchain_internvl.backends.lmdeploy.generation import is_greedy, schema_format
from langchain_internvl.backends.server.content import read_content
from langchain_internvl.backends.server.images import grid_of
from langchain_internvl.backends.server.kinds import OTHER, ServerKind, tile_fields
from langchain_internvl.backends.server.messages import images_of, to_messages
from langchain_internvl.errors import RequestError
from langchain_internvl.messages.conversation import ToolCall
from langchain_internvl.prompting.segments import Prompt, Words
from langchain_internvl.prompting.tool_formats import HERMES
from langchain_internvl.reply_text.detokenization import TextStream
from langchain_internvl.reply_text.reasoning import CLOSE, OPEN, Reasoning

if TYPE_CHECKING:
    from langchain_internvl.backends.base import Request, Sampling, Usage
    from langchain_internvl.backends.server.events import Chunk


_END_MARKS = ("<|im_end|>", "<|end|>", "<|endoftext|>")
"""End tokens of InternVL's templates, which servers may leave in replies with special tokens."""


class MessageDialect:
    """Prompts a server by messages.

    Args:
        kind: The kind of server.
    """

    def __init__(self, kind: ServerKind = OTHER) -> None:
        self.kind = kind

    def body(self, request: Request) -> dict[str, Any]:
        """The request as JSON; see `Dialect.body`.

        Stop strings are not sent but applied on this machine: LMDeploy ends a reply at any token
        that contains one, and keeps the token's text before it.

        Raises:
            RequestError: This kind of server has no `chat_template_kwargs`.
        """
        kind = self.kind
        grids = [grid_of(image) for image in images_of(request.turns)]
        of_images, of_request = tile_fields(kind, grids)
        body: dict[str, Any] = {
            "messages": to_messages(request.turns, of_images),
            "max_tokens": request.max_tokens,
            "stream_options": {"include_usage": True},
            **_sampling(request.sampling, kind),
            **of_request,
        }
        schema = schema_format(request)
        if request.sampling.seed is not None:
            body["seed"] = request.sampling.seed % kind.seeds
        if schema is not None:
            body["response_format"] = schema
        if request.tools:
            body |= {"tools": list(request.tools), "tool_choice": request.tool_choice}
            if request.single_call and request.tool_choice != "none":
                body["parallel_tool_calls"] = False
        if request.top_logprobs is not None:
            body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
        if kind.skips_special_tokens:
            body["skip_special_tokens"] = False  # <ref> and <box> are special
        if isinstance(request.reasoning, str) and request.reasoning != "auto":
            body["reasoning_effort"] = request.reasoning
        template_kwargs = {**_thinking(request.reasoning, kind), **request.template_kwargs}
        if template_kwargs:
            if not kind.takes_template_kwargs:
                raise RequestError(f"{kind.name} has no chat_template_kwargs; leave them out")
            body["chat_template_kwargs"] = template_kwargs
        return body

    def reader(self, request: Request) -> _Reader:
        """A reader of its reply."""
        is_plain = request.grammar is None and not request.tools
        marks = _END_MARKS if self.kind.skips_special_tokens and is_plain else ()
        return _Reader(request, [*request.stop, *marks])


def _thinking(reasoning: Reasoning, kind: ServerKind) -> dict[str, Any]:
    """Arguments of the server's chat template that turn reasoning on or off.

    Raises:
        RequestError: `reasoning` is False, and this kind of server has no template arguments.
    """
    if reasoning == "auto":
        return {}
    if kind.takes_template_kwargs:
        return {"enable_thinking": reasoning is not False}
    if reasoning is False:
        raise RequestError(
            f"reasoning=False: {kind.name} has no chat_template_kwargs, which switch thoughts off; "
            'leave it "auto"'
        )
    return {}  # the system text asks for thoughts


def _sampling(sampling: Sampling, kind: ServerKind) -> dict[str, Any]:
    """Sampling fields, which LMDeploy, vLLM and SGLang share except for the repetition penalty.

    Greedy decoding sends `top_k` 1 because LMDeploy samples at temperature 0 too.
    """
    if is_greedy(sampling):
        parameters: dict[str, Any] = {"temperature": 0.0, "top_k": 1}
    else:
        parameters = {"temperature": float(sampling.temperature), "top_p": float(sampling.top_p)}
        parameters |= kind.sampling
        if sampling.top_k:
            parameters["top_k"] = int(sampling.top_k)
    if sampling.repetition_penalty != 1:
        parameters[kind.repetition_penalty] = float(sampling.repetition_penalty)
    return parameters


@dataclass
class _Call:
    """A tool call whose pieces arrive one after the other."""

    index: int
    key: object
    name: str = ""
    arguments: str = ""

    def is_followed_by(self, name: str, key: object, arguments: str, index: object) -> bool:
        """Whether a piece with a name begins another call; see `_Reader._add_call`."""
        if key and self.key:
            return key != self.key
        if name == self.name or (index is not None and name.startswith(self.name)):
            return self._is_whole() and (index is None or bool(arguments))
        return index is None or bool(self.arguments)

    def _is_whole(self) -> bool:
        """Whether the arguments so far are an object."""
        try:
            return isinstance(json.loads(self.arguments), dict)
        except (RecursionError, ValueError):
            return False


class _Reader:
    """Reads a reply of text, and renders its tool calls as text in one tool format."""

    def __init__(self, request: Request, stop: Sequence[str]) -> None:
        self._wants_logprobs = request.top_logprobs is not None
        self._text = TextStream({}, stop)
        self._half = ""  # a high surrogate whose low surrogate is in the next chunk
        self._calls: list[_Call] = []
        self._most_calls = 1 if request.single_call else None
        self._is_thinking = False
        self._may_think = True

    def push(self, chunk: Chunk) -> Iterator[Delta]:
        """The deltas of a chunk."""
        for call in chunk.delta.get("tool_calls") or ():
            self._add_call(call)
        legacy = chunk.delta.get("function_call")  # OpenAI's, before tools
        if legacy:
            self._add_call({"index": 0, "function": legacy})
        thoughts, content = read_content(chunk.delta)
        content = self._whole(content)
        thoughts = self._thoughts(thoughts, ends=bool(content))
        text = thoughts + self._text.push_text(content)
        logprobs = self._logprobs(chunk.choice)
        if self._text.stopped_at is not None:
            yield Delta(NO_TOKEN, text + self._text.finish(), "stop", openai_logprobs=logprobs)
        elif text or logprobs:
            yield Delta(NO_TOKEN, text, openai_logprobs=logprobs)

    def end(self, reason: str, usage: Usage | None) -> Delta:
        """The last delta."""
        ordered = sorted(self._calls, key=lambda call: call.index)
        calls = [ToolCall(call.name, call.arguments) for call in ordered][: self._most_calls]
        written = HERMES.write_calls(calls, after_words=self._text.has_shown)
        rest = self._text.push_text("\ufffd" if self._half else "")
        text = (
            self._thoughts("", ends=True)
            + rest
            + self._text.finish()
            + Prompt(tuple(written)).to_text()
        )
        return Delta(NO_TOKEN, text, reason, usage=usage)

    def _thoughts(self, thoughts: str, *, ends: bool) -> str:
        """Thoughts that the server's parser separated from the reply, with the model's tags.

        Args:
            thoughts: The thoughts in a chunk.
            ends: Whether the thoughts end with this chunk.
        """
        text = ""
        if thoughts and self._may_think:
            text = thoughts if self._is_thinking else OPEN + thoughts
            self._is_thinking = True
        if ends:
            text += CLOSE if self._is_thinking else ""
            self._is_thinking = self._may_think = False  # thoughts are at the beginning only
        return text

    def _whole(self, content: str) -> str:
        """Content without lone surrogates, which JSON can express; split pairs are joined."""
        content, self._half = self._half + content, ""
        if "\ud800" <= content[-1:] <= "\udbff":
            content, self._half = content[:-1], content[-1]
        return Words(content).text

    def _add_call(self, call: Mapping[str, Any]) -> None:
        """Add a piece of a tool call.

        Pieces of one call have the same index. Some servers send none, or 0 for all calls: another
        id, or without ids another name, begins another call then. Some repeat the name in each
        piece, or send what they have of it so far.
        """
        function = call.get("function") or {}
        name, key = function.get("name") or "", call.get("id")
        index = call.get("index")
        same = [one for one in self._calls if index is None or one.index == int(index)]
        known = same[-1] if same else None
        arguments = function.get("arguments") or ""
        if isinstance(arguments, Mapping):  # not as the text that OpenAI's protocol has
            arguments = json.dumps(arguments, ensure_ascii=False)
        if known is None or (name and known.is_followed_by(name, key, arguments, index)):
            known = _Call(len(self._calls) if index is None else int(index), key)
            self._calls.append(known)
        if name.startswith(known.name):
            known.name = name
        elif not known.arguments:
            known.name += name
        known.arguments += arguments

    def _logprobs(self, choice: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
        if not self._wants_logprobs:
            return ()
        logprobs = tuple((choice.get("logprobs") or {}).get("content") or ())
        if not all(isinstance(one, Mapping) for one in logprobs):
            raise TypeError(f"logprobs are {logprobs!r}")
        return logprobs
