"""Rules for values of settings files: one small class per kind of value."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from langchain_internvl.errors import CheckpointError


class Rule(Protocol):
    """Rule for the value of one setting."""

    @property
    def expected(self) -> str:
        """The rule in words, as in "a whole number from 1 to 12"."""
        ...

    def accepts(self, value: Any) -> bool:
        """Whether a value keeps the rule."""
        ...


@dataclass(frozen=True)
class Whole:
    """A whole number; booleans are rejected."""

    lowest: int
    highest: int

    @property
    def expected(self) -> str:
        """The rule in words."""
        return f"a whole number from {self.lowest} to {self.highest}"

    def accepts(self, value: Any) -> bool:
        """Whether a value keeps the rule."""
        return type(value) is int and self.lowest <= value <= self.highest


@dataclass(frozen=True)
class Number:
    """A finite number; booleans are rejected."""

    lowest: float
    highest: float

    @property
    def expected(self) -> str:
        """The rule in words."""
        return f"a number from {self.lowest:g} to {self.highest:g}"

    def accepts(self, value: Any) -> bool:
        """Whether a value keeps the rule."""
        if type(value) not in {int, float}:
            return False
        return self.lowest <= value <= self.highest and math.isfinite(value)


@dataclass(frozen=True)
class OfType:
    """A value of one type."""

    kind: type
    expected: str

    def accepts(self, value: Any) -> bool:
        """Whether a value keeps the rule."""
        return isinstance(value, self.kind)


@dataclass(frozen=True)
class ListOf:
    """A list of values of one rule, or, if `alone`, one value instead of a list."""

    rule: Rule
    longest: int
    alone: bool = False

    @property
    def expected(self) -> str:
        """The rule in words."""
        one = f"{self.rule.expected} or " if self.alone else ""
        return f"{one}a list of at most {self.longest}, each {self.rule.expected}"

    def accepts(self, value: Any) -> bool:
        """Whether a value keeps the rule."""
        if isinstance(value, list):
            return len(value) <= self.longest and all(map(self.rule.accepts, value))
        return self.alone and self.rule.accepts(value)


@dataclass(frozen=True)
class Square:
    """One length, or the same one twice in a list."""

    rule: Whole

    @property
    def expected(self) -> str:
        """The rule in words."""
        return f"{self.rule.expected}, or a list with it twice"

    def accepts(self, value: Any) -> bool:
        """Whether a value keeps the rule."""
        if isinstance(value, list):
            return len(value) == 2 and value[0] == value[1] and self.rule.accepts(value[0])
        return self.rule.accepts(value)


@dataclass(frozen=True)
class OrNull:
    """Null, or a value that another rule accepts."""

    rule: Rule

    @property
    def expected(self) -> str:
        """The rule in words."""
        return f"{self.rule.expected}, or null"

    def accepts(self, value: Any) -> bool:
        """Whether a value keeps the rule."""
        return value is None or self.rule.accepts(value)


@dataclass(frozen=True)
class OneOf:
    """One of some texts."""

    texts: tuple[str, ...]

    @property
    def expected(self) -> str:
        """The rule in words."""
        return " or ".join(map(repr, self.texts))

    def accepts(self, value: Any) -> bool:
        """Whether a value keeps the rule."""
        return isinstance(value, str) and value in self.texts


FLAG = OfType(bool, "true or false")
TEXT = OfType(str, "a text")
SECTION = OfType(Mapping, "settings by name")


def check_rules(
    settings: Mapping[str, Any], rules: Mapping[str, Rule], where: str, path: Sequence[str] = ()
) -> None:
    """Check the settings that are present.

    Args:
        settings: Values by name; names without a rule are ignored.
        rules: Rules by name.
        where: The file.
        path: Names of the sections around these settings.

    Raises:
        CheckpointError: A value breaks its rule; the message names the file and the field.
    """
    for name, rule in rules.items():
        if name in settings and not rule.accepts(settings[name]):
            field = ".".join([*path, name])
            raise CheckpointError(
                f"{where}: {field} is {shorten(settings[name])}, but has to be {rule.expected}"
            )


def shorten(value: Any) -> str:
    """A value as text for an error message, truncated if long."""
    try:
        written = repr(value)
    except (RecursionError, ValueError):  # such as an integer of thousands of digits
        written = f"a {type(value).__name__}"
    return written if len(written) <= 100 else f"{written[:100]}..."
