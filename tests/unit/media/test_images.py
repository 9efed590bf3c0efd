"""Reading images: as the reference does, and never with a crash."""

import io
import random
import zlib

import numpy as np
import pytest
from golden import GOLDEN, PHOTOS
from PIL import Image

from langchain_internvl.errors import MediaError, MediaTooLargeError, UnsupportedMediaError
from langchain_internvl.media.images import load_rgb, read_size, sniff_mime_type
from langchain_internvl.media.pixel_source import PixelSource
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.media.sources import BytesSource, PathSource, to_source

POLICY = MediaPolicy()


def encode(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def read(data, **options):
    return load_rgb(BytesSource(data, "test"), POLICY, **options)


def test_alpha_is_dropped_and_not_blended():
    image = Image.new("RGBA", (2, 1))
    image.putpixel((0, 0), (200, 100, 50, 0))
    assert read(encode(image)).getpixel((0, 0)) == (200, 100, 50)


def test_sixteen_bit_grey_saturates():
    image = Image.fromarray(np.array([[0, 100, 255, 256, 65535]], np.uint16))
    assert [value[0] for value in np.asarray(read(encode(image)))[0]] == [0, 100, 255, 255, 255]


def test_animation_gives_its_first_frame():
    frames = [Image.new("P", (3, 3), colour) for colour in (1, 2)]
    for frame in frames:
        frame.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert read(data).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_followed_only_on_request(orientation):
    image = Image.new("RGB", (6, 4))
    exif = image.getexif()
    exif[0x0112] = orientation
    source = BytesSource(encode(image, "JPEG", exif=exif), "test")
    assert load_rgb(source, POLICY).size == (6, 4)
    assert read_size(source, POLICY) == (6, 4)
    turned = (4, 6) if orientation >= 5 else (6, 4)
    assert load_rgb(source, POLICY, exif_transpose=True).size == turned
    assert read_size(source, POLICY, exif_transpose=True) == turned


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F", "I;16"]
)
def test_pil_images_of_any_mode_read_the_same_as_their_bytes(mode):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    base = Image.fromarray(pixels)
    image = (
        Image.fromarray(pixels[..., 0].astype(np.uint16)) if mode == "I;16" else base.convert(mode)
    )
    source = PixelSource(image, "test")
    direct = load_rgb(source, POLICY)
    through_png = read(source.read(POLICY))
    assert direct.mode == "RGB"
    assert np.array_equal(np.asarray(direct), np.asarray(through_png))


def test_a_pil_photograph_keeps_its_orientation_through_png():
    image = Image.open(GOLDEN / "images/exif_rot6.jpg")
    source = PixelSource(image, "test")
    upright = load_rgb(source, POLICY, exif_transpose=True)
    again = read(source.read(POLICY), exif_transpose=True)
    assert upright.size == again.size == image.size[::-1]
    assert np.array_equal(np.asarray(upright), np.asarray(again))


@pytest.mark.parametrize("name", sorted(path.name for path in PHOTOS.glob("*.*g")))
def test_real_photographs(name):
    image = load_rgb(PathSource(PHOTOS / name), POLICY)
    assert image.mode == "RGB"
    assert image.size == read_size(PathSource(PHOTOS / name), POLICY)


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (b"", MediaError, "empty"),
        (b"no image at all", UnsupportedMediaError, "not an image"),
        (b"%PDF-1.7 something", UnsupportedMediaError, "not an image"),
        (b"\x89PNG\r\n\x1a\n", MediaError, "test"),
        ((GOLDEN / "images/jpeg_plain.jpg").read_bytes()[:3000], MediaError, "truncated"),
        ((GOLDEN / "images/rgb_640x480.png").read_bytes()[:3000], MediaError, "truncated"),
    ],
)
def test_what_is_no_image_is_a_typed_error(data, error, words):
    with pytest.raises(error, match=words) as raised:
        read(data)
    assert raised.value.source == "test"


@pytest.mark.parametrize("size", [(0, 0), (0, 5), (5, 0)])
def test_images_without_pixels_are_refused(size):
    source = PixelSource(Image.new("RGB", size), "test")
    with pytest.raises(MediaError, match="no pixels"):
        load_rgb(source, POLICY)
    with pytest.raises(MediaError, match="no pixels"):
        source.read(POLICY)


def test_gigantic_images_are_refused_before_they_are_decoded():
    small = MediaPolicy(max_pixels=99)
    with pytest.raises(MediaTooLargeError, match="max_pixels"):
        load_rgb(BytesSource(encode(Image.new("RGB", (10, 10))), "test"), small)
    bomb = encode(Image.new("1", (1, 1)))
    header = bytearray(bomb)
    header[16:24] = (60_000).to_bytes(4, "big") * 2  # the size that a PNG says it has
    header[29:33] = zlib.crc32(bytes(header[12:29])).to_bytes(4, "big")
    with pytest.raises(MediaTooLargeError, match="MAX_IMAGE_PIXELS"):
        read(bytes(header))


def outcome_of(data):
    try:
        return "image" if read(data).mode == "RGB" else "another mode"
    except MediaError:
        return "error"


def test_programs_are_never_started_for_an_image():
    """Pillow hands EPS to ghostscript; it is not read at all."""
    with pytest.raises(UnsupportedMediaError):
        read(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["jpeg_plain.jpg", "mode_p.png", "gif_animated.gif", "webp_lossless.webp", "mode_cmyk.tiff"],
)
def test_damaged_files_give_an_image_or_a_typed_error(name):
    whole = (GOLDEN / "images" / name).read_bytes()
    chance = random.Random(name)
    outcomes = {"image": 0, "error": 0}
    for _ in range(60):
        data = bytearray(whole[: chance.randrange(1, len(whole) + 1)])
        for _ in range(chance.randrange(6)):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        outcomes[outcome_of(bytes(data))] += 1
    assert outcomes["error"] > 10


@pytest.mark.parametrize(
    ("name", "mime_type"),
    [
        ("jpeg_plain.jpg", "image/jpeg"),
        ("mode_p.png", "image/png"),
        ("gif_animated.gif", "image/gif"),
        ("webp_lossless.webp", "image/webp"),
        ("mode_cmyk.tiff", "image/tiff"),
    ],
)
def test_mime_type_comes_from_the_content(name, mime_type):
    assert sniff_mime_type((GOLDEN / "images" / name).read_bytes()) == mime_type


def test_mime_type_of_anything_else_is_unknown():
    assert sniff_mime_type(b"") is None
    assert sniff_mime_type(b"hello") is None


def test_arrays_are_rgb():
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[..., 0] = 255
    assert load_rgb(to_source(pixels, "test"), POLICY).getpixel((0, 0)) == (255, 0, 0)
    assert load_rgb(to_source(pixels[..., 0], "test"), POLICY).getpixel((0, 0)) == (255, 255, 255)
    assert load_rgb(to_source(pixels[..., :1], "test"), POLICY).size == (6, 4)
    rgba = np.concatenate([pixels, np.zeros((4, 6, 1), np.uint8)], axis=2)
    assert load_rgb(to_source(rgba, "test"), POLICY).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 6, 3), np.float32),
        np.zeros((4, 6, 2), np.uint8),
        np.zeros((3,), np.uint8),
        np.zeros((1, 4, 6, 3), np.uint8),
        np.zeros((0, 6, 3), np.uint8),
    ],
)
def test_arrays_that_are_no_picture_are_refused(array):
    with pytest.raises(MediaError):
        to_source(array, "test")


def test_a_jpeg_of_very_many_scans_is_refused():
    """Each scan of a progressive JPEG draws the whole picture anew; a few bytes cost 20 ms."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    assert load_rgb(BytesSource(data, "a.jpg"), MediaPolicy()).size == (64, 64)
    last = data.rindex(b"\xff\xda")
    many = data[:-2] + data[last:-2] * 200 + data[-2:]
    source = BytesSource(many, "a.jpg")
    for use in (read_size, load_rgb, load_rgb):  # the number of scans is kept after the first
        with pytest.raises(MediaTooLargeError, match="more than 100 scans"):
            use(source, MediaPolicy())
