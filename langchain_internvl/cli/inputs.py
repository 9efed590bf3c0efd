"""Inputs named on the command line: files, folders, URLs, standard input."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import typer

from langchain_internvl.cli.values import is_folder

Kind = Literal["image", "video", "pdf"]

_IMAGES = (
    ".png .jpg .jpeg .jpe .jfif .webp .gif .bmp .dib .tif .tiff .avif .heic .heif .jp2 .j2k .jpx "
    ".ppm .pgm .pbm .pnm .tga .ico .qoi"
)
_VIDEOS = ".mp4 .m4v .mov .webm .mkv .avi .mpg .mpeg .wmv .ts .mts .m2ts .3gp .flv .ogv"
_KINDS: dict[str, Kind] = {
    **dict.fromkeys(_IMAGES.split(), "image"),
    **dict.fromkeys(_VIDEOS.split(), "video"),
    ".pdf": "pdf",
}
"""Kinds of files by suffix; other files count as images."""
_TIFF = frozenset({".tif", ".tiff"})
"""Suffixes of TIFFs, by which an address is judged."""


@dataclass(frozen=True)
class Input:
    """One input of a command.

    Attributes:
        name: Name in results.
        kind: Kind, detected from the name and the first bytes.
        path: Path of the file; None: `name` is a URL.
        error: Why the input cannot be used; None: it can.
        is_guess: Whether the kind is a guess: an address without a known ending, or a file that
            cannot be read.
        is_tiff: Whether it is an image that may have pages.
    """

    name: str
    kind: Kind = "image"
    path: Path | None = None
    error: str | None = None
    is_guess: bool = False
    is_tiff: bool = False

    @property
    def may_have_pages(self) -> bool:
        """Whether it is a PDF or a TIFF, or may turn out to be one."""
        return self.kind == "pdf" or self.is_guess or self.is_tiff


@contextmanager
def open_inputs(names: Sequence[str], kinds: Collection[Kind]) -> Iterator[list[Input]]:
    """The inputs of names; a folder gives all files of `kinds` in it and its subfolders.

    Args:
        names: Paths, folders, http(s) URLs; "-" is standard input, once.
        kinds: Kinds of files that are read from folders.

    Raises:
        typer.BadParameter: Standard input is named twice.
    """
    if names.count("-") > 1:
        raise typer.BadParameter("- is standard input, which can be read once")
    with TemporaryDirectory(prefix="internvl-") as folder:
        inputs: list[Input] = []
        for name in names:
            if name == "-":
                inputs.append(_standard_input(Path(folder), kinds))
            elif name.lower().startswith(("http://", "https://")):
                inputs.append(_at_address(name))
            elif is_folder(name):
                inputs += _in_folder(name, kinds)
            else:
                inputs.append(_in_file(name))
        yield inputs


def _in_folder(name: str, kinds: Collection[Kind]) -> list[Input]:
    found: list[Input] = []

    def refuse(error: OSError) -> None:
        found.append(Input(str(error.filename), error=f"cannot be read: {error.strerror}"))

    for root, folders, files in os.walk(name, onerror=refuse):
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        for file in sorted(files):
            kind = _KINDS.get(Path(file).suffix.lower())
            if kind is not None and kind in kinds and not file.startswith("."):
                found.append(_in_file(str(Path(root, file))))
    return found or [Input(name, error=f"no {' or '.join(sorted(kinds))} in this folder")]


def _at_address(name: str) -> Input:
    suffix = Path(name.split("?", maxsplit=1)[0]).suffix.lower()
    kind = _KINDS.get(suffix)
    return Input(name, kind or "image", is_guess=kind is None, is_tiff=suffix in _TIFF)


def _in_file(name: str) -> Input:
    from langchain_internvl.media.signatures import is_pdf, is_tiff

    path = Path(name)
    kind = _KINDS.get(path.suffix.lower(), "image")
    head = b""
    try:
        is_regular = path.is_file()  # opening a pipe would wait for its writer
        if is_regular:
            with path.open("rb") as file:
                head = file.read(1024)
            if kind != "video":  # by its bytes: files are called .pdf that are none
                kind = "pdf" if is_pdf(head) else "image"
    except OSError as error:
        return Input(name, kind, path, error=f"cannot be read: {error.strerror}")
    except ValueError:  # a zero byte
        return Input(name, kind, path, error="is no name of a file")
    # What is no file is reported when the input is read.
    return Input(name, kind, path, is_guess=not is_regular, is_tiff=is_tiff(head))


def _standard_input(folder: Path, kinds: Collection[Kind]) -> Input:
    from langchain_internvl.media.policy import MediaPolicy
    from langchain_internvl.media.signatures import is_tiff

    most = MediaPolicy().for_videos().max_bytes
    data = sys.stdin.buffer.read(most + 1)
    if not data:
        return Input("-", error="standard input is empty")
    if len(data) > most:
        return Input("-", error=f"standard input is larger than {most} bytes")
    path = folder / "stdin"
    path.write_bytes(data)
    return Input("-", _sniff(data, kinds), path, is_tiff=is_tiff(data))


def _sniff(data: bytes, kinds: Collection[Kind]) -> Kind:
    from langchain_internvl.media.images import sniff_mime_type
    from langchain_internvl.media.signatures import is_pdf

    if is_pdf(data):
        return "pdf"
    return "video" if "video" in kinds and sniff_mime_type(data) is None else "image"
