"""Notices that a file changes while its pages are read.

A file is opened several times: for its digest, its text layers and each run of pages that are
rendered. Where a scanner or a synchronisation replaces it in between, pages of two files would
stand under one digest, also in a journal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_internvl.errors import InternVLError, MediaError
from langchain_internvl.media.sources import PathSource

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from langchain_core.documents import Document

    from langchain_internvl.documents.pages import Page
    from langchain_internvl.documents.sources import File
    from langchain_internvl.media.policy import MediaPolicy


class FileVersion:
    """The content that a file has when its reading begins.

    Args:
        file: The file.
        policy: Limits on bytes.

    Attributes:
        digest: SHA-256 of its bytes, in hexadecimal digits.

    Raises:
        MediaError: The file cannot be read.
    """

    def __init__(self, file: File, policy: MediaPolicy) -> None:
        self._file = file
        self._policy = policy
        self._state = self._current()  # before the digest, which takes a while
        self.digest = file.digest(policy)

    def watched(self, pages: Iterator[Page]) -> Iterator[Page]:
        """Pages of the file, as long as it does not change.

        Args:
            pages: Its pages, as they are read.

        Raises:
            MediaError: It has changed; also where the other content is what cannot be read.
        """
        try:
            for page in pages:
                self.check()
                yield page
        except InternVLError:
            self.check()
            raise

    def check(self) -> None:
        """Raise if the file has other content now.

        A file that has only been touched is the same. One that is gone is, too: what is still
        open is read to its end, and opening it again is an error of its own.

        Raises:
            MediaError: It has changed, or cannot be read.
        """
        state = self._current()
        if state in {None, self._state}:
            return
        if self._file.digest(self._policy) != self.digest:
            raise _changed(self._file, "its pages would be of two files")
        self._state = state

    def _current(self) -> tuple[str, int, int] | None:
        """Path, size and time of the last change; None: it is gone, or no local file."""
        source = self._file.source
        return source.fingerprint() if isinstance(source, PathSource) else None


def check_unchanged(file: File, pages: Iterable[Document], policy: MediaPolicy) -> None:
    """Raise if a file is not the one any more that pages were read from.

    Args:
        file: The file.
        pages: Its pages as `InternVLLoader` loads them; `page_id` has the digest of their file.
        policy: Limits on bytes.

    Raises:
        MediaError: It has changed, or cannot be read.
    """
    ids = (page.metadata.get("page_id") for page in pages)
    read = {str(one).rpartition("-")[0] for one in ids if one is not None}
    if read and read != {file.digest(policy)}:
        raise _changed(file, "the text of its pages is of another file")


def _changed(file: File, so: str) -> MediaError:
    return MediaError(
        file.source.name,
        f"has changed while it was read: {so}; read it again when nothing writes to it",
    )
