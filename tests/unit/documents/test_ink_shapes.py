"""Connected shapes are those that a flood fill finds."""

import numpy as np
import pytest

from langchain_internvl.documents.ink_shapes import find_shapes, joined, runs_of


def flood(mask):
    """Boxes and areas of the shapes, pixel by pixel."""
    left = {tuple(place) for place in np.argwhere(mask).tolist()}
    shapes = []
    while left:
        todo, shape = [left.pop()], []
        while todo:
            y, x = todo.pop()
            shape.append((y, x))
            near = {(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            todo += near
        ys, xs = zip(*shape, strict=True)
        shapes.append((min(xs), min(ys), max(xs) + 1, max(ys) + 1, len(shape)))
    return sorted(shapes)


@pytest.mark.parametrize("density", [0.0, 0.1, 0.3, 0.45, 0.6, 1.0])
def test_shapes_of_random_masks(density):
    rng = np.random.default_rng(1)
    for size in ((1, 1), (1, 9), (9, 1), (17, 23), (40, 31)):
        mask = rng.random(size) < density
        found = find_shapes(mask)
        rows = [(*box, area) for box, area in zip(found.boxes.tolist(), found.areas.tolist(),
                                                  strict=True)]  # fmt: skip
        assert sorted(rows) == flood(mask)


def test_runs_are_from_the_top_and_from_the_left():
    row, start, end = runs_of(np.array([[1, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]], bool))
    assert [*zip(row, start, end, strict=True)] == [(0, 0, 2), (0, 3, 4), (2, 0, 4)]


def test_links_join_things():
    assert joined(6, np.array([4, 1, 2]), np.array([1, 0, 2])).tolist() == [0, 0, 1, 2, 0, 3]
    assert joined(0, np.array([], int), np.array([], int)).tolist() == []
