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
