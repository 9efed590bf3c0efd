"""What a benchmark row is: a name, a goal, and a function that measures it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from benchmarks.machine import Peaks, measure_peaks
from benchmarks.random_model import make_model


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: Name for `--rows`.
        title: What is measured.
        goal: The value to reach: at most this.
        unit: Unit of the value; empty: a ratio.
    """

    name: str
    title: str
    goal: float
    unit: str = ""


@dataclass(frozen=True)
class Result:
    """The measured values of one row.

    Attributes:
        values: One value for each repetition; the row's value is their median.
        note: Conditions and absolute times, for the reader.
        profile: Work to repeat under a profiler if the goal is missed; None: no profile.
        limit: The physical limit of the work on this machine; empty: none applies.
    """

    values: list[float]
    note: str
    profile: Callable[[], object] | None = None
    limit: str = ""

    @property
    def value(self) -> float:
        """The median."""
        return statistics.median(self.values)


@dataclass
class Bench:
    """Settings of a run, and what several rows need.

    Attributes:
        scale: Part of the layers of InternViT-300M and of a 0.5B language model.
        rounds: Number of repetitions.
        quick: Smoke mode: the smallest sizes that still run everything.
    """

    scale: float
    rounds: int
    quick: bool = False

    @cached_property
    def model(self) -> Any:
        """A random model of this scale."""
        return make_model(self.layers, self.layers)

    @property
    def layers(self) -> int:
        """Layers of the vision tower, and of the language model."""
        return max(1, round(24 * self.scale))

    @cached_property
    def peaks(self) -> Peaks:
        """Physical limits of this machine."""
        return measure_peaks()

    def size(self, full: int, quick: int) -> int:
        """A size of a measurement: one of two numbers, by mode."""
        return quick if self.quick else full


@dataclass(frozen=True)
class Study:
    """Rows that are measured together.

    Attributes:
        rows: The rows.
        measure: Function that measures them all; returns results by name of row.
    """

    rows: tuple[Row, ...]
    measure: Callable[[Bench], Mapping[str, Result]]


def timed(run: Callable[[], object]) -> float:
    """Seconds that a function takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def require_same(ours: object, theirs: object, what: str = "tokens") -> None:
    """End the run if results that must be equal differ.

    Raises:
        SystemExit: They differ.
    """
    if ours != theirs:
        raise SystemExit(f"OTHER {what.upper()}: {ours} instead of {theirs}")
