"""Stop strings in streamed text."""

from __future__ import annotations

from collections.abc import Sequence


def begun_length(text: str, whole: str) -> int:
    """Length of the longest suffix of a text that is a proper prefix of another string."""
    longest = min(len(whole) - 1, len(text))
    return next((size for size in range(longest, 0, -1) if text.endswith(whole[:size])), 0)


class StopFilter:
    """Cuts streamed text at the first stop string.

    Args:
        stop: Stop strings; they are not part of the text.

    Attributes:
        stopped_at: The stop string at which the text ended; None: none so far.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        self.stopped_at: str | None = None
        self._stop = [text for text in stop if text]
        self._held = ""

    @property
    def held(self) -> str:
        """Text that is held back because a stop string may begin with it."""
        return self._held

    def push(self, text: str, *, last: bool = False) -> str:
        """Add a piece.

        Args:
            text: The piece.
            last: Whether this is the last piece, so that nothing is held back.

        Returns:
            The text that became final with this piece.
        """
        if self.stopped_at is not None:
            return ""
        self._held += text
        end = len(self._held)
        found = [(self._held.find(stop), stop) for stop in self._stop if stop in self._held]
        if found:
            end, self.stopped_at = min(found)
        elif not last:
            end -= max((begun_length(self._held, stop) for stop in self._stop), default=0)
        shown, self._held = self._held[:end], self._held[end:]
        return shown
