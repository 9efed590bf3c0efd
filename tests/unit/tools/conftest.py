"""Pictures of every orientation."""

import pytest
from PIL import Image, ImageDraw
from vision_tool_support import SIZE


@pytest.fixture
def folder(tmp_path):
    picture = Image.new("RGB", SIZE, "white")
    ImageDraw.Draw(picture).rectangle((60, 40, 119, 79), fill="red")  # the lower right quarter
    picture.save(tmp_path / "a.png")
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture.save(tmp_path / f"{orientation}.png", exif=exif)
    return tmp_path
