"""Pillow images and arrays: decoded under a lock, and no longer the caller's."""

import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from langchain_internvl import MediaPolicy, image_block, video_block
from langchain_internvl.errors import MediaError, MediaTooLargeError
from langchain_internvl.media.images import load_rgb, orientation_of, read_size
from langchain_internvl.media.pixel_source import PixelSource
from langchain_internvl.media.sources import BytesSource, to_source

POLICY = MediaPolicy()


class SlowImage(Image.Image):
    """An image that decodes slowly on first use, and counts the threads inside."""

    def __init__(self, size=(8, 6)):
        super().__init__()
        self._mode, self._size = "RGB", size
        self.inside, self.most_inside, self.decoded = 0, 0, 0
        self._own_lock = threading.Lock()

    def load(self):
        with self._own_lock:
            self.inside += 1
            self.most_inside = max(self.most_inside, self.inside)
        try:
            if self._im is None:
                time.sleep(0.05)
                self._im = Image.new("RGB", self._size, "red").im
                self.decoded += 1
            return super().load()
        finally:
            with self._own_lock:
                self.inside -= 1


USES = {
    "load_rgb": lambda image: load_rgb(PixelSource(image, "x"), POLICY).getpixel((0, 0)),
    "upright": lambda image: load_rgb(PixelSource(image, "x"), POLICY, exif_transpose=True).size,
    "read_size": lambda image: read_size(PixelSource(image, "x"), POLICY),
    "orientation_of": lambda image: orientation_of(PixelSource(image, "x"), POLICY),
    "bytes": lambda image: PixelSource(image, "x").read(POLICY),
    "image_block": image_block,
    "video_block": lambda image: video_block([image, image]),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_one_thread_at_a_time_decodes_an_image(use):
    image = SlowImage()
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda _: use(image), range(6)))
    assert all(result == results[0] for result in results)
    assert (image.most_inside, image.decoded) == (1, 1)


def noise(width, height):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "GIF"])
def test_threads_that_share_a_lazily_opened_image_all_see_it(kind):
    buffer = io.BytesIO()
    Image.fromarray(noise(1200, 900)).save(buffer, kind)
    expected = np.asarray(load_rgb(BytesSource(buffer.getvalue(), "x"), POLICY))
    for _ in range(3):
        image = Image.open(io.BytesIO(buffer.getvalue()))
        source = PixelSource(image, "x")
        with ThreadPoolExecutor(8) as pool:
            direct = list(pool.map(lambda _, one=source: load_rgb(one, POLICY), range(4)))
            blocks = list(pool.map(lambda _, one=image: image_block(one)["base64"], range(4)))
        assert all(np.array_equal(np.asarray(one), expected) for one in direct)
        assert len(set(blocks)) == 1


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1), (4, 6, 3), (4, 6, 4)])
def test_an_array_may_be_changed_after_it_was_given(shape):
    array = np.full(shape, 200, np.uint8)
    source = to_source(array, "x")
    block = image_block(array)
    array[:] = 0
    assert load_rgb(source, POLICY).getpixel((0, 0)) == (200, 200, 200)
    assert block == image_block(np.full(shape, 200, np.uint8))


def test_what_is_read_is_a_copy():
    image = Image.new("RGB", (4, 4), "red")
    shown = load_rgb(PixelSource(image, "x"), POLICY)
    image.paste("blue", (0, 0, 4, 4))
    assert shown.getpixel((0, 0)) == (255, 0, 0)


def test_pixels_over_the_limit_are_not_decoded():
    image = SlowImage((100, 100))
    for use in (load_rgb, read_size, lambda source, policy: source.read(policy)):
        with pytest.raises(MediaTooLargeError, match="max_pixels=9999"):
            use(PixelSource(image, "x"), MediaPolicy(max_pixels=9999))
    assert image.decoded == 0


def test_an_image_whose_file_is_closed_is_a_typed_error(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(noise(60, 40)).save(path)
    with Image.open(path) as image:
        pass
    with pytest.raises(MediaError, match=r"x: the image is truncated, corrupt or closed: ."):
        load_rgb(PixelSource(image, "x"), POLICY)
    with pytest.raises(MediaError, match="truncated, corrupt or closed"):
        image_block(image)


def test_images_of_one_file_object_are_decoded_one_after_the_other():
    buffer = io.BytesIO()
    Image.fromarray(noise(300, 400)).save(buffer, "TIFF")
    expected = np.asarray(load_rgb(BytesSource(buffer.getvalue(), "x"), POLICY))
    for _ in range(5):
        # Four images and the file itself, all at once.
        images = [Image.open(buffer) for _ in range(4)]
        sources = [lambda one=one: to_source(one, "x") for one in [*images, buffer] * 2]
        with ThreadPoolExecutor(8) as pool:
            shown = list(pool.map(lambda make: load_rgb(make(), POLICY), sources))
        assert all(np.array_equal(np.asarray(one), expected) for one in shown)


def test_size_of_an_icon_that_is_a_pillow_image():
    buffer = io.BytesIO()
    Image.fromarray(noise(32, 32)).save(buffer, "ICO", sizes=[(32, 32)])
    assert read_size(PixelSource(Image.open(buffer), "x"), POLICY) == (32, 32)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF"])
def test_a_damaged_image_is_refused_each_time(kind):
    """Pillow takes an image for decoded after its decoder failed, and shows black pixels."""
    noise = np.random.default_rng(0).integers(0, 255, (200, 300, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    options = {"compression": "tiff_lzw"} if kind == "TIFF" else {}
    Image.fromarray(noise).save(buffer, kind, **options)
    data = bytearray(buffer.getvalue())
    middle = len(data) // 2
    data[middle : middle + 200] = bytes(255 - one for one in data[middle : middle + 200])
    image = Image.open(io.BytesIO(bytes(data)))
    for use in ("load_rgb", "load_rgb", "bytes", "image_block", "video_block"):
        with pytest.raises(MediaError, match="corrupt"):
            USES[use](image)


def test_frames_beside_a_damaged_one_are_read_each_time():
    frames = [Image.fromarray(noise(80, 80)) for _ in range(3)]
    buffer = io.BytesIO()
    options = {"save_all": True, "append_images": frames[1:], "compression": "tiff_lzw"}
    frames[0].save(buffer, "TIFF", **options)
    data = bytearray(buffer.getvalue())
    whole = Image.open(buffer)
    whole.seek(2)
    start = whole.tag_v2[273][0]  # StripOffsets
    data[start : start + 200] = b"\xff" * 200
    image = Image.open(io.BytesIO(bytes(data)))
    for number in (2, 0, 0, 1, 1, 2):
        image.seek(number)
        if number == 2:
            with pytest.raises(MediaError, match="corrupt"):
                load_rgb(PixelSource(image, "x"), POLICY)
        else:
            shown = load_rgb(PixelSource(image, "x"), POLICY)
            assert np.array_equal(np.asarray(shown), np.asarray(frames[number]))
