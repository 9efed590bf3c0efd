"""What goes wrong at a server, as errors of this package."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from langchain_internvl.backends.server.events import Fault, find_fault
from langchain_internvl.errors import (
    ContextOverflowError,
    InternVLError,
    ModelNotServedError,
    RequestError,
    ServerAccessError,
    ServerBusyError,
    ServerError,
    ServerUnavailableError,
)
from langchain_internvl.json_files import parse_json

_BY_STATUS: Mapping[int, type[ServerError]] = {
    401: ServerAccessError,
    403: ServerAccessError,
    404: ModelNotServedError,
    429: ServerBusyError,
    502: ServerUnavailableError,
    503: ServerUnavailableError,
    504: ServerUnavailableError,
}

_FAULTS_OF_THE_REQUEST = frozenset({400, 413, 422})

_OVERFLOWS = ("context length", "context_length", "session_len", "maximum model length")
"""How servers say that a prompt is too long; none has a code for it. LMDeploy: "Input length (70)
must be smaller than the model context length (64)"; vLLM: "maximum context length is 64"."""


def to_error(
    fault: Fault, request_id: str | None, retry_after: float | None = None
) -> InternVLError:
    """The error for a fault.

    Args:
        fault: What the server says.
        request_id: What the request is called.
        retry_after: Seconds after which the server wants to be asked again.
    """
    status, said = fault.status, fault.message
    if status in _FAULTS_OF_THE_REQUEST:
        refused = ContextOverflowError if is_overflow(said) else RequestError
        return refused(f"the server refuses the request: {said} (status {status})")
    advice = {
        401: "; give its key as api_key=",
        403: "; give its key as api_key=",
        404: "; name the model as the server does (served_model=), and the address with its /v1",
    }.get(status, "")
    kind = _BY_STATUS.get(status, ServerError)
    return kind(
        f"the server answers: {said} (status {status}){named(request_id)}{advice}",
        status=status,
        request_id=request_id,
        retry_after=retry_after,
    )


def named(request_id: str | None) -> str:
    """What a message says of the request, if it has got a name."""
    return "" if request_id is None else f" (request {request_id})"


def is_overflow(message: str) -> bool:
    """Whether a refusal is for a prompt that is too long."""
    return any(words in message.lower() for words in _OVERFLOWS)


def read_body(status: int, body: Any) -> Fault:
    """The fault of a response with an error status.

    Args:
        status: Its HTTP status, which counts.
        body: Its body: parsed JSON, text or bytes.
    """
    if isinstance(body, (str, bytes)):
        text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
        try:
            body = parse_json(text)
        except ValueError:
            return Fault(status, text.strip() or "nothing")
    told = find_fault(body) if isinstance(body, Mapping) else None
    return Fault(status, told.message if told is not None else json.dumps(body))


def can_retry(error: InternVLError) -> bool:
    """Whether the same request may succeed later: no connection, 429, and 5xx."""
    if isinstance(error, (ServerUnavailableError, ServerBusyError)):
        return True
    return isinstance(error, ServerError) and error.status is not None and error.status >= 500
