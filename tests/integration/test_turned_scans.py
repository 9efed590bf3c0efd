"""Scans as they come out of a box, read by the embedded model."""

import pytest
from drawn_pages import encode
from PIL import Image, ImageDraw, ImageFont

from langchain_internvl import ChatInternVL, InternVLLoader

LINES = ["Lease of the house", "Rent 900 monthly", "Copper kettle"]


@pytest.fixture(scope="module")
def nano():
    llm = ChatInternVL(model="nano", temperature=0)
    yield llm
    llm.close()


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_pages_are_read_whatever_way_up_they_lie(nano, degrees):
    page = Image.new("RGB", (448, 448), "white")
    pen = ImageDraw.Draw(page)
    for number, line in enumerate(LINES):
        pen.text((30, 50 + 80 * number), line, "black", ImageFont.load_default(34))
    (found,) = InternVLLoader(encode(page.rotate(degrees)), llm=nano).load()
    assert found.page_content.splitlines() == LINES
    assert found.metadata["rotation"] == degrees  # Pillow turned it the other way
    assert found.metadata["token_probability"] > 0.9
    assert (found.metadata["attempts"] == 1) == (degrees == 0)
