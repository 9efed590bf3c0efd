"""Readers that packages register with Pillow decode in the process that can be killed."""

import io
import sys

import pytest
from PIL import Image, ImageFile

from langchain_internvl import MediaPolicy
from langchain_internvl.errors import (
    MediaError,
    MediaTooLargeError,
    RequestTimeoutError,
    UnsupportedMediaError,
)
from langchain_internvl.media import pillow_readers
from langchain_internvl.media.byte_sources import BytesSource
from langchain_internvl.media.deadline import Deadline
from langchain_internvl.media.encoded import is_slow, open_image
from langchain_internvl.media.images import load_readable, load_rgb
from langchain_internvl.media.pixel_source import PixelSource

POLICY = MediaPolicy()
HEAD = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"

PACKAGE = """
import time

from PIL import Image, ImageFile


class Reader(ImageFile.ImageFile):
    format = "{format}"

    def _open(self):
        self._mode, self._size, self.tile = "RGB", (6, 4), []
        self.content = self.fp.read()[24:]

    def load(self):
        if self._im is None:
            if self.content == b"hangs":
                time.sleep(600)
            if self.content == b"large":
                bytearray(1 << 33)
            if self.content == b"broken":
                raise OSError("no such tile")
            self._im = Image.new("RGB", (6, 4), "red").im
        return super().load()


def accept(head):
    return head[4:12] == b"ftypheic"


def register():
    Image.register_open("{format}", Reader, accept)
"""


@pytest.fixture(autouse=True)
def tables(monkeypatch):
    """Pillow's tables, restored after each test."""
    Image.init()
    for table in ("OPEN", "ID", "MIME", "EXTENSION", "SAVE", "SAVE_ALL"):
        monkeypatch.setattr(Image, table, type(getattr(Image, table))(getattr(Image, table)))


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Imports and registers the reader of a new package, which must not decode in this process."""

    def make(image_format="HEIF"):
        name = f"a_reader_of_{image_format.lower()}"
        (tmp_path / f"{name}.py").write_text(PACKAGE.format(format=image_format))
        monkeypatch.syspath_prepend(str(tmp_path))
        module = __import__(name)
        monkeypatch.setitem(sys.modules, name, module)  # removed after the test
        module.register()
        monkeypatch.setattr(module.Reader, "load", lambda _: pytest.fail("decoded in this process"))
        return module

    yield make
    for name in [one for one in sys.modules if one.startswith("a_reader_of_")]:
        del sys.modules[name]


def source(content=b""):
    return {
        "bytes": lambda: BytesSource(HEAD + content, "x"),
        "opened": lambda: PixelSource(Image.open(io.BytesIO(HEAD + content)), "x"),
    }


@pytest.mark.parametrize("shape", ["bytes", "opened"])
def test_an_image_is_decoded_in_another_process(package, shape):
    package()
    assert load_rgb(source()[shape](), POLICY).getpixel((5, 3)) == (255, 0, 0)


@pytest.mark.parametrize("shape", ["bytes", "opened"])
def test_jpeg_xl_is_read_once_a_reader_is_registered(package, shape):
    damaged = BytesSource(b"\xff\x0a" + bytes(99), "x")
    with pytest.raises(UnsupportedMediaError, match=r"JPEG XL.* pip install pillow-jxl-plugin"):
        load_rgb(damaged, POLICY)
    package("JXL")
    assert load_rgb(source()[shape](), POLICY).getpixel((5, 3)) == (255, 0, 0)
    with pytest.raises(RequestTimeoutError):
        load_rgb(source(b"hangs")[shape](), POLICY, deadline=Deadline(0.5))
    with pytest.raises(UnsupportedMediaError, match="it is damaged"):
        load_rgb(damaged, POLICY)


@pytest.mark.parametrize("image_format", ["ANY"])
def test_formats_that_only_an_opened_image_can_have(package, image_format):
    package(image_format)
    assert load_rgb(source()["opened"](), POLICY).getpixel((5, 3)) == (255, 0, 0)
    with pytest.raises(RequestTimeoutError):
        load_rgb(source(b"hangs")["opened"](), POLICY, deadline=Deadline(0.5))


@pytest.mark.parametrize("shape", ["bytes", "opened"])
def test_a_request_does_not_outlast_its_timeout(package, shape):
    package()
    with pytest.raises(RequestTimeoutError):
        load_rgb(source(b"hangs")[shape](), POLICY, deadline=Deadline(0.5))
    with pytest.raises(MediaError, match=r"MediaPolicy\.timeout=0\.5"):
        load_rgb(source(b"hangs")[shape](), MediaPolicy(timeout=0.5))


def test_memory_is_limited_and_damage_named(package):
    pytest.importorskip("resource")
    package()
    with pytest.raises(MediaTooLargeError, match="memory"):
        load_rgb(source(b"large")["bytes"](), POLICY)
    with pytest.raises(MediaError, match="no such tile"):
        load_rgb(source(b"broken")["bytes"](), POLICY)


def test_a_reader_that_replaces_one_of_pillow_is_the_one_used(package):
    """Its name in Pillow's table is AVIF, as that of pillow-heif's older releases."""
    package("AVIF")
    assert load_rgb(source()["bytes"](), POLICY).getpixel((5, 3)) == (255, 0, 0)


def test_a_reader_that_no_process_can_import_decodes_here(package, tmp_path):
    """It was imported from a file that is gone."""
    module = package()
    (tmp_path / f"{module.__name__}.py").unlink()
    assert pillow_readers.reference("HEIF") is not None

    def load(image):
        image._im = Image.new("RGB", (6, 4), "blue").im
        return ImageFile.ImageFile.load(image)

    module.Reader.load = load
    for shape in source().values():
        assert load_rgb(shape(), POLICY).getpixel((5, 3)) == (0, 0, 255)


def test_readers_of_main_and_of_functions_have_no_reference(monkeypatch):
    class Local(ImageFile.ImageFile):
        """A class that another process cannot import."""

    Image.register_open("LOCAL", Local, None)
    assert pillow_readers.is_foreign("LOCAL")
    assert pillow_readers.reference("LOCAL") is None
    Local.__module__, Local.__qualname__ = "__main__", "Local"
    monkeypatch.setattr(sys.modules["__main__"], "Local", Local, raising=False)
    assert pillow_readers.reference("LOCAL") is None
    assert pillow_readers.reference("PNG") is None
    assert pillow_readers.reference(None) is None


def test_pillow_heif():
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener(decode_threads=2)
    try:
        picture = Image.radial_gradient("L").resize((400, 300)).convert("RGB")
        exif = Image.Exif()
        exif[0x0112] = 6
        buffer = io.BytesIO()
        heif.from_pillow(picture).save(buffer, quality=-1, chroma=444, exif=exif.tobytes())
        data = buffer.getvalue()
        reader = pillow_readers.reference("HEIF")
        assert reader["settings"]["pillow_heif.options"]["DECODE_THREADS"] == 2
        image = open_image(data, "x")
        assert is_slow(image, data)
        expected = image.convert("RGB").tobytes()
        for one in (BytesSource(data, "x"), PixelSource(Image.open(io.BytesIO(data)), "x")):
            assert load_rgb(one, POLICY).tobytes() == expected
            assert load_readable(one, POLICY).size == image.size
        with pytest.raises(RequestTimeoutError):
            load_rgb(BytesSource(data, "x"), POLICY, deadline=Deadline(0.001))
    finally:
        heif.options.DECODE_THREADS = 4
