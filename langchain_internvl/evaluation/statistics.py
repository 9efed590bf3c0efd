"""Means of scores with confidence intervals, and the comparison of two runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_RESAMPLES = 2000
_SEED = 0


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95% bootstrap interval.

    Attributes:
        mean: Mean of the scores.
        low: 2.5th percentile of the resampled means.
        high: 97.5th percentile.
        count: Number of scores.
    """

    mean: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}] (n={self.count})"


def estimate(scores: Sequence[float]) -> Estimate:
    """The mean of scores and its 95% interval, by 2,000 bootstrap samples with a fixed seed.

    Raises:
        ValueError: There are no scores.
    """
    if not scores:
        raise ValueError("there are no scores to average")
    means = _resampled_means(scores)
    low, high = _percentiles(means)
    return Estimate(sum(scores) / len(scores), low, high, len(scores))


def compare(one: Sequence[float], other: Sequence[float]) -> Estimate:
    """The mean difference `other - one` over the same cases and its 95% interval, paired bootstrap.

    An interval that excludes 0 means that the runs differ by more than the sampling of cases.

    Raises:
        ValueError: There are no scores, or the lengths differ.
    """
    if len(one) != len(other):
        raise ValueError(f"{len(one)} and {len(other)} scores: give those of the same cases")
    return estimate([right - left for left, right in zip(one, other, strict=True)])


def _resampled_means(scores: Sequence[float]) -> NDArray[np.float64]:
    import numpy as np  # noqa: PLC0415 - at first use

    values = np.asarray(scores, np.float64)
    rng = np.random.default_rng(_SEED)
    # One sample at a time: all at once would need resamples x cases numbers.
    return np.array(
        [values[rng.integers(0, len(values), len(values))].mean() for _ in range(_RESAMPLES)]
    )


def _percentiles(means: NDArray[np.float64]) -> tuple[float, float]:
    import numpy as np  # noqa: PLC0415

    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)
