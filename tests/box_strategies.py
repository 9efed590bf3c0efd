"""Boxes for property tests."""

from hypothesis import strategies as st

from langchain_internvl import Box


@st.composite
def boxes(draw):
    """Any box with an area, in whole thousandths, on a picture of any size."""
    x1, x2 = sorted(draw(st.lists(st.integers(0, 1000), min_size=2, max_size=2, unique=True)))
    y1, y2 = sorted(draw(st.lists(st.integers(0, 1000), min_size=2, max_size=2, unique=True)))
    size = draw(st.integers(1, 4000)), draw(st.integers(1, 4000))
    return Box(x1=x1, y1=y1, x2=x2, y2=y2, size=size)
