"""The lines of a streamed reply to events.

Servers send `data: {...}` lines and end with `data: [DONE]`. LMDeploy's proxy also writes bare JSON
lines, of errors that it answers with status 200.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langchain_internvl.errors import BrokenReplyError
from langchain_internvl.json_files import parse_json

_SAYING = ("content", "tool_calls", "function_call", "reasoning_content", "reasoning", "refusal")


@dataclass(frozen=True)
class Chunk:
    """A piece of the reply.

    Attributes:
        delta: What it adds to the message.
        finish_reason: Why the reply ends here, if it does.
        choice: All that was said of the reply; empty in a chunk of usage alone.
        usage: The count of tokens, if it was sent.
    """

    delta: Mapping[str, Any]
    finish_reason: str | None
    choice: Mapping[str, Any]
    usage: Mapping[str, Any] | None

    @property
    def says_something(self) -> bool:
        """Whether the reply has begun with it: words, thoughts, a call, or tokens."""
        return bool(self.choice.get("output_ids")) or any(map(self.delta.get, _SAYING))


@dataclass(frozen=True)
class Fault:
    """An error in place of a reply.

    Attributes:
        status: The HTTP status that it stands for.
        message: What the server says.
    """

    status: int
    message: str


@dataclass(frozen=True)
class Done:
    """The server has said that nothing follows."""


Event = Chunk | Fault | Done

_PROXY_STATUS: Mapping[Any, int] = {10400: 404, 10401: 503, 10402: 504}
"""What the codes of LMDeploy's proxy stand for: no such model, no node, a node that failed."""


_REFUSALS = frozenset({"context_length_exceeded", "invalid_request_error"})
"""Words of OpenAI's, in place of a status, for requests that fail each time they are made."""


def read_line(line: str) -> Event | None:
    """The event of a line; None if it says nothing (blank lines, comments, names of events).

    Raises:
        BrokenReplyError: It is no reply of a chat.
    """
    text = line.strip()
    if text.startswith("data:"):
        text = text.removeprefix("data:").strip()
        if text == "[DONE]":
            return Done()
    elif not text.startswith(("{", '"', "[")):
        return None
    try:
        payload = parse_json(text)
        if isinstance(payload, str):  # the proxy wraps some of its errors twice
            payload = parse_json(payload)
    except ValueError:
        raise BrokenReplyError(f"the server sent a line that is no JSON: {text}") from None
    if not isinstance(payload, Mapping):
        raise BrokenReplyError(f"the server sent no reply, but {text}")
    return _read(payload)


def _read(payload: Mapping[str, Any]) -> Event:
    fault = find_fault(payload)
    if fault is not None:
        return fault
    choices = payload.get("choices")
    usage = payload.get("usage")
    usage = usage if isinstance(usage, Mapping) else None
    if not isinstance(choices, list):
        raise BrokenReplyError(f"the server's reply has no choices: {json.dumps(payload)}")
    if not choices:
        return Chunk({}, None, {}, usage)
    choice = choices[0]
    if not isinstance(choice, Mapping):
        raise BrokenReplyError(f"the server's choice is {choice!r}, which is none")
    # A server may answer with a whole message although a stream was asked for.
    delta = choice.get("delta") or choice.get("message") or {}
    reason = choice.get("finish_reason")
    if not isinstance(delta, Mapping) or not isinstance(reason, (str, type(None))):
        raise BrokenReplyError(f"the server's choice is {choice}, which is none")
    return Chunk(delta, reason, choice, usage)


def find_fault(payload: Mapping[str, Any]) -> Fault | None:
    """The error that a JSON object tells, in any of the shapes in use; None if it tells none."""
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
    told = {error.get(name) for name in ("code", "type") if isinstance(error.get(name), str)}
    return 400 if told & _REFUSALS else 500


def _message(error: Mapping[str, Any]) -> str:
    message = str(error.get("message") or dict(error))
    code = error.get("code")
    if isinstance(code, str) and code in _REFUSALS and code not in message:
        return f"{message} ({code})"
    return message
