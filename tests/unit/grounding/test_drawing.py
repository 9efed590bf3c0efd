"""Boxes drawn on pictures: where they are, that labels can be read, on pictures of any size."""

import base64
import io

import numpy as np
import pytest
from box_strategies import boxes
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageFont

from langchain_internvl import Box, draw_boxes
from langchain_internvl.errors import MediaError
from langchain_internvl.grounding import drawing

GREY = (128, 128, 128)


def changed(image, size):
    """The box around everything that was drawn."""
    return ImageChops.difference(image, Image.new("RGB", size, GREY)).getbbox()


def test_a_box_is_where_it_says(monkeypatch):
    picture = Image.new("RGB", (400, 300), GREY)
    box = Box(x1=250, y1=200, x2=750, y2=800, size=(400, 300))
    drawn = draw_boxes(picture, [box])
    left, top, right, bottom = changed(drawn, picture.size)
    assert (left + 1, top + 1, right - 1, bottom - 1) == box.pixels
    assert drawn.getpixel((200, 150)) == GREY  # what is inside stays visible
    assert picture.getpixel((100, 60)) == GREY  # and the picture as it was


def test_an_image_may_be_a_file(tmp_path):
    picture = Image.new("RGB", (400, 300), GREY)
    picture.save(tmp_path / "grey.png")
    box = Box(x1=250, y1=200, x2=750, y2=800)
    path = tmp_path / "grey.png"
    data = f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
    for one in (path, str(path), path.as_uri(), data):
        assert draw_boxes(one, [box]) == draw_boxes(picture, [box])
    with pytest.raises(FileNotFoundError):
        draw_boxes(tmp_path / "none.png", [box])
    path.write_bytes(b"GIF89a of another kind")
    with pytest.raises(MediaError, match="grey"):
        draw_boxes(path, [box])


def test_labels_stand_in_the_picture_and_hide_no_other(monkeypatch):
    spots = []
    real = drawing._free_spot

    def keep(*args):
        spots.append(real(*args))
        return spots[-1]

    monkeypatch.setattr(drawing, "_free_spot", keep)
    same = [Box(x1=0, y1=0, x2=1000, y2=300, label=f"label {n}") for n in range(8)]
    draw_boxes(Image.new("RGB", (640, 480), GREY), same)
    assert len(spots) == 8
    for number, one in enumerate(spots):
        assert 0 <= one[0] < one[2] <= 640
        assert 0 <= one[1] < one[3] <= 480
        assert not any(drawing._touch(one, other) for other in spots[:number])


@pytest.mark.parametrize("corner", [(0, 0), (0, 970), (970, 0), (970, 970)])
def test_a_label_does_not_hide_a_small_box(corner):
    x, y = corner
    picture = Image.new("RGB", (300, 200), GREY)
    box = Box(x1=x, y1=y, x2=x + 30, y2=y + 30, label="a thing in the corner")
    place = drawing._pixels(box, picture.size)
    with_label, without = draw_boxes(picture, [box]), draw_boxes(picture, [box], labels=False)
    shown = (place[0], place[1], place[2] + 1, place[3] + 1)
    assert with_label.crop(shown) == without.crop(shown)


def test_boxes_of_one_label_share_a_colour():
    picture = Image.new("RGB", (400, 400), GREY)
    drawn = draw_boxes(
        picture,
        [
            Box(x1=100, y1=100, x2=300, y2=300, label="a"),
            Box(x1=600, y1=100, x2=900, y2=300, label="b"),
            Box(x1=100, y1=600, x2=300, y2=900, label="a"),
        ],
        labels=False,
    )
    first, second, third = (drawn.getpixel((x, y)) for x, y in ((40, 100), (240, 100), (40, 300)))
    assert first == third != second


def test_small_pictures_are_enlarged_and_lines_grow_with_large_ones():
    box = Box(x1=200, y1=200, x2=800, y2=800, label="cat")
    assert draw_boxes(Image.new("RGB", (12, 8), GREY), [box]).size == (228, 152)
    assert draw_boxes(Image.new("RGB", (300, 8), GREY), [box]).size == (300, 8)
    large = draw_boxes(Image.new("L", (3000, 2000), 128), [box], labels=False)
    line = sum(large.getpixel((x, 1000)) != GREY for x in range(500, 700))
    assert 10 <= line <= 30


def test_long_labels_are_cut_to_the_picture():
    font = ImageFont.load_default(20)
    short = drawing._shortened("a very long label " * 20, font, 200)
    assert short.endswith("…")
    assert drawing._extent(short, font)[0] <= 200
    assert drawing._shortened("two\nlines", font, 500) == "two lines"


def test_a_font_of_ones_own(tmp_path):
    with pytest.raises(OSError, match="resource"):
        draw_boxes(Image.new("RGB", (300, 300)), [], font=tmp_path / "none.ttf")


@settings(max_examples=30, deadline=None)
@given(
    st.lists(boxes(), max_size=6),
    st.lists(st.text(max_size=40), min_size=6, max_size=6),
    st.tuples(st.integers(1, 700), st.integers(1, 700)),
)
def test_anything_can_be_drawn(some, labels, size):
    labelled = [
        box.model_copy(update={"label": label}) for box, label in zip(some, labels, strict=False)
    ]
    drawn = draw_boxes(Image.new("RGB", size, GREY), labelled)
    assert drawn.mode == "RGB"
    assert max(drawn.size) >= 224


def test_images_of_any_kind_and_depth():
    grey = np.full((300, 300), 128, np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG")
    for image in (grey, buffer.getvalue(), io.BytesIO(buffer.getvalue())):
        assert draw_boxes(image, []).getpixel((9, 9)) == (128, 128, 128)
    deep = np.full((300, 300), 20_000, np.uint16)
    deep[0], deep[1] = 0, 65_535
    # A quarter to a third of the range; clipped, it would be white.
    assert 50 < draw_boxes(Image.fromarray(deep), []).getpixel((9, 9))[0] < 110
    ink = Image.new("RGBA", (300, 300), (0, 0, 0, 0))
    assert draw_boxes(ink, []).getpixel((9, 9)) == (255, 255, 255)
    with pytest.raises(MediaError, match="draw_boxes"):
        draw_boxes(b"no image", [])
