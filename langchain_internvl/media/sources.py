"""The sources of Python values: bytes, paths, URLs, open files, images and arrays."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote, unquote_to_bytes, urlsplit
from urllib.request import url2pathname

from langchain_internvl.errors import MediaError, UnsupportedMediaError
from langchain_internvl.media.byte_sources import (
    Base64Source,
    BytesSource,
    PathSource,
    Source,
    UrlSource,
    decode_base64,
)
from langchain_internvl.media.pixel_source import PixelSource, from_array, hold_file

__all__ = [
    "Base64Source",
    "BytesSource",
    "PathSource",
    "PixelSource",
    "Source",
    "UrlSource",
    "decode_base64",
    "from_array",
    "hold_file",
    "is_file_object",
    "to_source",
    "to_url_source",
]


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
        return PixelSource(value, name, value.tell())
    if _is_a(value, "numpy", "ndarray"):
        return from_array(value, name)
    remedy = "pass bytes, a path, a URL, a binary file object, a PIL image or a uint8 array"
    if hasattr(value, "__array__") or hasattr(value, "__dlpack__"):
        remedy = (
            "pass a NumPy array, uint8 [height, width, 3]; for a tensor of shape [3, height, "
            "width] with values from 0 to 1: (x * 255).byte().permute(1, 2, 0).cpu().numpy()"
        )
    raise UnsupportedMediaError(
        name, f"an object of type {type(value).__name__} is no medium; {remedy}"
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
    url = url.strip()  # https://url.spec.whatwg.org/#concept-basic-url-parser
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
    scheme, colon, _ = url[:16].partition(":")
    return scheme.lower() if colon else ""


def _from_data_url(url: str, name: str) -> Source:
    header, comma, payload = url.partition(",")
    if not comma:
        raise MediaError(name, "is a data URL without data")
    if re.search(r";\s*base64\s*\Z", header, re.IGNORECASE):
        return Base64Source(unquote(payload) if "%" in payload else payload, name)
    return BytesSource(unquote_to_bytes(payload), name)
