"""Resolves a loader's sources to files: paths, folders, globs, URLs, bytes and blobs."""

from __future__ import annotations

import glob
import hashlib
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, TypeAlias

from langchain_core.documents.base import Blob

from langchain_internvl.documents.globs import match
from langchain_internvl.errors import MediaError, UnsupportedMediaError
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.media.sources import (
    BytesSource,
    PathSource,
    Source,
    UrlSource,
    is_file_object,
    to_source,
)

_LOG = logging.getLogger("langchain_internvl")

SUFFIXES = frozenset({
    ".pdf", ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".dib", ".gif",
    ".webp", ".jp2", ".j2k", ".jpx", ".pbm", ".pgm", ".ppm", ".pnm", ".avif", ".qoi", ".tga",
    ".npy",
})  # fmt: skip
"""Suffixes, in lower case, of the files that are read from a folder."""
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_HEIF = frozenset({".heic", ".heif"})

SourceLike: TypeAlias = "str | os.PathLike[str] | bytes | IO[bytes] | Blob"
"""A file, folder, glob, URL, the bytes of a file, a binary file object, or a blob."""


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
    skip: Callable[[Path], bool] | None = None,
) -> Iterator[File | MediaError]:
    """The files that sources name, in their order.

    Args:
        sources: One source or several. A folder gives its files of supported kinds, sorted by
            path, without hidden ones; a glob gives its matches of any kind, sorted, and the files
            of matching folders. What else is in a folder, files of other kinds and linked
            subfolders, is left out, as are links to a folder that contains them where a wildcard
            reaches them; a warning names the kinds and numbers.
        recursive: Include subfolders.
        warned: Folders and globs of which the warning was given before; None: none.
        skip: Tells of a file in a folder, or of a match of a glob, whether it is left out without
            a warning; a file that a source names is never left out. None: none is.

    Yields:
        Files; for a source that names none, the error.
    """
    folders = _Folders(recursive, set() if warned is None else warned, skip or (lambda _: False))
    for number, one in enumerate(as_list(sources)):
        try:
            yield from _files(one, number, folders)
        except MediaError as error:
            yield error


def file_of(name: str) -> File:
    """The file that `source` in the metadata of a page names: a path or a URL, never a pattern.

    Raises:
        MediaError: It is the name of nothing that can be read.
    """
    if _is_address(name):
        return File(to_source(name, name[:200]), name)
    return File(PathSource(_path(name)), name)


def as_list(sources: SourceLike | Iterable[SourceLike]) -> list[Any]:
    """Sources as a list, whether one is given or several."""
    if isinstance(sources, (str, bytes, bytearray, memoryview, os.PathLike, Blob)):
        return [sources]
    if is_file_object(sources):  # which iterates over its lines
        return [sources]
    if not isinstance(sources, Iterable):
        raise UnsupportedMediaError("sources", _no_source(sources))
    return list(sources)


def _no_source(one: Any) -> str:
    kind = type(one).__name__
    return (
        f"an object of type {kind} is no source; pass a path, a folder, a glob, a URL, bytes, a "
        "binary file object or a Blob"
    )


def _files(one: Any, number: int, folders: _Folders) -> Iterator[File | MediaError]:
    if isinstance(one, Blob):
        yield from_blob(one)
        return
    if isinstance(one, (bytes, bytearray, memoryview)):
        yield File(BytesSource(bytes(one), f"source {number}"), None)
        return
    if is_file_object(one):
        name = getattr(one, "name", None)
        source = to_source(one, name if isinstance(name, str) else f"source {number}")
        yield File(source, name if isinstance(name, str) else None)
        return
    if not isinstance(one, (str, os.PathLike)):
        raise UnsupportedMediaError(f"source {number}", _no_source(one))
    text = os.fspath(one)
    if not isinstance(text, str):
        raise UnsupportedMediaError(f"source {number}", "paths are text, not bytes")
    yield from _named(text, number, folders)


def _named(text: str, number: int, folders: _Folders) -> Iterator[File | MediaError]:
    """The files of a path, folder, glob or URL."""
    if not text.strip():
        raise MediaError(f"source {number}", 'is an empty path; the current folder is "."')
    if _is_address(text):
        source = to_source(text, f"source {number}")
        yield File(source, text if isinstance(source, UrlSource) else source.name)
        return
    scheme = _SCHEME.match(text)
    if scheme is not None:
        raise UnsupportedMediaError(
            text[:200],
            f"URLs of the scheme {scheme[1]} are not read; download the file, or pass its bytes",
        )
    path = _path(text)
    is_there = path.exists()
    if path.is_dir():
        yield from folders.files(path)
    elif is_there or not glob.has_magic(text):
        yield File(PathSource(path), str(path))
    else:
        yield from _glob(path, folders)


def _is_address(text: str) -> bool:
    return text.lower().startswith(("http:", "https:", "data:", "file:"))


def _path(text: str) -> Path:
    try:
        path = Path(text).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        raise MediaError(text[:200], f"is no path: {error}") from error
    return path


@dataclass(frozen=True)
class _Folders:
    """The files of folders.

    Attributes:
        recursive: Include subfolders.
        warned: Folders and globs whose left-out files and links a warning has named.
        skip: Tells whether a file is left out without a warning.
        matched: Matches of a glob, and its loops, which folders among them do not warn of.
    """

    recursive: bool
    warned: set[Path]
    skip: Callable[[Path], bool]
    matched: frozenset[Path] = frozenset()

    def files(self, folder: Path) -> Iterator[File | MediaError]:
        """The readable files of a folder, sorted by path, and errors of its subfolders."""
        found: list[Path] = []
        errors: list[OSError] = []
        others: Counter[str] = Counter()
        is_empty = True
        for root, inner, names in os.walk(folder, onerror=errors.append):
            here = Path(root)
            inner[:] = [name for name in inner if self.recursive and not name.startswith(".")]
            links = [here / name for name in inner if (here / name).is_symlink()]
            others[_LINKED] += sum(link not in self.matched for link in links)
            for name in names:
                path = here / name
                if name.startswith("."):
                    continue
                if self.skip(path) or (path in self.matched and not is_readable(path)):
                    is_empty = False  # but these are not its files
                elif not is_readable(path):
                    others[path.suffix.lower() or "no suffix"] += 1
                elif path.is_file() or path.is_symlink():  # a broken link is a missing file
                    found.append(path)
                else:
                    others["no regular files"] += 1
        self.warn(folder, others)
        if is_empty and not found and not errors:
            raise MediaError(str(folder), "the folder has no images or PDFs")
        for error in errors:
            yield MediaError(str(error.filename), f"cannot be read: {error.strerror}")
        for path in sorted(found):
            yield File(PathSource(path), str(path))

    def warn(self, folder: Path, others: Counter[str], advice: str = "") -> None:
        """Name what is left out of a folder or a glob, once."""
        others = +others
        if not others or folder in self.warned:
            return
        self.warned.add(folder)
        kinds = ", ".join(f"{kind} ({number})" for kind, number in sorted(others.items()))
        _LOG.warning("%s: what is no image or PDF is left out: %s%s", folder, kinds, advice)


_LINKED = "links to folders"
_LOOPS = "links to folders that contain them"
_NAME_THEM = "name such a link in the pattern to follow it"


def _glob(pattern: Path, folders: _Folders) -> Iterator[File | MediaError]:
    matches = match(pattern)
    if not matches.paths:
        but = f" but {_LOOPS}: {matches.loops[0]}; {_NAME_THEM}" if matches.loops else ""
        raise MediaError(str(pattern), f"nothing matches the pattern{but}")
    advice = f", such as {matches.loops[0]}; {_NAME_THEM}" if matches.loops else ""
    folders.warn(pattern, Counter({_LOOPS: len(matches.loops)}), advice)
    folders = replace(folders, matched=frozenset(matches.paths + matches.loops))
    found: set[Path] = set()
    walked: set[Path] = set()
    for path in matches.paths:
        if not path.is_dir():
            if path not in found and not folders.skip(path):
                found.add(path)
                yield File(PathSource(path), str(path))
        elif not (folders.recursive and _is_inside(path, walked)):
            walked.add(path)
            yield from _of_match(path, folders, found)


def _is_inside(folder: Path, walked: set[Path]) -> bool:
    """Whether a folder was walked with one above it: `scans/**` matches both."""
    for one in (folder, *folder.parents):
        if one in walked:
            return True
        if one.name.startswith(".") or one.is_symlink():
            return False
    return False


def _of_match(folder: Path, folders: _Folders, found: set[Path]) -> Iterator[File | MediaError]:
    """The files of a folder that a glob matches, but those found before."""
    try:
        for file in folders.files(folder):
            if isinstance(file, File) and isinstance(file.source, PathSource):
                path = Path(file.source.path)
                if path in found:
                    continue
                found.add(path)
            yield file
    except MediaError as error:  # an empty folder takes no other match along
        yield error


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
