"""Keys of `alpha_pattern` and `rank_pattern` of LoRA adapters: regular expressions, as in peft.

An adapter may come from anybody, and `re` cannot be interrupted. So only expressions with few
repeats and choices are accepted, and they are matched with names of the model's own modules, which
are short: one match takes some hundredths of a second at most. The sum of the times is limited
after each match.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from langchain_internvl.errors import CheckpointError
from langchain_internvl.model_files.rules import Rule, check_rules
from langchain_internvl.prompting.tokenizer_patterns import why_slow

_LONGEST = 1024
_MOST = 4096
_MOST_REPEATS = 2
"""Unbounded repeats of a key; `_ending` adds one."""
_MOST_CHOICES = 64
_SECONDS = 30.0
"""Time for all matches of an adapter; a usual one takes some milliseconds."""
_CLASS = re.compile(r"\\.|\[\^?(?:\\.|[^\[\]\\])+\]", re.DOTALL)
"""An escape, or a character class without brackets in it."""


class AlphaPatterns:
    """Values of `lora_alpha` by the names of modules.

    Args:
        config: Settings of an adapter, checked by `check_patterns`.
        file: The file of the settings, for errors.
    """

    def __init__(self, config: Mapping[str, Any], file: Path) -> None:
        patterns = config.get("alpha_pattern") or {}
        self._patterns = [(_ending(one), float(alpha)) for one, alpha in patterns.items()]
        self._usual = float(config.get("lora_alpha", 8))
        self._file = file
        self._left = _SECONDS

    def find(self, module: str) -> float:
        """The alpha of a module: of the patterns that match its name, peft takes the first.

        Args:
            module: Its name in the model that peft wrapped, which is known to be there: the time
                of a match grows with a power of its length.

        Raises:
            CheckpointError: Matching the patterns takes too long.
        """
        for pattern, alpha in self._patterns:
            start = time.perf_counter()
            is_match = pattern.match(module)
            self._left -= time.perf_counter() - start
            if self._left < 0:
                raise CheckpointError(
                    f"{self._file}: matching alpha_pattern takes more than {_SECONDS:g} s; "
                    "name the modules by simpler patterns"
                )
            if is_match:
                return alpha
        return self._usual


def check_patterns(config: Mapping[str, Any], section: str, rule: Rule, file: Path) -> None:
    """Check the keys and values of a section of patterns.

    Args:
        config: Settings of an adapter.
        section: "alpha_pattern" or "rank_pattern".
        rule: The rule of its values.
        file: The file of the settings, for errors.

    Raises:
        CheckpointError: There are too many keys; or a key is no regular expression, or could take
            very long to match; or a value is out of range.
    """
    patterns = config.get(section) or {}
    if len(patterns) > _MOST:
        raise CheckpointError(f"{file}: {section} has more than {_MOST} keys")
    for pattern, value in patterns.items():
        named = f"{file}: {section} has the key {pattern[:80]!r}, which"
        if reason := _why_hostile(pattern):
            raise CheckpointError(f"{named} {reason}: matching could take forever")
        try:
            _ending(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise CheckpointError(f"{named} is no regular expression: {error}") from error
        name = "r" if section == "rank_pattern" else "lora_alpha"
        check_rules({name: value}, {name: rule}, f"{file}: {section}[{pattern[:80]!r}]")


def _why_hostile(pattern: str) -> str | None:
    """Why matching a name with a pattern could take very long; None: it could not."""
    if len(pattern) > _LONGEST:
        return f"has more than {_LONGEST} characters"
    if re.search(r"[\[\]]", _CLASS.sub("", pattern)):
        return "has brackets in a character class"  # engines read these differently
    return why_slow(pattern, most_repeats=_MOST_REPEATS, most_choices=_MOST_CHOICES)


def _ending(pattern: str) -> re.Pattern[str]:
    """A key as an expression for the end of a name."""
    return re.compile(rf"(.*\.)?({pattern})$")
