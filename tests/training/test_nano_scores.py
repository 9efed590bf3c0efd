"""Figures of answers and their intervals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nano_training import evaluate, scores
from nano_training.trials import TRIALS

pytestmark = pytest.mark.slow


def test_intervals():
    score = scores.share([True] * 95 + [False] * 5)
    assert score.value == 0.95
    assert score.low == pytest.approx(0.888, abs=1e-3)  # Wilson, as statsmodels gives it
    assert score.high == pytest.approx(0.978, abs=1e-3)
    assert scores.share([True] * 10).high == 1.0
    rate = scores.error_rate([("abc", "abd"), ("abcd", "abcd")])
    assert rate.value == pytest.approx(1 / 7)
    assert rate.low <= rate.value <= rate.high


@given(st.text("abc", max_size=8), st.text("abc", max_size=8))
def test_distance_is_levenshteins(one, other):
    def slow(a, b):
        if not a or not b:
            return len(a) + len(b)
        return min(slow(a[1:], b) + 1, slow(a, b[1:]) + 1, slow(a[1:], b[1:]) + (a[0] != b[0]))

    if len(one) + len(other) < 9:
        assert scores.distance(one, other) == slow(one, other)
    assert scores.distance(one, other) == scores.distance(other, one)


def test_lines_and_boxes():
    assert scores.right_lines("a\nb\nc", "a\nx\nc") == [True, False, True]
    assert scores.right_lines("a", "a\na") == [True, False]
    box = "<box>[[0, 0, 100, 100]]</box>"
    assert scores.overlap(box, box) == 1
    assert scores.overlap("<box>[[50, 0, 150, 100]]</box>", box) == pytest.approx(1 / 3)
    assert (
        scores.overlap("no box", box) == scores.overlap("<box>[[200, 0, 300, 9]]</box>", box) == 0
    )


def test_each_job_has_the_figures_that_it_aims_at():
    box = "<ref>a</ref><box>[[0, 0, 100, 100]]</box>"
    found = set()
    for job in TRIALS:
        figures = evaluate.figures(job, [(box, box), ("", box)])
        assert all(score.value == 0.5 for score in figures.values()), job
        found |= set(figures)
    assert set(evaluate.TARGETS) <= found
    assert found - set(evaluate.TARGETS) == {"page: exact lines", "short lines: exact lines"}
