"""Which frames are shown."""

import pytest
from golden import by_id, load
from hypothesis import given
from hypothesis import strategies as st

from langchain_internvl.errors import RequestError
from langchain_internvl.media.video import frame_indices

# `first_idx` is a parameter of the reference that nothing in the quick start uses.
CASES = [case for case in load("frames.json")["cases"] if case["first_idx"] == 0]


def indices_of(case):
    bound = tuple(case["bound"]) if case["bound"] else None
    return frame_indices(case["max_frame"] + 1, case["fps"], case["num_segments"], bound)


@pytest.mark.golden
@pytest.mark.parametrize("case", **by_id([case for case in CASES if not case["out_of_range"]]))
def test_indices_are_the_recorded_ones(case):
    assert indices_of(case) == case["indices"]


@pytest.mark.golden
@pytest.mark.parametrize("case", **by_id([case for case in CASES if case["out_of_range"]]))
def test_bounds_whose_frames_do_not_exist_are_refused(case):
    with pytest.raises(RequestError, match="bound"):
        indices_of(case)


@given(
    count=st.integers(1, 10**6),
    fps=st.floats(0.01, 1000),
    wanted=st.integers(1, 300),
    bound=st.none() | st.tuples(st.floats(-1e9, 1e9), st.floats(0, float("inf"))),
)
def test_indices_exist_and_are_in_order(count, fps, wanted, bound):
    try:
        indices = frame_indices(count, fps, wanted, bound)
    except RequestError:
        start, end = bound
        assert start > end or round(start * fps) >= count
        return
    assert len(indices) == wanted
    assert indices == sorted(indices)
    assert indices[0] >= 0
    assert indices[-1] < count


@pytest.mark.parametrize(
    ("count", "fps", "wanted", "bound"),
    [
        (0, 25, 8, None),
        (10, 25, 0, None),
        (10, 25, 8, (3, 2)),
        (10, 25, 8, (-2, -1)),
        (10, 25, 8, (-2, -0.03)),
        (10, 25, 8, (float("nan"), 1)),
        (10, 25, 8, (1, 2)),
        (10, 0, 8, (0, 2)),
    ],
)
def test_what_gives_no_frames(count, fps, wanted, bound):
    with pytest.raises(RequestError):
        frame_indices(count, fps, wanted, bound)


def test_a_bound_that_ends_within_half_a_frame_of_the_first_shows_it():
    """The reference rounds, so this one exists there."""
    assert frame_indices(10, 25, 2, (-0.5, -0.02)) == [0, 0]
