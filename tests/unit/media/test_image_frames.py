"""How many images a file has of which one is read."""

import io
import struct
import warnings

import pytest
from drawn_pages import encode
from PIL import Image, features

from langchain_internvl.errors import MediaError, MediaTooLargeError
from langchain_internvl.media.image_frames import count_frames
from langchain_internvl.media.images import load_readable, load_rgb, use_rgb
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.media.sources import BytesSource, PixelSource
from langchain_internvl.media.tiff_pages import stream_tiff_pages

POLICY = MediaPolicy()
ANIMATED = [
    pytest.param(one, marks=pytest.mark.skipif(
        one == "AVIF" and not features.check("avif"), reason="this build reads no AVIF"
    ))
    for one in ("GIF", "WEBP", "PNG", "AVIF", "MPO", "TIFF")
]  # fmt: skip


def several(form, *sizes, **options):
    images = [Image.new("RGB", size, (40 * n, 90, 10)) for n, size in enumerate(sizes)]
    return encode(images[0], form, save_all=True, append_images=images[1:], **options)


def count(data):
    return count_frames(data, "a", POLICY)


@pytest.mark.parametrize("form", ANIMATED)
def test_images_are_counted(form):
    assert count(several(form, *[(70, 50)] * 3)) == 3
    still = "JPEG" if form == "MPO" else form
    assert count(encode(Image.new("RGB", (70, 50)), still)) == 1


def test_pictures_that_belong_to_another_are_not_counted():
    """Cameras put previews into an MPO, and phones maps of gains, which may be as large."""
    assert count(several("MPO", (80, 60), (40, 30))) == 1
    gains = Image.new("L", (80, 60))
    gains.encoderinfo = {"xmp": b'<x hdrgm:Version="1.0"/>'}
    photo = encode(Image.new("RGB", (80, 60)), "MPO", save_all=True, append_images=[gains])
    assert count(photo) == 1
    thumbnail = Image.new("RGB", (8, 6))
    thumbnail.encoderinfo = {"tiffinfo": {254: 1}}
    page = Image.new("RGB", (80, 60))
    assert count(encode(page, "TIFF", save_all=True, append_images=[thumbnail])) == 1


def test_long_animations_are_counted_whole():
    noise = [Image.effect_noise((200, 160), 90).convert("P") for _ in range(60)]
    data = encode(noise[0], "GIF", save_all=True, append_images=noise[1:])
    assert count(data) == 60
    assert 2 <= count(data[: len(data) // 2]) < 60  # those that the rest of the file has


def test_many_small_frames_are_counted_whole():
    start = b"GIF89a" + struct.pack("<HHBBB", 9, 9, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    frame = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02D\x01\x00"
    assert count(start + frame * 5000 + b";") == 5000
    assert count(chain(1500)) == 1500


def test_messages_warn_of_files_with_several_images():
    data = several("GIF", (70, 50), (70, 50))
    with pytest.warns(UserWarning, match="an image file with 2 images"):
        size = use_rgb(BytesSource(data, "a"), POLICY, lambda rgb: rgb.size)
    assert size == (70, 50)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_readable(BytesSource(data, "a"), POLICY)  # tools and documents say it themselves
        opened = PixelSource(Image.open(io.BytesIO(data)), "a")  # the program chose the frame
        assert use_rgb(opened, POLICY, lambda rgb: rgb.size) == (70, 50)
        still = BytesSource(encode(Image.new("RGB", (9, 9)), "GIF"), "a")
        assert use_rgb(still, POLICY, lambda rgb: rgb.size) == (9, 9)


@pytest.mark.parametrize("form", ANIMATED)
def test_files_that_are_cut_off_are_shown_as_without_a_warning(form):
    """A reader that looks for the second frame raises anything, and may leave the first."""
    data = several(form, *[(70, 50)] * 3)
    for end in range(1, len(data), len(data) // 400 + 1):
        source = BytesSource(data[:end], "a")
        shown = []
        for show in (load_rgb, lambda *given: use_rgb(*given, lambda rgb: rgb)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    shown.append(show(source, POLICY).tobytes())
                except MediaError as error:
                    shown.append(str(error).encode())
        assert shown[0] == shown[1]


def chain(many):
    """A TIFF whose pages are all the same strip of nine pixels."""
    tags = [(256, 9), (257, 1), (258, 8), (259, 1), (262, 1), (273, 0), (279, 9)]
    entries = b"".join(struct.pack("<HHLL", tag, 4, 1, value) for tag, value in tags)
    size = 2 + len(entries) + 4
    data = b"II*\0" + struct.pack("<L", 8)
    for number in range(many):
        following = 0 if number + 1 == many else 8 + size * (number + 1)
        data += struct.pack("<H", len(tags)) + entries + struct.pack("<L", following)
    return data


def test_a_chain_of_many_pages_ends_in_time(monkeypatch):
    assert count(chain(20)) == 20
    clock = iter(range(10**9))  # a second for each page
    monkeypatch.setattr("langchain_internvl.media.image_frames.time.monotonic", lambda: next(clock))
    with pytest.raises(MediaTooLargeError, match=r"within MediaPolicy\.timeout=30 s"):
        next(stream_tiff_pages(chain(60), "a.tif", POLICY))
    assert 1 <= count(chain(60)) < 60
