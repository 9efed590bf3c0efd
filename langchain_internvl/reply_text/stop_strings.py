"""Text that is held back until it is known what it belongs to."""

from __future__ import annotations

from collections.abc import Sequence


def begun_length(text: str, whole: str) -> int:
    """Length of the end of a text with which something longer may begin."""
    longest = min(len(whole) - 1, len(text))
    return next((size for size in range(longest, 0, -1) if text.endswith(whole[:size])), 0)


class StopFilter:
    """Cuts a text that comes in pieces at the first of some others.

    Args:
        stop: Texts at which it ends; they are not part of it.

    Attributes:
        stopped_at: The one at which it ended, or None.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        self.stopped_at: str | None = None
        self._stop = [text for text in stop if text]
        self._held = ""

    def push(self, text: str, *, last: bool = False) -> str:
        """Add a piece.

        Args:
            text: The piece.
            last: Whether nothing that follows can belong to what is held.

        Returns:
            The text that is certain now.
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
