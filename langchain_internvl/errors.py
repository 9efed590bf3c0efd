"""Typed errors of this package.

All derive from `InternVLError`. Each also derives from the matching built-in exception, so that
`except ValueError` and `except FileNotFoundError` keep working.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from numbers import Integral
from pathlib import PurePath

from langchain_core.exceptions import ContextOverflowError as LangChainOverflowError


class InternVLError(Exception):
    """Base class of all errors of this package.

    The text of an error can always be printed and sent: unpaired surrogates, which stand for
    undecodable bytes in file names and which models write as escapes, are shown as escapes.
    """

    def __str__(self) -> str:
        return super().__str__().encode("utf-8", "backslashreplace").decode()


class MediaError(InternVLError, ValueError):
    """An image, video or document cannot be used.

    Attributes:
        source: The medium: a path, a URL, or the position of its content block.
        reason: The problem and its remedy.
    """

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"{source}: {reason}")
        self.source = source
        self.reason = reason

    def __reduce__(self) -> tuple[type[MediaError], tuple[str, str]]:
        return type(self), (self.source, self.reason)


class UnsupportedMediaError(MediaError):
    """The format of the medium is not supported."""


class MediaTooLargeError(MediaError):
    """The medium exceeds a limit of the `MediaPolicy`."""


class MediaFetchError(MediaError):
    """A URL could not be fetched, or the `MediaPolicy` forbids the request."""


class MessageError(InternVLError, ValueError):
    """A message has content that cannot be turned into a prompt."""


class PromptError(InternVLError, ValueError):
    """A prompt does not match its media or its chat template."""


class ContextOverflowError(PromptError, LangChainOverflowError):
    """A prompt is longer than the model's context window.

    Derives from LangChain's error of the same name, which middleware catches.
    """


class CheckpointError(InternVLError):
    """A checkpoint cannot be used."""


class CheckpointNotFoundError(CheckpointError, FileNotFoundError):
    """The checkpoint, or one of its files, does not exist."""


class UnsupportedCheckpointError(CheckpointError, ValueError):
    """The architecture or format of the checkpoint is not supported."""


class RequestError(InternVLError, ValueError):
    """A parameter of a request is unknown or out of range."""


class SchemaError(RequestError):
    """A JSON schema uses a keyword or value that constrained decoding cannot enforce."""


class RequestTimeoutError(InternVLError, TimeoutError):
    """A request took longer than its `timeout` (seconds)."""


class BackendError(InternVLError, RuntimeError):
    """The engine failed while processing a request."""


class EngineBusyError(BackendError):
    """The queue of waiting requests is full."""


class EngineMemoryError(BackendError, MemoryError):
    """A request does not fit into memory; the engine keeps serving other requests."""


class EngineUnavailableError(BackendError, ConnectionError):
    """The engine, or its server, is unreachable or accepts no requests at present."""


class ServerError(BackendError):
    """A server returned an error or an invalid response.

    Attributes:
        status: HTTP status of the response or of its error object; None: unknown.
        request_id: Value of the request's header `X-Request-Id`; None: not sent.
        retry_after: Seconds to wait before the next attempt (`Retry-After`); None: not given.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.request_id = request_id
        self.retry_after = retry_after


class ServerUnavailableError(ServerError, EngineUnavailableError):
    """The server is unreachable or accepts no requests at present (for example 503)."""


class ServerBusyError(ServerError, EngineBusyError):
    """The server rejected the request because of too many requests (429)."""


class ServerAccessError(ServerError, PermissionError):
    """The server rejected the `api_key` (401, 403)."""


class ModelNotServedError(ServerError, LookupError):
    """The server does not serve the requested model (404)."""


class BrokenReplyError(ServerError):
    """A streamed reply ended early, or the response is malformed."""


MODEL_ERRORS = (CheckpointError, ModelNotServedError, ServerAccessError)
"""Errors of the model, or of the access to its server, that every request may get."""

_MOST_IN_A_ROW = 20


class RunGuard:
    """Decides which errors end a run over many pages, files or cases.

    One of `MODEL_ERRORS` ends it before the first success: the model cannot be used at all. Later
    it may be of one input (a firewall refuses a page) or of a moment (a gateway restarts), unless
    20 come in a row.
    """

    def __init__(self) -> None:
        self._has_succeeded = False
        self._failed = 0

    def succeeded(self) -> None:
        """Take note of a success."""
        self._has_succeeded = True
        self._failed = 0

    def ends(self, error: object) -> bool:
        """Whether an error ends the run."""
        if not isinstance(error, MODEL_ERRORS):
            return False
        self._failed += 1
        return not self._has_succeeded or self._failed >= _MOST_IN_A_ROW


def check_concurrency(value: object) -> None:
    """Refuses what is no number of requests in flight.

    Raises:
        RequestError: It is no whole number from 1.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise RequestError(f"concurrency is a whole number from 1, not {value!r}")


def check_chat_model(value: object) -> None:
    """Refuse the name or the class of a chat model in its place.

    Raises:
        RequestError: It is a name, a path or a class.
    """
    if isinstance(value, (str, PurePath, type)):
        raise RequestError(f"llm is a chat model, such as ChatInternVL(model=...), not {value!r}")


def did_you_mean(name: object, known: Iterable[str], cutoff: float = 0.6) -> str:
    """End of an error message about an unknown name: the most similar known one, if any is.

    Args:
        name: The unknown name.
        known: The known names.
        cutoff: Least similarity, as `difflib.get_close_matches` defines it.
    """
    near = difflib.get_close_matches(str(name), list(known), n=1, cutoff=cutoff)
    return f"; did you mean {near[0]!r}?" if near else ""
