"""Progress of `ocr` on standard error: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from langchain_internvl.documents.jobs import FileStart, Result

_INTERVAL = 30
"""Seconds between lines, if standard error is no terminal."""
_SHOWN = 20
"""Failures that are listed at the end; all are in the output."""


class PageProgress:
    """Counts pages and failures, and reports them; a context manager.

    The number of pages of files that are not open yet is estimated from the open ones.

    Args:
        files: Number of files.
        is_terminal: Whether standard error is a terminal; None: find out.
        clock: Returns seconds.
    """

    def __init__(
        self,
        files: int,
        *,
        is_terminal: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        from rich.console import Console

        self._files, self._opened, self._closed = files, 0, 0
        self._pages = self._seen = self._done = self._resumed = 0
        self._failed: list[str] = []
        self._clock = clock
        self._started = self._said = clock()
        self._console = Console(stderr=True, force_terminal=is_terminal)
        self._bar: Any = self._new_bar() if self._console.is_terminal else None

    def __enter__(self) -> PageProgress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def add(self, result: FileStart | Result) -> None:
        """Count a result, and report if it is time."""
        from langchain_internvl.documents.jobs import FileStart

        if isinstance(result, FileStart):
            self._opened += 1
            self._pages += result.pages or 0
        elif "page" in result.metadata or result.document is not None:
            self._seen += 1
            self._resumed += result.is_resumed
            self._done += result.error is None
        else:
            self._closed += 1  # a file that could not be read
        error = getattr(result, "error", None)
        if error is not None:
            self._failed.append(str(error))
        if self._bar is not None:
            self._bar.update(
                self._bar.task_ids[0], completed=self._seen, total=self.pages, rate=self.rate
            )
        elif self._clock() - self._said >= _INTERVAL:
            self._said = self._clock()
            typer.echo(self._line(), err=True)

    def add_failures(self, errors: Iterable[Exception]) -> None:
        """Count what could not be made of pages that were read."""
        self._failed += map(str, errors)

    @property
    def pages(self) -> int:
        """Number of pages of all files, estimated for those that are not open yet."""
        unopened = max(0, self._files - self._opened - self._closed)
        return self._pages + round(unopened * self._pages / max(1, self._opened))

    @property
    def rate(self) -> float:
        """Pages a second that were read now."""
        return (self._done - self._resumed) / max(self._clock() - self._started, 1e-9)

    def _line(self) -> str:
        read = self._seen - self._resumed
        left = "?"
        if read:
            seconds = (self.pages - self._seen) / read * (self._clock() - self._started)
            left = str(timedelta(seconds=round(max(0, seconds))))
        return (
            f"{self._seen} of {self.pages} pages, {self.rate:.2f} pages/s, {left} left, "
            f"{len(self._failed)} failed"
        )

    def summary(self) -> int:
        """Report what was done and what failed; returns the number of failures."""
        seconds = self._clock() - self._started
        failed = self._failed
        typer.echo(
            f"{self._done} pages of {self._opened} files in {seconds:.1f} s "
            f"({self.rate:.2f} pages/s), {self._resumed} of them read before, {len(failed)} failed",
            err=True,
        )
        for reason in failed[:_SHOWN]:
            typer.secho(f"  {reason}", err=True, fg="red")
        if len(failed) > _SHOWN:
            typer.secho(
                f"  and {len(failed) - _SHOWN} more, which are in the output", err=True, fg="red"
            )
        return len(failed)

    def _new_bar(self) -> Any:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        bar = Progress(
            TextColumn("pages"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:.2f} pages/s"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        bar.add_task("", total=0, rate=0.0)
        return bar
