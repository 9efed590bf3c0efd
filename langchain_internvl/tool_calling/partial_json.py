"""Parses JSON while it streams, in time linear in its length.

Parsing the whole text anew with each token, as `parse_partial_json` of LangChain does, takes time
quadratic in the length of a reply. Values are those of that function, except that a value never
shrinks while an escape sequence is incomplete.
"""

from __future__ import annotations

import json
import re
from typing import Any

_SPACE = re.compile(r"[ \t\n\r]*")
_PLAIN = re.compile(r'[^"\\]*')
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_SCALAR = re.compile(r"[-+.\w]*", re.ASCII)
_ESCAPE = re.compile(r'\\(?:u[0-9a-fA-F]{4}|["\\/bfnrt])')
_CONSTANTS = {
    "true": True,
    "false": False,
    "null": None,
    "NaN": float("nan"),
    "Infinity": float("inf"),
    "-Infinity": float("-inf"),
}
_NOTHING = object()


class PartialJson:
    """The value of a JSON text that grows.

    Incomplete keys, constants and numbers without digits are left out; incomplete strings, arrays
    and objects are part of the value, and numbers as far as they go.

    Attributes:
        is_broken: Whether the text is not JSON; its value no longer changes then.
    """

    def __init__(self) -> None:
        self.is_broken = False
        self._text, self._at = "", 0  # parsed up to this place
        self._open: list[Any] = []  # lists and dicts, from the outermost on
        self._keys: list[str] = []  # where each open container but the outermost is in its parent
        self._root: Any = _NOTHING
        self._expects = "value"  # or "first", "key", "colon", "comma", "string", "name", "end"
        self._key = ""
        self._part = ""  # of a string that is incomplete
        self._is_begun = False  # whether the value that is read is in its container already
        self._changed = False

    def push(self, text: str) -> bool:
        """Add text; returns whether the value has changed."""
        self._changed = False
        if self.is_broken or not text:
            return False
        self._text, self._at = self._text[self._at :] + text, 0
        try:
            while self._at < len(self._text) and self._step():
                pass
        except ValueError:
            self.is_broken = True
        return self._changed

    @property
    def has_value(self) -> bool:
        """Whether there is any value yet."""
        return self._root is not _NOTHING

    def value(self) -> Any:
        """The value so far.

        Containers that are still open are copied, so that values of different times differ; those
        that are complete are shared.
        """
        if not self._open:
            return None if self._root is _NOTHING else self._root
        copy = self._open[-1].copy()
        for parent, key in zip(self._open[-2::-1], self._keys[::-1], strict=True):
            inner, copy = copy, parent.copy()
            copy[key if isinstance(parent, dict) else -1] = inner
        return copy

    def _step(self) -> bool:
        """Parse the next part of the text; False: more text is needed."""
        if self._expects in {"string", "name"}:
            return self._read_string()
        self._skip(_SPACE)
        if self._expects == "end":
            self._at = len(self._text)
        if self._at == len(self._text):
            return False
        char = self._text[self._at]
        in_object = bool(self._open) and isinstance(self._open[-1], dict)
        if self._expects in {"comma", "first"} and char in "]}":
            self._close(char)
        elif self._expects == "colon":
            self._take(char, ":", "value")
        elif self._expects == "comma":
            self._take(char, ",", "key" if in_object else "value")
        elif self._expects == "key" or (self._expects == "first" and in_object):
            self._take(char, '"', "name")
        else:
            return self._begin(char)
        return True

    def _skip(self, pattern: re.Pattern[str]) -> str:
        """Pass what matches a pattern that also matches nothing; returns it."""
        found = pattern.match(self._text, self._at)
        assert found is not None  # noqa: S101
        self._at = found.end()
        return found[0]

    def _take(self, char: str, wanted: str, then: str) -> None:
        if char != wanted:
            raise ValueError(f"{char!r} instead of {wanted!r}")
        self._at += 1
        self._expects, self._part = then, ""

    def _begin(self, char: str) -> bool:
        """Begin a value; False: more text is needed."""
        if char == '"':
            self._put("")
            self._take(char, char, "string")
        elif char in "[{":
            container: Any = [] if char == "[" else {}
            self._put(container)
            self._is_begun = False
            if self._open:
                self._keys.append(self._key)
            self._open.append(container)
            self._take(char, char, "first")
        else:
            return self._read_scalar()
        return True

    def _read_scalar(self) -> bool:
        """Read a number or a constant, which ends at the next character that is in neither."""
        start = self._at
        word = self._skip(_SCALAR)
        is_over = self._at < len(self._text)
        number = _NUMBER.match(word)
        if word in _CONSTANTS:
            self._put(_CONSTANTS[word])
        elif number and (number.end() == len(word) or not is_over):
            self._put(json.loads(number[0]))
        elif is_over:
            raise ValueError(f"{word or self._text[start]!r} is no value")
        if is_over or word in _CONSTANTS:
            self._finish()
            return True
        self._at = start
        return False

    def _read_string(self) -> bool:
        """Read a string or a key as far as it goes; False: more text is needed."""
        pieces = [self._part, self._skip(_PLAIN)]
        while self._text.startswith("\\", self._at):
            taken = _escape_length(self._text[self._at : self._at + 12])
            if not taken:
                break
            pieces.append(json.loads(f'"{self._text[self._at : self._at + taken]}"'))
            self._at += taken
            pieces.append(self._skip(_PLAIN))
        self._part = "".join(pieces)
        if self._expects == "string" and self._part:
            self._put(self._part)
        if not self._text.startswith('"', self._at):
            return False
        self._at += 1
        if self._expects == "name":
            self._key, self._expects = self._part, "colon"
        else:
            self._finish()
        return True

    def _put(self, value: Any) -> None:
        """Set the value that is being read, in its container."""
        if not self._open:
            before, self._root = self._root, value
        elif isinstance(self._open[-1], dict):
            before = self._open[-1].get(self._key, _NOTHING)
            self._open[-1][self._key] = value
        elif self._is_begun:
            before, self._open[-1][-1] = self._open[-1][-1], value
        else:
            before = _NOTHING
            self._open[-1].append(value)
        self._is_begun = True
        self._changed |= before is _NOTHING or type(before) is not type(value) or before != value

    def _finish(self) -> None:
        """End a value."""
        self._is_begun = False
        self._expects = "comma" if self._open else "end"

    def _close(self, char: str) -> None:
        container = self._open[-1]
        if char != ("}" if isinstance(container, dict) else "]"):
            raise ValueError(f"{char!r} closes no {type(container).__name__}")
        self._open.pop()
        if self._open:
            self._keys.pop()
        self._at += 1
        self._finish()


def _escape_length(text: str) -> int:
    """Length of the escape sequence at the start of a text; 0: it is incomplete.

    Both halves of a character beyond U+FFFF are one sequence.

    Raises:
        ValueError: It is no escape sequence.
    """
    found = _ESCAPE.match(text)
    if found is None:
        if len(text) > 5 or not _may_become_escape(text):
            raise ValueError(f"{text[:6]!r} is no escape sequence")
        return 0
    if not re.match(r"\\u[dD][89abAB]", text):
        return found.end()
    rest = text[6:]
    second = re.match(r"\\u[dD][c-fC-F][0-9a-fA-F]{2}", rest)
    if second:
        return 12
    is_open = len(rest) < 6 and re.fullmatch(r"\\?|\\u|\\u[dD]|\\u[dD][c-fC-F][0-9a-fA-F]?", rest)
    return 0 if is_open else 6


def _may_become_escape(text: str) -> bool:
    return bool(re.fullmatch(r"\\(?:u[0-9a-fA-F]{0,3})?", text))
