"""Boxes to supervision's detections and back, with the real package where it is installed."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from box_strategies import boxes
from hypothesis import given
from hypothesis import strategies as st

from langchain_internvl import Box
from langchain_internvl.grounding import boxes_from_supervision, boxes_to_supervision
from langchain_internvl.tools.ground import Place

SIZE = (400, 200)
CAT = Box(x1=100, y1=200, x2=300, y2=600, label="cat", size=SIZE, confidence=0.75)
DOG = Box(x1=500, y1=0, x2=1000, y2=1000, label="dog", size=SIZE)
BARE = Box(x1=0, y1=0, x2=10, y2=10, size=SIZE)


def test_boxes_as_detections():
    pytest.importorskip("supervision")
    found = boxes_to_supervision([CAT, DOG, CAT, BARE])
    assert found.xyxy[:2].tolist() == [[40, 40, 120, 120], [200, 0, 400, 200]]
    assert found.class_id.tolist() == [0, 1, 0, 2]
    assert found.data["class_name"].tolist() == ["cat", "dog", "cat", ""]
    assert found.confidence[0] == 0.75
    assert np.isnan(found.confidence[1])
    assert boxes_to_supervision([DOG]).confidence is None
    assert len(boxes_to_supervision([])) == 0
    assert boxes_to_supervision([CAT], (800, 400)).xyxy[0].tolist() == [80, 80, 240, 240]
    with pytest.raises(ValueError, match="size="):
        boxes_to_supervision([Box(x1=1, y1=2, x2=3, y2=4)])


def test_supervision_draws_and_filters_them():
    sv = pytest.importorskip("supervision")
    found = Place(image="a.png", phrase="cat", boxes=[CAT, DOG]).to_supervision()
    drawn = sv.BoxAnnotator().annotate(np.zeros((200, 400, 3), np.uint8), found)
    assert drawn[40:120, 38:42].any()
    assert boxes_from_supervision(found[found.class_id == 1], SIZE) == [DOG]


@given(st.lists(boxes(), min_size=1, max_size=5))
def test_they_come_back(some):
    pytest.importorskip("supervision")
    size = (1000, 700)
    some = [box.model_copy(update={"size": size, "label": "a"}) for box in some]
    back = boxes_from_supervision(boxes_to_supervision(some), size)
    for one, other in zip(some, back, strict=True):
        assert one.corners("norm1000") == pytest.approx(other.corners("norm1000"), abs=0.01)
        assert (one.label, one.size) == (other.label, other.size)


def detections(*corners, **fields):
    """Fields of detections, as supervision has them."""
    told = {"confidence": None, "data": {}, **fields}
    return SimpleNamespace(xyxy=np.array(corners, np.float32), **told)


def test_what_detectors_write_becomes_boxes():
    (cut, plain) = boxes_from_supervision(
        detections(
            [-5, 10, 40, 40], [200, 0, 400, 200],
            confidence=np.array([0.5, np.nan], np.float32),
            data={"class_name": np.array(["cat", ""])},
        ),
        SIZE,
    )  # fmt: skip
    assert (cut.pixels, cut.label, cut.confidence) == ((0, 10, 40, 40), "cat", 0.5)
    assert "cut off at its edge" in cut.repairs[0]
    assert (plain.thousandths, plain.label, plain.confidence) == ((500, 0, 1000, 1000), None, None)
    with pytest.raises(ValueError, match=r"detection 0: .* no area within"):
        boxes_from_supervision(detections([500, 0, 600, 50]), SIZE)


def test_without_the_package_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ImportError, match="pip install supervision"):
        boxes_to_supervision([CAT])
