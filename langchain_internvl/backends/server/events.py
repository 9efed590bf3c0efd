"""What the events of a streamed reply say.

Servers send events whose data are JSON, and end with `[DONE]`. LMDeploy's proxy also sends errors
in this way, with status 200.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langchain_internvl.backends.server.event_stream import DONE, ServerEvent
from langchain_internvl.backends.server.finish_reasons import sent_reason
from langchain_internvl.errors import BrokenReplyError
from langchain_internvl.json_files import parse_json

_ERROR = "error"
"""Name of events that are errors, whatever their data look like."""

_UNNAMED = ("", "message")
"""Names of events that have parts of the reply; the standard has both mean the same."""

_CHUNK = "chat.completion.chunk"
"""`object` of the events of a stream."""

_SAYING = ("content", "tool_calls", "function_call", "reasoning_content", "reasoning", "refusal")


@dataclass(frozen=True)
class Chunk:
    """A chunk of the reply.

    Attributes:
        delta: Increment of the message.
        finish_reason: The finish reason as the server spells it; None: the reply continues.
        choice: The whole `choices[0]`; empty in a chunk that has only usage.
        usage: Token counts; None: not sent.
        may_be_last: Whether a stream may end after this chunk, though it sent no finish reason: a
            whole reply, or token counts without choices, which servers send after the last part.
            Counts beside choices may come with every part.
    """

    delta: Mapping[str, Any]
    finish_reason: str | None
    choice: Mapping[str, Any]
    usage: Mapping[str, Any] | None
    may_be_last: bool = False

    @property
    def says_something(self) -> bool:
        """Whether the chunk has content: text, thoughts, a tool call or tokens."""
        return bool(self.choice.get("output_ids")) or any(map(self.delta.get, _SAYING))


@dataclass(frozen=True)
class Fault:
    """An error in place of a reply.

    Attributes:
        status: The equivalent HTTP status.
        message: The server's error message.
    """

    status: int
    message: str


@dataclass(frozen=True)
class Done:
    """The end marker of a stream, `[DONE]`."""


Event = Chunk | Fault | Done

_PROXY_STATUS: Mapping[Any, int] = {10400: 404, 10401: 503, 10402: 504}
"""HTTP statuses of the error codes of LMDeploy's proxy: unknown model, no node, failed node."""


_REFUSALS = frozenset({"context_length_exceeded", "invalid_request_error"})
"""OpenAI's error types, used in place of a status, of requests that fail on every attempt."""


def read_event(sent: ServerEvent, index: str | None = None) -> Event:
    """What an event says.

    Args:
        sent: The event.
        index: Index of the reply among the server's choices; None: not known yet.

    Raises:
        BrokenReplyError: The data are not JSON, or not part of a chat completion.
    """
    text = sent.data.strip()
    if text == DONE:
        return Done()
    if sent.name not in (*_UNNAMED, _ERROR) and '"choices"' not in text and '"error' not in text:
        return Chunk({}, None, {}, None)  # such as `ping`, which keeps the connection open
    try:
        payload = parse_json(text)
        if isinstance(payload, str):  # the proxy wraps some of its errors twice
            payload = parse_json(payload)
    except ValueError as error:
        if sent.name == _ERROR:
            return Fault(500, text)
        raise BrokenReplyError(
            f"the server sent an event that cannot be read as JSON ({error}): {text}"
        ) from None
    if sent.name == _ERROR and (not isinstance(payload, Mapping) or find_fault(payload) is None):
        return Fault(_status(payload) if isinstance(payload, Mapping) else 500, text)
    if not isinstance(payload, Mapping):
        raise BrokenReplyError(f"the server sent no reply, but {text}")
    return _read(payload, index)


def index_of(choice: Mapping[str, Any]) -> str:
    """The index of a choice, which some servers send as text; one without has index 0."""
    return str(choice.get("index") or 0)


def _read(payload: Mapping[str, Any], index: str | None) -> Event:
    fault = find_fault(payload)
    if fault is not None:
        return fault
    choices = payload.get("choices")
    usage = payload.get("usage")
    usage = usage if isinstance(usage, Mapping) else None
    if choices is None and (usage is not None or "choices" in payload):
        choices = []  # as some servers send token counts, and gateways chunks that say nothing
    if not isinstance(choices, list):
        raise BrokenReplyError(f"the server's reply has no choices: {json.dumps(payload)}")
    is_count = not choices and usage is not None
    # One reply is requested; the chunks of others, which some servers send, have other indices.
    if index is not None:
        choices = [one for one in choices if not isinstance(one, Mapping) or index_of(one) == index]
    if not choices:
        return Chunk({}, None, {}, usage, is_count)
    choice = choices[0]
    if not isinstance(choice, Mapping):
        raise BrokenReplyError(f"the server's choice is {choice!r}, which is none")
    # A server may return a whole message although `stream` was true.
    delta = choice.get("delta") or choice.get("message") or {"content": choice.get("text")}
    if not isinstance(delta, Mapping):
        raise BrokenReplyError(f"the server's choice is {choice}, which is none")
    is_whole = not choice.get("delta") and payload.get("object") != _CHUNK
    return Chunk(delta, sent_reason(choice), choice, usage, is_whole and "message" in choice)


def find_fault(payload: Mapping[str, Any]) -> Fault | None:
    """The error in a JSON object, in any of the formats in use; None if there is none."""
    if "error_code" in payload:  # LMDeploy's proxy
        code = payload["error_code"]
        status = _PROXY_STATUS.get(code, 500) if isinstance(code, int) else 500
        return Fault(status, f"{payload.get('text')} (proxy: {code})")
    error = payload.get("error")
    if isinstance(error, Mapping):  # OpenAI, and LMDeploy in the middle of a stream
        return Fault(_status(error), _message(error))
    if error:  # LMDeploy's proxy, when its own stream fails
        return Fault(_status(payload), str(payload.get("message") or error))
    if payload.get("object") == "error" or ("message" in payload and "choices" not in payload):
        return Fault(_status(payload), _message(payload))  # LMDeploy and vLLM: flat
    if "detail" in payload and "choices" not in payload:  # FastAPI
        return Fault(_status(payload), str(payload["detail"]))
    return None


def _status(error: Mapping[str, Any]) -> int:
    for name in ("code", "status", "status_code"):
        value = error.get(name)
        if isinstance(value, str) and value.isascii() and value.isdigit():
            value = int(value[:4])
        if isinstance(value, int) and 400 <= value < 600:
            return value
    names = {error.get(name) for name in ("code", "type") if isinstance(error.get(name), str)}
    return 400 if names & _REFUSALS else 500


def _message(error: Mapping[str, Any]) -> str:
    message = str(error.get("message") or dict(error))
    code = error.get("code")
    if isinstance(code, str) and code in _REFUSALS and code not in message:
        return f"{message} ({code})"
    return message
