"""How good answers are, and how sure that is."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """A figure with its 95% confidence interval.

    Attributes:
        value: The figure.
        low: Lower end of the interval.
        high: Upper end.
        samples: Number of samples.
    """

    value: float
    low: float
    high: float
    samples: int

    def __str__(self) -> str:
        return f"{self.value:.1%} ({self.low:.1%} to {self.high:.1%})"


def share(right: Sequence[bool]) -> Score:
    """The share of what is right, with Wilson's interval."""
    count, z = len(right), 1.96
    value = sum(right) / count
    middle = (value + z * z / (2 * count)) / (1 + z * z / count)
    width = z / (1 + z * z / count)
    width *= math.sqrt(value * (1 - value) / count + z * z / (4 * count * count))
    return Score(value, max(0.0, middle - width), min(1.0, middle + width), count)


def error_rate(pairs: Sequence[tuple[str, str]], seed: int = 0, draws: int = 1000) -> Score:
    """Character error rate of (read, written) texts: edits per written character.

    The interval is that of a bootstrap over the texts.
    """
    errors = [distance(read, written) for read, written in pairs]
    lengths = [len(written) for _, written in pairs]
    rng = random.Random(seed)
    rates = []
    for _ in range(draws):
        chosen = rng.choices(range(len(pairs)), k=len(pairs))
        rates.append(sum(errors[one] for one in chosen) / sum(lengths[one] for one in chosen))
    rates.sort()
    value = sum(errors) / sum(lengths)
    return Score(value, rates[round(draws * 0.025)], rates[round(draws * 0.975) - 1], len(pairs))


def right_lines(read: str, written: str) -> list[bool]:
    """Whether each written line was read exactly; lines may be lost, added or out of place."""
    found = read.split("\n")
    lines = []
    for line in written.split("\n"):
        lines.append(line in found)
        if lines[-1]:
            found.remove(line)
    return lines


def distance(one: str, other: str) -> int:
    """Levenshtein's distance."""
    before = list(range(len(other) + 1))
    for row, left in enumerate(one, 1):
        now = [row]
        for column, right in enumerate(other, 1):
            now.append(min(before[column] + 1, now[-1] + 1, before[column - 1] + (left != right)))
        before = now
    return before[-1]


_BOX = re.compile(r"\[\[(\d+), (\d+), (\d+), (\d+)\]\]")


def overlap(answer: str, truth: str) -> float:
    """Intersection over union of the boxes of two grounding answers; 0 if one has none."""
    found = [_BOX.search(text) for text in (answer, truth)]
    if None in found:
        return 0.0
    one, other = ([int(number) for number in match.groups()] for match in found if match)
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    if wide <= 0 or high <= 0:
        return 0.0
    both = wide * high
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return both / (areas - both)
