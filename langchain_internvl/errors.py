"""Every error that this package raises on purpose.

All derive from `InternVLError`; each also derives from the built-in exception its readers would
expect, so that `except ValueError` and `except FileNotFoundError` keep working.
"""

from __future__ import annotations

from langchain_core.exceptions import ContextOverflowError as LangChainOverflowError


class InternVLError(Exception):
    """Base of every error that this package raises on purpose."""


class MediaError(InternVLError, ValueError):
    """An image, video or document cannot be used.

    Attributes:
        source: What could not be used: a path, a URL, or the place of the block.
        reason: What is wrong and what to do about it.
    """

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"{source}: {reason}")
        self.source = source
        self.reason = reason

    def __reduce__(self) -> tuple[type[MediaError], tuple[str, str]]:
        return type(self), (self.source, self.reason)


class UnsupportedMediaError(MediaError):
    """The medium is of a kind that cannot be read here."""


class MediaTooLargeError(MediaError):
    """The medium is over a limit of the `MediaPolicy`."""


class MediaFetchError(MediaError):
    """A URL could not be fetched, or the `MediaPolicy` forbids to."""


class MessageError(InternVLError, ValueError):
    """A message holds something that cannot be shown to the model."""


class PromptError(InternVLError, ValueError):
    """A prompt and its media, or its template, do not fit together."""


class ContextOverflowError(PromptError, LangChainOverflowError):
    """A prompt is longer than the model's context window.

    Also LangChain's error of that name, which middleware looks for.
    """


class CheckpointError(InternVLError):
    """A checkpoint cannot be used."""


class CheckpointNotFoundError(CheckpointError, FileNotFoundError):
    """The checkpoint, or one of its files, is not there."""


class UnsupportedCheckpointError(CheckpointError, ValueError):
    """The checkpoint is of a kind that cannot be loaded here."""


class RequestError(InternVLError, ValueError):
    """A setting of a request is out of range or unknown."""


class SchemaError(RequestError):
    """A JSON schema holds something that a reply cannot be guaranteed to keep."""


class RequestTimeoutError(InternVLError, TimeoutError):
    """A request took longer than its `timeout`."""


class BackendError(InternVLError, RuntimeError):
    """The engine failed while it worked on a request."""


class EngineBusyError(BackendError):
    """Too many requests are waiting."""


class EngineMemoryError(BackendError, MemoryError):
    """There is no memory for a request; the engine goes on."""


class EngineUnavailableError(BackendError, ConnectionError):
    """The engine, or the server that has it, cannot be reached or takes no requests now."""


class ServerError(BackendError):
    """A server answered with an error, or with something that is no reply.

    Attributes:
        status: HTTP status, or the one that its error stands for; None: there was none.
        request_id: What the request is called in the header `X-Request-Id`; None: it got none.
        retry_after: Seconds after which the server wants to be asked again, if it says so.
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
    """The server cannot be reached, or takes no requests now."""


class ServerBusyError(ServerError, EngineBusyError):
    """The server has too many requests (429)."""


class ServerAccessError(ServerError, PermissionError):
    """The server does not accept the `api_key` (401, 403)."""


class ModelNotServedError(ServerError, LookupError):
    """The server has no model of that name (404)."""


class BrokenReplyError(ServerError):
    """A reply that began broke off, or what came is no reply at all."""
