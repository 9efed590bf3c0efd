"""Pillow images that the caller opened and did not decode: where they are decoded, and as what."""

import base64
import io

import numpy as np
import pytest
from PIL import Image, ImageSequence

from langchain_internvl import MediaPolicy, image_block
from langchain_internvl.errors import MediaError, RequestTimeoutError
from langchain_internvl.media import undecoded
from langchain_internvl.media.deadline import Deadline
from langchain_internvl.media.images import load_rgb, read_size
from langchain_internvl.media.pixel_source import PixelSource
from langchain_internvl.media.sources import BytesSource

POLICY = MediaPolicy()


def noise(width=400, height=300):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


OTHERS = {
    "DDS": noise(), "SGI": noise(), "PCX": noise(), "ICNS": noise(256, 256),
    "MSP": noise().convert("1"), "SPIDER": noise().convert("F"), "BLP": noise().convert("P"),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "image"), OTHERS.items(), ids=OTHERS)
def test_other_formats_of_pillow_are_decoded_in_another_process(kind, image, monkeypatch):
    data = saved(image, kind)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    opened = Image.open(io.BytesIO(data))
    monkeypatch.setattr(type(opened), "load", lambda _: pytest.fail("decoded in this process"))
    source = PixelSource(opened, "x")
    shown = np.asarray(load_rgb(source, POLICY))
    assert np.array_equal(shown, expected)
    assert read_size(source, POLICY) == (expected.shape[1], expected.shape[0])
    with pytest.raises(RequestTimeoutError):
        load_rgb(source, POLICY, deadline=Deadline(0.01))


def test_a_page_after_the_first_is_that_page_wherever_it_is_decoded():
    pages = [noise(), noise().rotate(180), noise().rotate(90, expand=True)]
    data = saved(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    opened = Image.open(io.BytesIO(data))
    opened.seek(2)
    assert np.array_equal(np.asarray(load_rgb(PixelSource(opened, "x"), POLICY)), pages[2])
    block = image_block(opened)
    opened.seek(0)
    assert np.array_equal(np.asarray(load_rgb(PixelSource(opened, "x"), POLICY)), pages[0])
    assert block == image_block(pages[2])


def test_a_slow_page_after_the_first_is_decoded_in_another_process(monkeypatch):
    """100 JPEG scans are decoded one after the other; only the whole file tells of them."""
    jpeg = saved(noise(), "JPEG", progressive=True)
    data = saved(noise(), "MPO", save_all=True, append_images=[noise().rotate(180)])
    opened = Image.open(io.BytesIO(data + jpeg * 90))
    opened.seek(1)
    expected = np.asarray(opened.convert("RGB"))
    again = Image.open(io.BytesIO(data + jpeg * 90))
    again.seek(1)
    monkeypatch.setattr(undecoded, "is_slow", lambda *_: True)
    monkeypatch.setattr(type(again), "load", lambda _: pytest.fail("decoded in this process"))
    assert np.array_equal(np.asarray(load_rgb(PixelSource(again, "x"), POLICY)), expected)


def test_depth_and_transparency_are_kept():
    deep = Image.fromarray(np.full((300, 400), 40000, np.uint16))
    first = saved(Image.new("L", (9, 9)), "TIFF", save_all=True, append_images=[deep])
    opened = Image.open(io.BytesIO(first))
    opened.seek(1)
    shown = load_rgb(PixelSource(opened, "x"), POLICY, scale_16bit=True)
    assert shown.getpixel((5, 5)) == (156, 156, 156)
    clear = Image.open(io.BytesIO(saved(Image.new("RGBA", (400, 300), (0, 0, 0, 0)), "DDS")))
    shown = load_rgb(PixelSource(clear, "x"), POLICY, white_background=True)
    assert shown.getpixel((5, 5)) == (255, 255, 255)


def test_damage_of_other_formats_is_a_typed_error():
    data = saved(noise(), "SGI", rle=True)
    with pytest.raises(MediaError, match="x: is no image that can be read, or is damaged"):
        load_rgb(PixelSource(Image.open(io.BytesIO(data[:900])), "x"), POLICY)


def test_programs_are_not_run():
    data = saved(noise(), "EPS")
    for use in (lambda one: load_rgb(one, POLICY), lambda one: one.read(POLICY)):
        with pytest.raises(MediaError, match=r"x: EPS files are programs.*image\.load\(\)"):
            use(PixelSource(Image.open(io.BytesIO(data)), "x"))


def test_a_large_changed_image_of_a_slow_format_is_refused():
    opened = Image.open(io.BytesIO(saved(noise(2400, 1800), "SGI")))
    opened.info["transparency"] = (1, 2, 3)
    with pytest.raises(MediaError, match=r"was changed after Image\.open.*image\.load\(\)"):
        load_rgb(PixelSource(opened, "x"), POLICY)
    opened.load()
    assert load_rgb(PixelSource(opened, "x"), POLICY).size == (2400, 1800)


def test_frames_of_an_iterator_are_those_frames():
    """`ImageSequence` gives one object that moves on; a list of it has the last frame n times."""
    frames = [Image.new("RGB", (64, 48), colour) for colour in ("red", "lime", "blue")]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    blocks = [image_block(frame) for frame in ImageSequence.Iterator(Image.open(io.BytesIO(data)))]
    shown = [load_rgb(BytesSource(_bytes(block), "x"), POLICY).getpixel((9, 9)) for block in blocks]
    assert shown == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


def _bytes(block):
    return base64.b64decode(block["base64"])
