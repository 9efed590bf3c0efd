"""Images that may take long: decoded in a process of their own, or refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from golden import checkpoint_folder
from langchain_core.messages import HumanMessage
from PIL import Image, ImageFile, Jpeg2KImagePlugin
from support import FixedBackend

from langchain_internvl import ChatInternVL, MediaPolicy, image_block
from langchain_internvl.errors import (
    MediaError,
    MediaTooLargeError,
    RequestTimeoutError,
    UnsupportedMediaError,
)
from langchain_internvl.media import encoded, images, process
from langchain_internvl.media.deadline import Deadline
from langchain_internvl.media.encoded import ReadOptions, decode_image, formats, is_slow, open_image
from langchain_internvl.media.images import load_readable, load_rgb, read_size, sniff_mime_type
from langchain_internvl.media.pixel_source import PixelSource
from langchain_internvl.media.sources import BytesSource

POLICY = MediaPolicy()


def qoi(width, height):
    """A QOI image (https://qoiformat.org/qoi-specification.pdf) of one colour, in long runs."""
    runs = -(-(width * height - 1) // 62)
    return (
        b"qoif" + struct.pack(">IIBB", width, height, 3, 0)
        + b"\xfe\xc8\x64\x32" + b"\xfd" * runs + bytes(7) + b"\x01"
    )  # fmt: skip


def long_qoi(width, height):
    """Every pixel has a code of its own: half a minute for 16 million of them."""
    return b"qoif" + struct.pack(">IIBB", width, height, 3, 0) + b"\x6a" * (width * height)


def plain_ppm(width, height):
    return f"P3 {width} {height} 255\n".encode() + b"200 100 50\n" * (width * height)


def odd_ppm(width, height):
    """Values up to 100 instead of 255."""
    return f"P6 {width} {height} 100\n".encode() + b"\x64\x32\x19" * (width * height)


def rle_bmp(width, height):
    """Rows of runs of 255 pixels of the second colour."""
    row = b"".join(
        bytes([min(255, width - start), 1]) for start in range(0, width, 255)
    ) + b"\0\0"  # fmt: skip
    pixels = row * height + b"\0\1"
    palette = bytes([0, 0, 0, 0, 50, 100, 200, 0])
    start = 54 + len(palette)
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(pixels), 0, 0, 2, 0)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + head + palette + pixels


def saved(kind, **options):
    def make(width, height):
        buffer = io.BytesIO()
        Image.new("RGB", (width, height), (200, 100, 50)).save(buffer, kind, **options)
        return buffer.getvalue()

    return make


SLOW = {
    "qoi": (qoi, (600, 400)),
    "plain ppm": (plain_ppm, (400, 300)),
    "ppm of another maximum": (odd_ppm, (400, 300)),
    "rle bmp": (rle_bmp, (600, 400)),
    "jpeg 2000": (saved("JPEG2000"), (2400, 1800)),
}


@pytest.mark.parametrize(("make", "size"), SLOW.values(), ids=SLOW)
def test_slow_formats_are_decoded_elsewhere_to_the_same_pixels(make, size, monkeypatch):
    used = []
    elsewhere = images._decode_elsewhere

    def note(*arguments):
        used.append(arguments)
        return elsewhere(*arguments)

    monkeypatch.setattr(images, "_decode_elsewhere", note)
    data = make(*size)
    shown = load_rgb(BytesSource(data, "x"), POLICY)
    assert len(used) == 1
    expected = decode_image(data, "x", POLICY, ReadOptions())
    assert shown.size == size
    assert np.array_equal(np.asarray(shown), np.asarray(expected))
    small = load_rgb(BytesSource(make(40, 30), "x"), POLICY)
    assert small.size == (40, 30)
    assert len(used) == 1  # a small one costs less than a process


@pytest.fixture
def no_slow_decode(monkeypatch):
    """Pillow images of slow formats must not be decoded in this process."""
    load = ImageFile.ImageFile.load

    def refuse(image):
        assert not is_slow(image, b""), "decoded in this process"
        return load(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", refuse)
    monkeypatch.setattr(Jpeg2KImagePlugin.Jpeg2KImageFile, "load", refuse)


@pytest.mark.parametrize(("make", "size"), SLOW.values(), ids=SLOW)
def test_slow_images_that_the_caller_opened_are_decoded_elsewhere(make, size, tmp_path, request):
    data = make(*size)
    expected = decode_image(data, "x", POLICY, ReadOptions())
    path = tmp_path / "image"
    path.write_bytes(data)
    request.getfixturevalue("no_slow_decode")
    with path.open("rb") as file:
        for opened in (Image.open(path), Image.open(io.BytesIO(data)), Image.open(file)):
            source = PixelSource(opened, "x")
            assert read_size(source, POLICY) == size
            assert source.read(POLICY) == data
            shown = load_rgb(source, POLICY)
            assert shown.tobytes() == expected.tobytes()
            with pytest.raises(MediaTooLargeError, match="larger than"):
                load_rgb(source, MediaPolicy(max_bytes=len(data) - 1))
            backend = FixedBackend()
            llm = ChatInternVL(model=str(checkpoint_folder("qwen2")), backend=backend, max_tiles=1)
            for given in (image_block(opened), {"type": "image", "image": opened}):
                llm.invoke([HumanMessage([given])])
            first, second = (request.tiles[0] for request in backend.requests)
            assert np.array_equal(first, second)


def test_an_image_that_the_caller_opened_ends_with_the_deadline():
    source = PixelSource(Image.open(io.BytesIO(long_qoi(4000, 4000))), "x.qoi")
    with pytest.raises(RequestTimeoutError):
        load_rgb(source, POLICY, deadline=Deadline(0.5))


@pytest.mark.parametrize("is_opened", [False, True])
def test_an_image_that_is_decoded_after_the_deadline_is_late(is_opened, monkeypatch):
    """Also where the timer that ends the process comes too late, as under load."""
    deadline = Deadline(3600)
    ends = process.Decoding.pixels

    def pixels(records):
        monkeypatch.setattr(deadline, "_end", 0.0)
        return ends(records)

    monkeypatch.setattr(process.Decoding, "pixels", pixels)
    data = qoi(600, 400)
    source = PixelSource(Image.open(io.BytesIO(data)), "x") if is_opened else BytesSource(data, "x")
    with pytest.raises(RequestTimeoutError):
        load_rgb(source, POLICY, deadline=deadline)


def test_changes_of_an_opened_image_are_kept():
    data = qoi(600, 400)
    loaded, changed = Image.open(io.BytesIO(data)), Image.open(io.BytesIO(data))
    loaded.load()
    loaded.paste((1, 2, 3), (0, 0, 600, 400))
    changed.info["transparency"] = (200, 100, 50)
    assert load_rgb(PixelSource(loaded, "x"), POLICY).getpixel((9, 9)) == (1, 2, 3)
    shown = load_rgb(PixelSource(changed, "x"), POLICY, white_background=True)
    assert shown.getpixel((9, 9)) == (255, 255, 255)
    small = Image.open(io.BytesIO(saved("JPEG2000")(2400, 1800)))
    small.reduce = 1
    assert load_rgb(PixelSource(small, "x"), POLICY).size == (1200, 900)


def test_the_usual_formats_start_no_process():
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM"):
        data = saved(kind)(3000, 2000)
        assert not is_slow(open_image(data, "x"), data), kind


def test_options_hold_elsewhere_too():
    deep = b"P2 400 300 65535\n" + b"40000\n" * (400 * 300)
    with pytest.warns(UserWarning, match="scale_16bit=True"):
        assert load_rgb(BytesSource(deep, "x"), POLICY).getpixel((0, 0)) == (255, 255, 255)
    assert load_readable(BytesSource(deep, "x"), POLICY).getpixel((0, 0)) == (156, 156, 156)


def qoi_of_pixels(width, height):
    """Every pixel by itself, which takes Pillow some seconds for a megabyte."""
    head = b"qoif" + struct.pack(">IIBB", width, height, 3, 0)
    return head + b"\xfe\xc8\x64\x32\xfe\x00\x01\x02" * (width * height // 2) + bytes(7) + b"\x01"


@pytest.mark.parametrize("make", [qoi_of_pixels, plain_ppm])
def test_an_image_outlasts_no_timeout(make):
    data = make(4000, 1400)
    with pytest.raises(MediaError, match=r"x: not decoded within MediaPolicy\.timeout=0\.3 s"):
        load_rgb(BytesSource(data, "x"), MediaPolicy(timeout=0.3))
    with pytest.raises(RequestTimeoutError, match=r"timeout=0\.3 s"):
        load_rgb(BytesSource(data, "x"), POLICY, deadline=Deadline(0.3))

    class Looking(FixedBackend):
        def stream(self, request):
            assert not [tiles.shape for tiles in request.tiles]
            yield from super().stream(request)

    llm = ChatInternVL(model=str(checkpoint_folder("internlm2")), backend=Looking())
    llm.prompt_ids("x")  # the tokenizer is loaded
    with pytest.raises(RequestTimeoutError, match=r"timeout=0\.5 s"):
        llm.invoke([HumanMessage([{"type": "image", "image": data}])], timeout=0.5)


def test_damage_is_found_elsewhere_too():
    data = bytearray(saved("JPEG2000")(2400, 1800))
    del data[len(data) // 2 :]
    with pytest.raises(MediaError, match="x: is no image that can be read, or is damaged"):
        load_rgb(BytesSource(bytes(data), "x"), POLICY)
    with pytest.raises(MediaTooLargeError, match="max_pixels=1000"):
        load_rgb(BytesSource(qoi(600, 400), "x"), MediaPolicy(max_pixels=1000))


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of_chunks(count, *, before):
    whole = saved("PNG")(8, 8)
    place = whole.index(b"IDAT") - 4 if before else whole.index(b"IEND") - 4
    return whole[:place] + chunk(b"prVt", b"") * count + whole[place:]


MANY_PARTS = {
    "png, before the pixels": lambda: png_of_chunks(200_000, before=True),
    "png, behind the pixels": lambda: png_of_chunks(200_000, before=False),
    "jpeg": lambda: b"\xff\xd8" + b"\xff\xfe\x00\x02" * 200_000 + saved("JPEG")(8, 8)[2:],
    "ppm": lambda: b"P6 #" + b"x" * 300_000 + b"\n1 1 255\n\0\0\0",
    "tiff": lambda: (
        b"II\x2b\0\x08\0\0\0" + struct.pack("<QQ", 16, 200_000)
        + struct.pack("<HHQQ", 65000, 1, 1, 7) * 200_000 + bytes(8)
    ),
}  # fmt: skip


@pytest.mark.parametrize("make", MANY_PARTS.values(), ids=MANY_PARTS)
def test_files_of_very_many_parts_are_refused(make):
    """Pillow walks them in Python; 64 MiB of them took tens of seconds."""
    with pytest.raises(MediaTooLargeError, match="too many parts"):
        load_rgb(BytesSource(make(), "x"), POLICY)


def test_a_png_of_small_chunks_is_read():
    """Encoders write chunks of 8 KiB, some smaller ones."""
    pixels = np.random.default_rng(0).integers(0, 256, (600, 800, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    data = buffer.getvalue()
    start = data.index(b"IDAT")
    body = b""
    place = start - 4
    while data[place + 4 : place + 8] == b"IDAT":
        length = int.from_bytes(data[place : place + 4], "big")
        body += data[place + 8 : place + 8 + length]
        place += length + 12
    small = b"".join(chunk(b"IDAT", body[at : at + 1024]) for at in range(0, len(body), 1024))
    again = data[: start - 4] + small + data[place:]
    assert np.array_equal(np.asarray(load_rgb(BytesSource(again, "x"), POLICY)), pixels)


def test_an_icon_has_the_size_of_its_image():
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(buffer, "ICO", sizes=[(64, 64)])
    data = bytearray(buffer.getvalue())
    data[6:8] = bytes([32, 32])  # what the directory says
    source = BytesSource(bytes(data), "x")
    assert read_size(source, POLICY) == load_rgb(source, POLICY).size
    large = saved("PNG")(500, 500)
    directory = struct.pack("<HHH", 0, 1, 1)
    entry = struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(large), 22)
    with pytest.raises(MediaTooLargeError):
        load_rgb(BytesSource(directory + entry + large, "x"), MediaPolicy(max_pixels=1000))


# HEIC.

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)


def test_heic_without_a_reader_is_named(monkeypatch):
    monkeypatch.setattr(encoded, "formats", lambda: ("PNG",))
    with pytest.raises(UnsupportedMediaError, match=r"HEIC/HEIF .* pip install pillow-heif"):
        load_rgb(BytesSource(HEIC, "x"), POLICY)


def test_heic_with_a_reader_is_read(monkeypatch):
    """A reader that a program registers later; as pillow-heif's, it is called HEIF."""
    for table in ("OPEN", "ID", "MIME"):
        monkeypatch.setattr(Image, table, type(getattr(Image, table))(getattr(Image, table)))

    class Reader(ImageFile.ImageFile):
        format = "HEIF"

        def _open(self):
            red = Image.new("RGB", (6, 4), "red")
            self._mode, self._size, self._im = "RGB", red.size, red.im

    before = formats()
    Image.register_open("HEIF", Reader, lambda head: head[4:12] == b"ftypheic")
    Image.register_mime("HEIF", "image/heif")
    assert set(formats()) - set(before) == {"HEIF"}
    assert load_rgb(BytesSource(HEIC, "x"), POLICY).getpixel((0, 0)) == (255, 0, 0)
    assert sniff_mime_type(HEIC) == "image/heif"
