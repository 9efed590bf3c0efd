"""Medians from histograms."""

import numpy as np
import pytest

from langchain_internvl.documents.levels import median_of_counts


@pytest.mark.parametrize(
    "samples",
    [[7], [3, 4], [0, 255], [0, 0, 1], [5, 5, 6, 6], *(
        np.random.default_rng(seed).integers(0, 256, 10 + seed) for seed in range(20)
    )],
)  # fmt: skip
def test_as_the_median_of_the_sorted_samples(samples):
    assert median_of_counts(np.bincount(samples)) == np.median(samples)
