"""Converts the fields of a media block to a part of a conversation.

`blocks.py` collects the fields of blocks of any shape in one dictionary; each field may have any
of the names that providers use.
"""

from __future__ import annotations

import mimetypes
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from langchain_internvl.errors import MessageError, RequestError
from langchain_internvl.media.media_store import MEDIA_STORE, PASSWORDS, PREFIX
from langchain_internvl.media.page_ranges import parse_pages
from langchain_internvl.media.plain_text import charset_of
from langchain_internvl.media.signatures import identify, name_of
from langchain_internvl.media.sniff import read_head, sniff_kind
from langchain_internvl.media.sources import (
    Base64Source,
    BytesSource,
    Source,
    UrlSource,
    to_source,
    to_url_source,
)
from langchain_internvl.messages.block_options import warn_of_options
from langchain_internvl.messages.conversation import (
    Document,
    Image,
    LostMedia,
    Part,
    Text,
    TextFile,
    Video,
)

Fields = dict[str, Any]

NO_AUDIO = "InternVL takes no audio; transcribe it first"

DETAIL_TILES = {"low": 6, "medium": 12, "high": 24, "original": 40}
"""Maximum number of tiles by OpenAI's `detail`: LMDeploy's values, and for "original" InternVL's
maximum, which covers a 4K image (https://arxiv.org/abs/2404.16821, abstract)."""

_DATA_KEYS = ("base64", "data", "file_data", "blob", "bytes")
_URL_KEYS = ("url", "file_url", "file_uri", "fileUri")
_NAME_KEYS = ("filename", "file_name", "name", "title", *_URL_KEYS, "uri", "path")
_TYPE_KEYS = ("mime_type", "mimeType", "media_type")

# Text that is not called text/..., and the formats of Bedrock's documents.
_TEXT_TYPES = {"application/json", "application/xml", "application/yaml", "application/x-yaml"}
_BEDROCK_FORMATS = {
    "pdf": "application/pdf",
    "txt": "text/plain",
    "md": "text/markdown",
    "csv": "text/csv",
    "html": "text/html",
}


def to_part(kind: str, fields: Fields, where: str) -> Part | TextFile:
    """The part of a conversation for a media block.

    Args:
        kind: "image", which a PDF of type application/pdf overrides, "video", "text", or "file",
            whose MIME type or name decides.
        fields: Fields of the block; `frames` are already images.
        where: Position of the block, for error messages.

    Raises:
        MessageError: The block is malformed, or of a kind that InternVL does not take.
        MediaError: Its data is malformed.
    """
    for key in (*_TYPE_KEYS, "source_type", "format"):
        if not isinstance(fields.get(key), str | None):
            raise MessageError(f"{where}: {key} is a string, not {type(fields[key]).__name__}")
    if kind == "file":
        kind = _kind_of_file(fields, where)
    elif kind == "image" and _is_declared_pdf(fields, where):
        kind = "pdf"
    if kind == "text":
        return _file_text(fields, where)
    warn_of_options(kind, fields, where)
    if _is_lost(fields):
        return lost_media(kind, where)
    if kind == "pdf":
        least = _whole(fields, "min_tiles", where)
        return Document(
            _source(fields, where),
            least,
            _max_tiles(fields, where),
            _pages(fields, where),
            _password(fields, where),
        )
    if kind == "video":
        return to_video(fields, where)
    least = _whole(fields, "min_tiles", where)
    return Image(_source(fields, where), least, _max_tiles(fields, where))


def to_video(fields: Fields, where: str) -> Video:
    """The video of a block; see `to_part`."""
    _refuse_other_choices(fields, where)
    max_tiles = _max_tiles(fields, where) or _whole(fields, "max_tiles_per_frame", where)
    num_frames = _whole(fields, "num_frames", where) or _whole(fields, "nframes", where)
    bound = _bound(_video_bound(fields), where)
    if "frames" not in fields:
        return Video((), _source(fields, where), max_tiles, num_frames, bound)
    if not fields["frames"]:
        raise MessageError(f"{where}: the video has no frames")
    if num_frames is not None or bound is not None:
        raise MessageError(
            f"{where}: given frames are all shown; num_frames and bound are for files"
        )
    return Video(fields["frames"], max_tiles=max_tiles)


# Settings of Qwen and LMDeploy for frames and tiles that InternVL does not have.
_OTHER_CHOICES = (
    "fps", "video_fps", "max_frames", "min_frames", "min_pixels", "max_pixels", "total_pixels",
    "min_tiles",
)  # fmt: skip


def _refuse_other_choices(fields: Fields, where: str) -> None:
    others = [name for name in _OTHER_CHOICES if fields.get(name) is not None]
    if others:
        raise MessageError(
            f"{where}: {', '.join(others)} cannot be set of a video; it has num_frames, bound and "
            "max_tiles"
        )


def _video_bound(fields: Fields) -> Any:
    """The bound of a video, also under the names of Qwen's blocks."""
    start, end = fields.get("video_start"), fields.get("video_end")
    if start is None and end is None:
        return fields.get("bound")
    return (0.0 if start is None else start, float("inf") if end is None else end)


def _kind_of_file(fields: Fields, where: str) -> str:
    mime_type = _mime_type(fields)
    family = (mime_type or "").split("/", 1)[0]
    if family == "audio":
        raise MessageError(f"{where}: {NO_AUDIO}")
    if family in {"image", "video"}:
        return family
    if family == "text" or mime_type in _TEXT_TYPES or isinstance(fields.get("text"), str):
        return _kind_of_text(fields, where)
    if mime_type is None:
        source = _source(fields, where) if _has_content(fields) else None
        if source is None or not (head := read_head(source)):
            return "pdf"  # a URL, or a file that cannot be read: reading it reports the error
        if (kind := sniff_kind(source)) is None:
            raise MessageError(_why_refused(head, where))
        return kind
    if mime_type == "application/pdf":
        return "pdf"
    raise MessageError(
        f"{where}: a file of type {mime_type} cannot be shown to InternVL, which takes images, "
        f"videos, PDFs and text; {_CONVERT}"
    )


def _kind_of_text(fields: Fields, where: str) -> str:
    """The kind of a file that is declared as text: that of its bytes, if they are plainly none."""
    if isinstance(fields.get("text"), str) or fields.get("source_type") == "text":
        return "text"
    source = _source(fields, where) if _has_content(fields) else None
    head = b"" if source is None else read_head(source)
    if source is None or not (b"\0" in head or head.startswith(b"%PDF-")):
        return "text"
    return sniff_kind(source) or "text"


_CONVERT = "convert it, an office document to PDF (libreoffice --headless --convert-to pdf FILE)"


def _why_refused(head: bytes, where: str) -> str:
    """Error for a file whose bytes are neither an image, a video, a PDF nor text."""
    found = identify(head)
    remedy = _CONVERT if found is None else found.remedy
    return f"{where}: the file is {name_of(head)}, no image, video, PDF or text; {remedy}"


def _is_declared_pdf(fields: Fields, where: str) -> bool:
    """Whether an image block has a PDF, as its MIME type says and its bytes do not deny."""
    if _declared_type(fields) != "application/pdf":
        return False
    source = _source(fields, where) if _has_content(fields) else None
    return source is None or not read_head(source) or sniff_kind(source) == "pdf"


def _mime_type(fields: Fields) -> str | None:
    """The MIME type: from a field of any name, a data URL, or the file's name."""
    if (said := _declared_type(fields)) is not None:
        return said
    if isinstance(fields.get("format"), str):
        return _BEDROCK_FORMATS.get(fields["format"], f"application/{fields['format']}")
    names = (fields[key] for key in _NAME_KEYS if isinstance(fields.get(key), str))
    guesses = (mimetypes.guess_type(name.split("?", 1)[0])[0] for name in names)
    return next((guess for guess in guesses if guess and guess not in _NO_TYPES), None)


def _declared_type(fields: Fields) -> str | None:
    """The MIME type in a field of any name, or in a data URL."""
    for key in _TYPE_KEYS:
        if isinstance(fields.get(key), str) and fields[key]:
            said = str(fields[key]).split(";", 1)[0].strip().lower()
            if said not in _NO_TYPES:
                return _SAME_TYPES.get(said, said)
    for key in (*_DATA_KEYS, *_URL_KEYS):
        if _is_data_url(fields.get(key)):
            said = str(fields[key])[5:].split(",", 1)[0].split(";", 1)[0].strip().lower()
            if said not in _NO_TYPES:
                return _SAME_TYPES.get(said, said) or "text/plain"  # RFC 2397
    return None


_NO_TYPES = {
    "*/*", "application/binary", "application/force-download", "application/octet-stream",
    "application/unknown", "application/x-binary", "application/x-download",
    "application/x-octet-stream", "application/x-unknown", "binary/octet-stream", "unknown/unknown",
}  # fmt: skip
"""Generic MIME types, which say nothing about a file."""
_SAME_TYPES = dict.fromkeys(
    ("application/acrobat", "application/vnd.pdf", "application/x-pdf", "applications/vnd.pdf",
     "image/pdf", "text/pdf", "text/x-pdf"),
    "application/pdf",
)  # fmt: skip
"""Names of a type from before it was registered (RFC 8118) that browsers and mail still send."""


def _has_content(fields: Fields) -> bool:
    """Whether a block has bytes or a local path."""
    if any(_is_data_url(fields.get(key)) for key in _URL_KEYS):
        return True
    return any(fields.get(key) is not None for key in (*_DATA_KEYS, "path"))


def _is_data_url(value: object) -> bool:
    return isinstance(value, str) and value[:5].lower() == "data:"


def _source(fields: Fields, where: str) -> Source:  # noqa: C901 - one field after the other
    for key in _DATA_KEYS:
        value = fields.get(key)
        if _is_data_url(value):
            return to_url_source(str(value), where)
        if isinstance(value, str):
            return Base64Source(value, where)
        if value is not None:
            return _to_source(key, value, where)
    for key in _URL_KEYS:
        value = fields.get(key)
        if value is not None:
            if not isinstance(value, str):
                raise MessageError(f"{where}: a URL is a string, not {type(value).__name__}")
            return to_url_source(value, where)
    if fields.get("path") is not None:
        return _to_source("path", fields["path"], where)
    if (held := MEDIA_STORE.find(str(fields.get("id")))) is not None:
        return BytesSource(held, where)
    if {"file_id", "fileId", "s3Location"} & fields.keys() or fields.get("source_type") == "id":
        raise MessageError(
            f"{where}: the file was uploaded to another provider; pass its bytes, path or URL"
        )
    raise MessageError(f"{where}: the block has no data, url or path")


def _to_source(key: str, value: Any, where: str) -> Source:
    """The source of a field with a Python object or arbitrary JSON."""
    if isinstance(value, (bool, int, float, complex, list, tuple, set, frozenset, Mapping)):
        raise MessageError(
            f"{where}: {key} is a string, bytes, an image or an array, not an object of type "
            f"{type(value).__name__}"
        )
    return to_source(value, where)


def _is_lost(fields: Fields) -> bool:
    """Whether a block refers to a medium that is no longer in memory; see `references.py`."""
    if any(fields.get(key) is not None for key in (*_DATA_KEYS, *_URL_KEYS, "frames")):
        return False
    if fields.get("path") is not None:
        is_reference = "state" in fields  # a field of references only
        return is_reference and not Path(str(fields["path"])).exists()
    reference = str(fields.get("id"))
    return reference.startswith(PREFIX) and MEDIA_STORE.find(reference) is None


def lost_media(kind: str, where: str) -> LostMedia:
    """Text for the prompt in place of a medium that is no longer in memory; warns.

    LangChain stores some histories in the form of its traces, with references to media instead of
    their bytes. Such a history stays usable after a restart, or after the `MediaStore` has evicted
    the media.

    Args:
        kind: "image", "video" or "pdf".
        where: Position of the block, for the warning.

    Warns:
        UserWarning: Always; names the block.
    """
    name = {"pdf": "PDF"}.get(kind, kind)
    article = "An" if kind == "image" else "A"
    warnings.warn(
        f"{where}: the {name} is a reference from a trace or a stored history, and this process "
        "does not have its bytes any more; the prompt says so in its place. Store the original "
        "messages to keep media",
        stacklevel=2,
    )
    return LostMedia(f"[{article} {name} was here. It is no longer available.]", kind=kind)


def _file_text(fields: Fields, where: str) -> Text | TextFile:
    """The text of a text file, or the file where its bytes are given."""
    if isinstance(fields.get("text"), str):
        return Text(fields["text"], stands_alone=True)
    if fields.get("source_type") == "text" and isinstance(fields.get("data"), str):
        return Text(fields["data"], stands_alone=True)
    source = _source(fields, where)
    if isinstance(source, UrlSource):
        raise MessageError(f"{where}: text files are not downloaded; pass the text itself")
    return TextFile(source, _charset(fields), where)


def _charset(fields: Fields) -> str | None:
    """The encoding of a text file, from its MIME type in a field or in a data URL."""
    stated = [fields[key] for key in _TYPE_KEYS if isinstance(fields.get(key), str)]
    urls = (fields[key] for key in (*_DATA_KEYS, *_URL_KEYS) if _is_data_url(fields.get(key)))
    stated += [url.partition(",")[0] for url in urls]
    return next(filter(None, map(charset_of, stated)), None)


def _max_tiles(fields: Fields, where: str) -> int | None:
    tiles = _whole(fields, "max_tiles", where) or _whole(fields, "max_dynamic_patch", where)
    detail = fields.get("detail")
    if tiles is not None or detail is None or detail == "auto":
        return tiles
    if not isinstance(detail, str) or detail not in DETAIL_TILES:
        raise MessageError(
            f"{where}: detail is auto, low, medium, high or original, not {detail!r}"
        )
    return DETAIL_TILES[detail]


def _pages(fields: Fields, where: str) -> tuple[int | tuple[int | None, ...], ...] | None:
    """Which pages of a PDF are shown: text such as "1-3, 7", or what `pdf_block` made of it."""
    try:
        items = parse_pages(fields.get("pages"))
    except RequestError as error:
        raise MessageError(f"{where}: {error}") from None
    if items is None:
        return None
    return tuple(item if isinstance(item, int) else tuple(item) for item in items)


def _password(fields: Fields, where: str) -> str | None:
    """The password of a PDF, as given or by a reference of this process."""
    password = fields.get("password")
    if not isinstance(password, str | None):
        raise MessageError(f"{where}: password is a string, not {type(password).__name__}")
    return password or PASSWORDS.find(str(fields.get("password_id")))


def _bound(value: Any, where: str) -> tuple[float, float] | None:
    if value is None:
        return None
    try:
        start, end = map(float, value)
    except (TypeError, ValueError):
        start, end = 1.0, 0.0
    if not start <= end:
        raise MessageError(f"{where}: bound is [start, end] in seconds, not {value!r}")
    return start, end


def _whole(fields: Fields, key: str, where: str) -> int | None:
    value = fields.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise MessageError(f"{where}: {key} is a whole number from 1, not {value!r}")
    return value
