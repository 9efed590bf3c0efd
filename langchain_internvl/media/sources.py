"""Sources of the bytes of media.

A source has a name (for error messages) and a method `read`; nothing is opened, downloaded or
decoded before `read` is called.
"""

from __future__ import annotations

import base64
import binascii
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote, unquote_to_bytes, urlsplit
from urllib.request import url2pathname

from langchain_internvl.errors import MediaError, MediaTooLargeError, UnsupportedMediaError
from langchain_internvl.media.pixel_source import PixelSource, from_array, hold_file

if TYPE_CHECKING:
    from langchain_internvl.media.policy import MediaPolicy


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


@dataclass(frozen=True)
class Base64Source:
    """Bytes in base64, decoded by `read`."""

    data: str
    name: str

    def read(self, policy: MediaPolicy) -> bytes:
        """The decoded bytes."""
        if len(self.data) * 3 // 4 > policy.max_bytes + 3:
            raise _too_large(self.name, policy)
        return _within_limit(decode_base64(self.data, self.name), self.name, policy)


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
        hint = "; base64 belongs under the key base64" if len(self.name) > 199 else ""
        raise MediaError(self.name, reason + hint)

    def fingerprint(self) -> tuple[str, int, int] | None:
        """Path, size in bytes and modification time; None if the file does not exist."""
        try:
            state = self.path.stat()
        except (OSError, ValueError):
            return None
        return str(self.path.absolute()), state.st_size, state.st_mtime_ns

    def _unreadable(self, error: Exception) -> MediaError:
        return MediaError(self.name, f"cannot be read: {type(error).__name__}")


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


def to_source(value: Any, name: str) -> Source:
    """The source of a Python value, which is trusted.

    Args:
        value: Bytes, a path, a `file:`, `data:` or http(s) URL, a binary file object (read from
            its start, at once; its position is kept), a `PIL.Image.Image`, or a uint8 array of
            shape [height, width], [height, width, 1], [height, width, 3] (RGB) or
            [height, width, 4] (RGBA).
        name: Name in error messages, if the value has none of its own.

    Raises:
        MediaError: A file object cannot be read.
        UnsupportedMediaError: The value is of another type.
    """
    if isinstance(value, (bytes, bytearray, memoryview)):
        return BytesSource(bytes(value), name)
    if isinstance(value, os.PathLike):
        return PathSource(Path(os.fsdecode(value)))
    if isinstance(value, str):
        return _from_text(value, name)
    if is_file_object(value):
        return BytesSource(_read_file_object(value, name), name)
    if _is_a(value, "PIL.Image", "Image"):
        return PixelSource(value, name)
    if _is_a(value, "numpy", "ndarray"):
        return from_array(value, name)
    raise UnsupportedMediaError(
        name,
        f"an object of type {type(value).__name__} is no medium; "
        "pass bytes, a path, a URL, a binary file object, a PIL image or a uint8 array",
    )


def _is_a(value: Any, module: str, name: str) -> bool:
    """Whether a value is of a class, without importing the module of the class."""
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(value, getattr(loaded, name))


def is_file_object(value: Any) -> bool:
    """Whether a value is an open file, such as `io.BytesIO` or the result of `open(path, "rb")`."""
    return callable(getattr(value, "read", None)) and callable(getattr(value, "seek", None))


def _read_file_object(file: Any, name: str) -> bytes:
    """All bytes of a file object, whose position is restored."""
    with hold_file(file):
        try:
            position = file.tell()
            file.seek(0)
            data = file.read()
            file.seek(position)
        except (AttributeError, OSError, ValueError) as error:
            raise MediaError(name, f"the file object cannot be read: {error}") from error
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise UnsupportedMediaError(name, 'the file object holds text; open it with mode "rb"')
    return bytes(data)


def to_url_source(url: str, name: str) -> Source:
    """The source of a `url` field, which is untrusted: a data or http(s) URL, never a file.

    Raises:
        UnsupportedMediaError: The URL has another scheme.
    """
    scheme = _scheme(url)
    if scheme == "data":
        return _from_data_url(url, name)
    if scheme in {"http", "https"}:
        return UrlSource(url)
    raise UnsupportedMediaError(
        name,
        f"a url field holds a data: or http(s): URL, not {url[:60]!r}; "
        "for a local file use image_block(path)",
    )


def decode_base64(text: str, name: str) -> bytes:
    """Decode base64, with or without line breaks and padding.

    Raises:
        MediaError: The text is not base64.
    """
    compact = "".join(text.split()).replace("-", "+").replace("_", "/")
    try:
        data = base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise MediaError(name, f"is not valid base64: {error}") from error
    return data


def _from_text(text: str, name: str) -> Source:
    scheme = _scheme(text)
    if scheme in {"data", "http", "https"}:
        return to_url_source(text, name)
    try:
        path = url2pathname(urlsplit(text).path) if scheme == "file" else text
        return PathSource(Path(path).expanduser())
    except (RuntimeError, ValueError) as error:  # ~ of an unknown user; an invalid file: URL
        raise MediaError(name, f"{text[:60]!r} is no path: {error}") from error


def _scheme(url: str) -> str:
    return url[:16].partition(":")[0].lower()


def _from_data_url(url: str, name: str) -> Source:
    header, comma, payload = url.partition(",")
    if not comma:
        raise MediaError(name, "is a data URL without data")
    if header.lower().endswith(";base64"):
        return Base64Source(unquote(payload) if "%" in payload else payload, name)
    return BytesSource(unquote_to_bytes(payload), name)


def _shortened(name: str) -> str:
    return name if len(name) <= 200 else name[:197] + "..."


def _within_limit(data: bytes, name: str, policy: MediaPolicy) -> bytes:
    if len(data) > policy.max_bytes:
        raise _too_large(name, policy)
    return data


def _too_large(name: str, policy: MediaPolicy) -> MediaTooLargeError:
    return MediaTooLargeError(name, f"larger than MediaPolicy.max_bytes={policy.max_bytes}")
