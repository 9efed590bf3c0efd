"""Decodes text files: by their byte order mark, their stated encoding, or as UTF-8."""

from __future__ import annotations

import codecs
import re
import warnings

from langchain_internvl.errors import MediaError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins with the mark of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CHARSET = re.compile(r""";\s*charset\s*=\s*["']?([\w.:+-]{1,40})""", re.IGNORECASE)
_NOT_KNOWN = frozenset({"binary", "unknown-8bit"})
"""What `file --mime` writes for an encoding that it does not know (RFC 1428 for the latter)."""
_FALLBACK = "cp1252"
"""The encoding of text without one that is not UTF-8, as in browsers
(https://encoding.spec.whatwg.org/, windows-1252)."""


def charset_of(mime_type: str) -> str | None:
    """The encoding that a MIME type or the beginning of a data URL states; None: it states none."""
    found = _CHARSET.search(mime_type)
    return None if found is None or found[1].lower() in _NOT_KNOWN else found[1]


def has_mark(data: bytes) -> bool:
    """Whether text begins with a byte order mark."""
    return any(data.startswith(mark) for mark, _ in _MARKS)


def decode_text(data: bytes, charset: str | None, name: str) -> str:
    """The text of a file.

    Args:
        data: The bytes of the file.
        charset: The stated encoding; a byte order mark overrides it. None: UTF-8, or UTF-16 if
            every other byte is zero, else Windows-1252 with a warning.
        name: Name of the file, for errors and warnings.

    Raises:
        MediaError: The stated encoding is unknown, or the bytes are invalid in it.

    Warns:
        UserWarning: The encoding is a guess.
    """
    marked = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), None)
    encoding = marked or charset or _without_statement(data)
    try:
        return data.decode(encoding)
    except LookupError:
        raise MediaError(name, f"has the unknown text encoding {encoding!r}") from None
    except UnicodeError as error:
        if encoding != "utf-8" or charset is not None:
            raise MediaError(name, f"is no text in {encoding}: {error}") from error
    warnings.warn(
        f"{name}: the text is not UTF-8 and is read as Windows-1252; state its encoding, as in "
        'mime_type="text/plain; charset=latin-1"',
        stacklevel=2,
    )
    return data.decode(_FALLBACK, "replace")


def _without_statement(data: bytes) -> str:
    """UTF-16 if every other byte of mostly Western text is zero, else UTF-8."""
    first, second = data[::2].count(0), data[1::2].count(0)
    if min(first, second) or len(data) % 2 or max(first, second) < len(data) / 4:
        return "utf-8"
    return "utf-16-le" if second else "utf-16-be"
