"""Errors of servers, mapped to those of this package."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from langchain_internvl.backends.server.events import Fault, find_fault
from langchain_internvl.backends.server.kinds import USUAL_TILES
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
"""Messages about prompts that are too long, for which no server has an error code. LMDeploy: "Input
length (70) must be smaller than the model context length (64)"; vLLM: "maximum context length is
64"."""


def to_error(
    fault: Fault, request_id: str | None, retry_after: float | None = None
) -> InternVLError:
    """The typed error for a server's error object.

    Args:
        fault: Status and message.
        request_id: Value of `X-Request-Id`; None: not sent.
        retry_after: Seconds of `Retry-After`; None: not given.
    """
    status, said = fault.status, fault.message
    if status in _FAULTS_OF_THE_REQUEST:
        refused = ContextOverflowError if is_overflow(said) else RequestError
        return refused(
            f"the server refuses the request: {said} (status {status}){_advice_about(said)}"
        )
    advice = {
        401: "; give its key as api_key=",
        403: "; give its key as api_key=",
        404: "; name the model as the server does (served_model=), and the address with its /v1",
    }.get(status, "; give the address that it redirects to as base_url=" if status < 400 else "")
    kind = _BY_STATUS.get(status, ServerError)
    return kind(
        f"the server answers: {said} (status {status}){named(request_id)}{advice}",
        status=status,
        request_id=request_id,
        retry_after=retry_after,
    )


_TRUST = "Per-request mm_processor_kwargs are disabled"
"""vLLM 0.33 without `--trust-request-mm-kwargs`; the field raises its limit on tiles."""


def _advice_about(message: str) -> str:
    """What to do about a refused request; "": only the server's message says."""
    if _TRUST in message:
        return (
            "; start vLLM with --trust-request-mm-kwargs, or limit the images to its own number "
            f"of tiles (max_tiles of at most {USUAL_TILES})"
        )
    return ""


def named(request_id: str | None) -> str:
    """Suffix of error messages with the request id; "" without one."""
    return "" if request_id is None else f" (request {request_id})"


def is_overflow(message: str) -> bool:
    """Whether an error message is about a prompt that is too long."""
    return any(words in message.lower() for words in _OVERFLOWS)


def read_body(status: int, body: Any) -> Fault:
    """The error object of a response with an error status.

    Args:
        status: Its HTTP status, which overrides one in the body.
        body: Its body: parsed JSON, text or bytes.
    """
    if isinstance(body, (str, bytes)):
        text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
        try:
            body = parse_json(text)
        except ValueError:
            return Fault(status, text.strip() or "nothing")
    fault = find_fault(body) if isinstance(body, Mapping) else None
    return Fault(status, fault.message if fault is not None else json.dumps(body))


def can_retry(error: InternVLError) -> bool:
    """Whether the same request may succeed later: no connection, 429, and 5xx."""
    if isinstance(error, (ServerUnavailableError, ServerBusyError)):
        return True
    return isinstance(error, ServerError) and error.status is not None and error.status >= 500
