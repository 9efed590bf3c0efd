"""Values of options and arguments, checked before anything is read."""

from __future__ import annotations

import math
from pathlib import Path

import typer

_UNSET = "such as a variable of the shell that is not set"
_EMPTY = f'is empty, {_UNSET}; the current folder is "."'


def named_path(name: str | Path) -> Path:
    """The path of a name, for `parser=`: `pathlib` takes an empty one for the current folder.

    Raises:
        typer.BadParameter: The name is empty.
    """
    if not str(name):
        raise typer.BadParameter(f"the path {_EMPTY}")
    return Path(name)


named_path.__name__ = "path"  # help shows it as the type of an argument


def output_path(name: str | Path) -> Path:
    """The path of an output, for `parser=`.

    Raises:
        typer.BadParameter: The name is empty, or `-`, which is no name of an output.
    """
    if str(name) == "-":
        raise typer.BadParameter(
            "- is no file or folder: these results are not written to standard output; ./- is a "
            "name"
        )
    return named_path(name)


def folder_path(name: str | Path) -> Path:
    """The path of a folder, for `parser=`.

    Raises:
        typer.BadParameter: The name is empty, or not of a folder.
    """
    path = named_path(name)
    if not is_folder(path):
        raise typer.BadParameter(f"{path} is no folder")
    return path


def is_folder(name: str | Path) -> bool:
    """Whether there is a folder of a name, which may be one that no file can have."""
    try:
        return Path(name).is_dir()
    except (OSError, ValueError):  # too long, or with a zero byte
        return False


def given_names(names: list[str]) -> list[str]:
    """Refuse empty names among inputs; for `callback=`.

    Raises:
        typer.BadParameter: A name is empty.
    """
    if "" in names:
        raise typer.BadParameter(f"a name {_EMPTY}")
    return names


def given_text(text: str | None) -> str | None:
    """Refuse a text without words, which would ask for nothing or count as not given.

    For `callback=`.

    Raises:
        typer.BadParameter: The text is empty or blank.
    """
    if text is not None and not text.strip():
        raise typer.BadParameter(f"it is empty or blank, {_UNSET}; leave it out, or give a text")
    return text


def checked_pages(pages: str | None) -> str | None:
    """Refuse page ranges that are none; for `callback=`.

    Raises:
        typer.BadParameter: The text is no page range.
    """
    from langchain_internvl.errors import RequestError
    from langchain_internvl.media.page_ranges import parse_pages

    try:
        parse_pages(pages)
    except RequestError as error:
        raise typer.BadParameter(str(error)) from None
    return pages


def checked_region(region: str | None) -> str | None:
    """Refuse regions that are none; for `callback=`.

    Raises:
        typer.BadParameter: The text is no box.
    """
    if region is None:  # so that help needs no imports
        return None
    from langchain_internvl.errors import MediaError
    from langchain_internvl.tools.images import parse_region

    try:
        parse_region(region)
    except MediaError as error:
        raise typer.BadParameter(f"{region[:60]!r} {error.reason}") from None
    return region


def check_span(start: float | None, end: float | None) -> None:
    """Refuse a part of a video that no video can have.

    Raises:
        typer.BadParameter: A time is no number of seconds from 0, or the part ends before it
            starts.
    """
    # NaN compares as false. An infinite end is the end of the video.
    if start is not None and not 0 <= start < math.inf:
        raise typer.BadParameter(f"--start: {start:g} is no second of a video; they begin at 0")
    if end is not None and not end >= 0:
        raise typer.BadParameter(f"--end: {end:g} is no second of a video; they begin at 0")
    if start is not None and end is not None and start > end:
        raise typer.BadParameter(f"--start {start:g} is after --end {end:g}; swap them")
