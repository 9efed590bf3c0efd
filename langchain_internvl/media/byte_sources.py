"""Sources of the encoded bytes of media.

A source has a name (for error messages) and a method `read`; nothing is opened, downloaded or
decoded before `read` is called.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import string
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from langchain_internvl.errors import MediaError, MediaTooLargeError

if TYPE_CHECKING:
    from langchain_internvl.media.policy import MediaPolicy


_LONGEST_NAME = 200
"""Characters of a path or URL in error messages."""

_PIECE = 1 << 20
"""Bytes that are searched at a time."""


class Source(Protocol):
    """Anything a medium can be read from."""

    @property
    def name(self) -> str:
        """Name in error messages."""

    def read(self, policy: MediaPolicy) -> bytes:
        """The encoded bytes.

        Raises:
            MediaError: The medium cannot be read, or exceeds a limit of the policy.
        """


@dataclass(frozen=True)
class BytesSource:
    """Encoded bytes in memory."""

    data: bytes
    name: str

    def read(self, policy: MediaPolicy) -> bytes:
        """The bytes, if they are within the limit."""
        return _within_limit(self.data, self.name, policy)

    @cached_property
    def sha256(self) -> bytes:
        """Hash of the bytes, for the store of media and the cache of features."""
        return hashlib.sha256(self.data).digest()

    @cached_property
    def jpeg_scans(self) -> int:
        """See `count_scans`; counted once, because a page is opened for its size and its pixels."""
        return count_scans(self.data)


@dataclass(frozen=True)
class Base64Source:
    """Bytes in base64, decoded by `read`."""

    data: str
    name: str

    def read(self, policy: MediaPolicy) -> bytes:
        """The decoded bytes."""
        if self._exceeds(policy.max_bytes):
            raise _too_large(self.name, policy)
        return _within_limit(decode_base64(self.data, self.name), self.name, policy)

    def _exceeds(self, max_bytes: int) -> bool:
        """Whether the data, without line breaks, are surely longer; nothing is copied."""
        most = (max_bytes + 3) * 4 // 3 + 4
        return (
            len(self.data) > most
            and len(self.data) - sum(map(self.data.count, string.whitespace)) > most
        )


@dataclass(frozen=True)
class PathSource:
    """A local file."""

    path: Path

    @property
    def name(self) -> str:
        """The path as it was given, shortened."""
        return _shortened(str(self.path))

    def read(self, policy: MediaPolicy) -> bytes:
        """The bytes of the file; at most the limit is read."""
        path = self.check(policy)
        try:
            with Path(path).open("rb") as file:
                return _within_limit(file.read(policy.max_bytes + 1), self.name, policy)
        except OSError as error:
            raise self._unreadable(error) from error

    def check(self, policy: MediaPolicy) -> str:
        """The absolute path, of a regular file that is within the limit of bytes."""
        try:
            if self.path.is_file():
                if self.path.stat().st_size > policy.max_bytes:
                    raise _too_large(self.name, policy)
                return str(self.path.absolute())
            reason = "is not a regular file" if self.path.exists() else "no such file"
        except MediaTooLargeError:
            raise
        except (OSError, ValueError) as error:
            raise self._unreadable(error) from error
        raise MediaError(self.name, reason + self._hint)

    def fingerprint(self) -> tuple[str, int, int] | None:
        """Path, size in bytes and modification time; None if the file does not exist."""
        try:
            state = self.path.stat()
        except (OSError, ValueError):
            return None
        return str(self.path.absolute()), state.st_size, state.st_mtime_ns

    def _unreadable(self, error: Exception) -> MediaError:
        return MediaError(self.name, f"cannot be read: {type(error).__name__}{self._hint}")

    @property
    def _hint(self) -> str:
        """What to do with a text that is too long for a usual path: it may be base64."""
        is_long = len(str(self.path)) > _LONGEST_NAME
        return "; base64 belongs under the key base64 of a block" if is_long else ""


@dataclass(frozen=True)
class UrlSource:
    """A public http(s) URL."""

    url: str

    @property
    def name(self) -> str:
        """The URL, shortened."""
        return _shortened(self.url)

    def read(self, policy: MediaPolicy) -> bytes:
        """Download it."""
        from langchain_internvl.media.fetch import fetch  # noqa: PLC0415 - imports httpx

        return fetch(self.url, policy)


def decode_base64(text: str, name: str) -> bytes:
    """Decode base64, with or without line breaks and padding.

    Raises:
        MediaError: The text is not base64.
    """
    try:  # as most encoders write it: two megabytes of a page are copied no further
        return base64.b64decode(text, validate=True)
    except ValueError:  # includes binascii.Error
        compact = "".join(text.split()).replace("-", "+").replace("_", "/")
    try:
        data = base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise MediaError(name, f"is not valid base64: {error}") from error
    return data


def count_scans(data: bytes) -> int:
    """Number of scans of a JPEG, or a little more: embedded previews count too. 0: no JPEG."""
    if not data.startswith(b"\xff\xd8"):
        return 0
    import numpy as np  # noqa: PLC0415 - imported at first use

    # Ten times as fast as `data.count`, and without the GIL.
    samples, count = np.frombuffer(data, np.uint8), 0
    for start in range(0, len(samples), _PIECE):
        piece = samples[start : start + _PIECE + 1]
        count += int(np.count_nonzero((piece[:-1] == 0xFF) & (piece[1:] == 0xDA)))
    return count


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 3] + "..."


def _within_limit(data: bytes, name: str, policy: MediaPolicy) -> bytes:
    if len(data) > policy.max_bytes:
        raise _too_large(name, policy)
    return data


def _too_large(name: str, policy: MediaPolicy) -> MediaTooLargeError:
    return MediaTooLargeError(name, f"larger than MediaPolicy.max_bytes={policy.max_bytes}")
