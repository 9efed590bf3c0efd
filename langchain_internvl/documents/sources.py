"""Resolves a loader's sources to files: paths, folders, globs, URLs, bytes and blobs."""

from __future__ import annotations

import glob
import hashlib
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from langchain_core.documents.base import Blob

from langchain_internvl.errors import MediaError, UnsupportedMediaError
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.media.sources import BytesSource, PathSource, Source, UrlSource, to_source

_LOG = logging.getLogger("langchain_internvl")

SUFFIXES = frozenset({
    ".pdf", ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".dib", ".gif",
    ".webp", ".jp2", ".j2k", ".jpx", ".pbm", ".pgm", ".ppm", ".pnm", ".avif", ".qoi", ".tga",
    ".npy",
})  # fmt: skip
"""Suffixes, in lower case, of the files that are read from a folder."""
_HEIF = frozenset({".heic", ".heif"})

SourceLike: TypeAlias = "str | os.PathLike[str] | bytes | Blob"
"""A file, folder, glob, URL, the bytes of a file, or a blob."""


@dataclass(frozen=True)
class File:
    """A file to read.

    Attributes:
        source: Source of the bytes.
        name: Name in metadata: the path or URL as found; None: bytes without a name.
        metadata: Metadata that each page of the file gets.
    """

    source: Source
    name: str | None
    metadata: dict[str, Any] = field(default_factory=dict)

    def held(self, policy: MediaPolicy) -> File:
        """The file with its bytes at hand: the content of a URL is downloaded here, once."""
        if isinstance(self.source, PathSource | BytesSource):
            return self
        data = self.source.read(policy)
        return File(BytesSource(data, self.source.name), self.name, self.metadata)

    def digest(self, policy: MediaPolicy) -> str:
        """SHA-256 of its bytes, in hexadecimal digits; a local file is not held in memory.

        Raises:
            MediaError: The file cannot be read.
        """
        if not isinstance(self.source, PathSource):
            return hashlib.sha256(self.source.read(policy)).hexdigest()
        path = self.source.check(policy)
        try:
            with open(path, "rb") as file:  # noqa: PTH123 - a path that was just checked
                total = hashlib.sha256()
                while block := file.read(1 << 20):
                    total.update(block)
                return total.hexdigest()
        except OSError as error:
            raise MediaError(self.source.name, f"cannot be read: {error.strerror}") from error


def find_files(
    sources: SourceLike | Iterable[SourceLike],
    *,
    recursive: bool = True,
    warned: set[Path] | None = None,
) -> Iterator[File | MediaError]:
    """The files that sources name, in their order.

    Args:
        sources: One source or several. A folder gives its files of supported kinds, sorted by
            path, without hidden ones; a glob gives its matches, sorted, and the files of matching
            folders. Files of other kinds in a folder are left out, and a warning names their
            number and suffixes.
        recursive: Include subfolders.
        warned: Folders of which the warning was given before; None: none.

    Yields:
        Files; for a source that names none, the error.
    """
    folders = _Folders(recursive, set() if warned is None else warned)
    for number, one in enumerate(as_list(sources)):
        try:
            yield from _files(one, number, folders)
        except MediaError as error:
            yield error


def as_list(sources: SourceLike | Iterable[SourceLike]) -> list[Any]:
    """Sources as a list, whether one is given or several."""
    if isinstance(sources, (str, bytes, bytearray, memoryview, os.PathLike, Blob)):
        return [sources]
    return list(sources)


def _files(one: Any, number: int, folders: _Folders) -> Iterator[File]:
    if isinstance(one, Blob):
        yield from_blob(one)
        return
    if isinstance(one, (bytes, bytearray, memoryview)):
        yield File(BytesSource(bytes(one), f"source {number}"), None)
        return
    if not isinstance(one, (str, os.PathLike)):
        raise UnsupportedMediaError(
            f"source {number}",
            f"an object of type {type(one).__name__} is no source; pass a path, a folder, a glob, "
            "a URL, bytes or a Blob",
        )
    text = os.fspath(one)
    if text[:5].lower() in {"http:", "https", "data:", "file:"}:
        source = to_source(text, f"source {number}")
        yield File(source, text if isinstance(source, UrlSource) else source.name)
        return
    path = Path(text).expanduser()
    try:
        is_folder, is_there = path.is_dir(), path.exists()
    except (OSError, ValueError) as error:
        raise MediaError(text[:200], f"is no path: {error}") from error
    if is_folder:
        yield from folders.files(path)
    elif is_there or not glob.has_magic(text):
        yield File(PathSource(path), str(path))
    else:
        yield from _glob(str(path), folders)


@dataclass(frozen=True)
class _Folders:
    """The files of folders.

    Attributes:
        recursive: Include subfolders.
        warned: Folders whose files of other kinds a warning has named.
    """

    recursive: bool
    warned: set[Path]

    def files(self, folder: Path) -> Iterator[File]:
        """The readable files of a folder, sorted by path."""
        found = folder.rglob("*") if self.recursive else folder.glob("*")
        paths = sorted(
            path for path in found
            if path.is_file()
            and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        )  # fmt: skip
        readable = [path for path in paths if is_readable(path)]
        if len(readable) < len(paths) and folder not in self.warned:
            self.warned.add(folder)
            others = Counter(path.suffix.lower() for path in paths if not is_readable(path))
            kinds = ", ".join(f"{kind or 'no suffix'} ({n})" for kind, n in sorted(others.items()))
            count = others.total()
            _LOG.warning("%s: %d files that are no images or PDFs are left out: %s",
                         folder, count, kinds)  # fmt: skip
        if not readable:
            raise MediaError(str(folder), "the folder has no images or PDFs")
        for path in readable:
            yield File(PathSource(path), str(path))


def _glob(pattern: str, folders: _Folders) -> Iterator[File]:
    paths = sorted(map(Path, glob.glob(pattern, recursive=True)))  # noqa: PTH207 - any pattern
    if not paths:
        raise MediaError(pattern, "nothing matches the pattern")
    for path in paths:
        if path.is_dir():
            yield from folders.files(path)
        else:
            yield File(PathSource(path), str(path))


def is_readable(path: Path) -> bool:
    """Whether a file of a folder is read, by its suffix."""
    from PIL import Image  # noqa: PLC0415 - a reader of HEIC may be registered at any time

    suffix = path.suffix.lower()
    return suffix in SUFFIXES or (suffix in _HEIF and "HEIF" in Image.OPEN)


def from_blob(blob: Blob) -> File:
    """A blob of LangChain as a file.

    Raises:
        MediaError: The blob has neither data nor a path.
    """
    name = None if blob.source is None else str(blob.source)
    shown = name or "the blob"
    if blob.data is None and blob.path is not None:
        return File(PathSource(Path(blob.path)), name, dict(blob.metadata))
    try:
        return File(BytesSource(blob.as_bytes(), shown), name, dict(blob.metadata))
    except ValueError as error:
        raise MediaError(shown, f"cannot be read: {error}") from error
