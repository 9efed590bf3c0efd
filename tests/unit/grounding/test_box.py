"""Boxes: spaces, regions, overlap."""

import pytest
from box_strategies import boxes
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from langchain_internvl import Box
from langchain_internvl.grounding import accuracy


@given(boxes(), st.sampled_from(["norm1000", "unit", "pixel"]))
def test_every_space_and_back(box, space):
    again = Box.from_space(box.corners(space), space, box.size)
    assert again.corners("norm1000") == pytest.approx(box.corners("norm1000"), abs=1e-6)


@given(boxes(), boxes())
def test_overlap_is_symmetric_and_between_none_and_all(one, other):
    assert one.iou(other) == other.iou(one)
    assert 0 <= one.iou(other) <= 1
    assert one.iou(one) == 1


def test_overlap_by_hand():
    left, right = Box(x1=0, y1=0, x2=200, y2=100), Box(x1=100, y1=0, x2=300, y2=100)
    assert left.iou(right) == pytest.approx(1 / 3)
    assert left.iou(Box(x1=200, y1=0, x2=300, y2=100)) == 0
    point = Box(x1=5, y1=5, x2=5, y2=5)
    assert (point.iou(point), point.iou(left)) == (1, 0)


def test_pixels_need_a_size():
    box = Box(x1=0, y1=500, x2=1000, y2=1000, label="lower half")
    assert box.pixels is None
    with pytest.raises(ValueError, match=r"size=\(width, height\)"):
        box.corners("pixel")
    assert box.model_copy(update={"size": (640, 480)}).pixels == (0, 240, 640, 480)


def test_the_last_pixel_of_any_width_is_inside():
    for side in range(1, 3000):
        assert Box.from_space((0, 0, side, side), "pixel", (side, side)).x2 == 1000


def test_bad_boxes_say_what_to_do():
    with pytest.raises(ValidationError, match="sort the coordinates"):
        Box(x1=2, y1=0, x2=1, y2=1)
    with pytest.raises(ValidationError, match="less than or equal to 1000"):
        Box(x1=0, y1=0, x2=1001, y2=1)
    with pytest.raises(ValueError, match="four coordinates, not 3"):
        Box.from_space((1, 2, 3), "norm1000")
    with pytest.raises(ValueError, match="are numbers, not"):
        Box.from_space(("1", "2", "3", "4"), "norm1000")
    with pytest.raises(ValueError, match="'norm1000', 'unit' or 'pixel'"):
        Box.from_space((1, 2, 3, 4), "percent")
    with pytest.raises(ValueError, match="size="):
        Box.from_space((1, 2, 3, 4), "pixel", (0, 10))


@given(boxes(), boxes())
def test_a_box_on_a_part_is_inside_that_part(part, box):
    whole = box.within(part)
    assert whole.size == part.size
    assert part.x1 - 1e-6 <= whole.x1 <= whole.x2 <= part.x2 + 1e-6
    assert part.y1 - 1e-6 <= whole.y1 <= whole.y2 <= part.y2 + 1e-6


def test_a_box_on_a_part_by_hand():
    part = Box(x1=500, y1=0, x2=1000, y2=500, size=(200, 100))
    box = Box(x1=0, y1=0, x2=1000, y2=500, label="cat", size=(100, 50)).within(part)
    assert (box.thousandths, box.pixels, box.label) == (
        (500, 0, 1000, 250),
        (100, 0, 200, 25),
        "cat",
    )


def test_boxes_travel_as_json_with_their_pixels():
    box = Box(x1=0, y1=0, x2=500, y2=1000, label="猫", size=(10, 20), confidence=0.5)
    assert box.model_dump()["pixels"] == (0, 0, 5, 20)
    assert Box.model_validate_json(box.model_dump_json()) == box


def test_accuracy():
    truth = [Box(x1=0, y1=0, x2=100, y2=100)] * 4
    found = [truth[0], None, Box(x1=0, y1=0, x2=100, y2=50), Box(x1=0, y1=0, x2=100, y2=49)]
    assert accuracy(found, truth) == 0.5
    assert accuracy(found, truth, threshold=0.9) == 0.25
    with pytest.raises(ValueError, match="3 boxes found of 4"):
        accuracy(found[:3], truth)
    with pytest.raises(ValueError, match="0 boxes"):
        accuracy([], [])
