"""Files that are no image: the error names what they are, and what to do."""

import io
import struct
import zipfile

import numpy as np
import pytest
from golden import SCAN, VIDEO
from PIL import Image, TiffImagePlugin, features

from langchain_internvl import MediaPolicy, image_block, pdf_block
from langchain_internvl.errors import MediaError, UnsupportedMediaError
from langchain_internvl.media import encoded
from langchain_internvl.media.images import load_rgb
from langchain_internvl.media.pdf import read_pages
from langchain_internvl.media.signatures import identify, is_pdf, is_tiff, name_of
from langchain_internvl.media.sources import BytesSource
from langchain_internvl.media.video_process import read_clip

POLICY = MediaPolicy()


def zipped(*names):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in names:
            file.writestr(name, "x")
    return buffer.getvalue()


def saved(kind, size=(40, 30), **options):
    buffer = io.BytesIO()
    Image.new("RGB", size, "red").save(buffer, kind, **options)
    return buffer.getvalue()


def exif():
    found = Image.Exif()
    found[0x0131] = "%PDF-1.7 scanner"  # Software
    return found


@pytest.mark.parametrize(
    "data",
    [
        saved("AVIF", exif=exif()) if features.check("avif") else b"\0\0\0\x20ftypavif %PDF-1.7",
        saved("JPEG", exif=exif()), saved("WEBP", exif=exif()), saved("PNG", exif=exif()),
        saved("TIFF", exif=exif()), saved("GIF", comment=b"%PDF-1.7"),
        saved("JPEG2000", comment=b"%PDF-1.7"),
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic %PDF-1.7", b"\0\0\0\x18ftypisom %PDF-1.7",
        b"P6\n# %PDF-1.7\n2 1\n255\n......", b"P2 # made of a\r# %PDF-1.7\r 1 1 9 7",
        b"P7\n# %PDF-1.7\nWIDTH 1\n", b"\0\0\1\0\1\0 %PDF-1.7", b"8BPS %PDF-1.7",
    ],
)  # fmt: skip
def test_images_whose_metadata_contain_the_beginning_of_a_pdf(data):
    assert b"%PDF-" in data[:1024]
    assert not is_pdf(data)


@pytest.mark.parametrize("before", [b"", b"\n", b"P6 is the sixth page\n", b"HTTP/1.1 200 OK\r\n"])
def test_pdfs_may_begin_after_other_bytes(before):
    assert is_pdf(before + b"%PDF-1.7\n")


def wide_tiff():
    """A whole TIFF of 64-bit floats, which Pillow does not read."""
    buffer = io.BytesIO()
    Image.new("F", (40, 30)).save(buffer, "TIFF")
    bits = [struct.pack("<HHII", 258, 3, 1, bits) for bits in (32, 64)]
    assert bits[0] in buffer.getvalue()
    return buffer.getvalue().replace(*bits)


REST = bytes(range(200))
FILES = {
    "heic": (b"\0\0\0\x18ftypheic" + REST, "HEIC/HEIF image", "pip install pillow-heif"),
    "jxl": (b"\xff\x0a" + REST, "JPEG XL image", "djxl"),
    "jxl box": (b"\0\0\0\x0cJXL \r\n\x87\n" + REST, "JPEG XL image", "djxl"),
    "svg": (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG", "cairosvg"),
    "psd": (b"8BPS" + REST, "Photoshop", r"PIL\.Image\.open"),
    "eps": (saved("EPS"), "PostScript", "PNG"),
    "wmf": (b"\xd7\xcd\xc6\x9a" + REST, "WMF", "convert it"),
    "emf": (b"\1\0\0\0" + bytes(36) + b" EMF" + REST, "EMF", "convert it"),
    "djvu": (b"AT&TFORM" + REST, "DjVu", "ddjvu"),
    "dicom": (bytes(128) + b"DICM" + REST, "DICOM", "pydicom"),
    "cr3": (b"\0\0\0\x18ftypcrx " + REST, "CR3", "rawpy"),
    "raf": (b"FUJIFILMCCD-RAW" + REST, "Fujifilm raw", "rawpy"),
    "orf": (b"IIRO\x08\0\0\0" + REST, "Olympus raw", "rawpy"),
    "rw2": (b"IIU\0" + REST, "Panasonic raw", "rawpy"),
    "pdf": (SCAN.read_bytes(), "a PDF", "pdf_block"),
    "video": (VIDEO.read_bytes(), "a video", "video_block"),
    "html": (b"\n<!DOCTYPE html><html>Log in</html>", "HTML page", "address of the image itself"),
    "mp3": (b"ID3\4" + REST, "audio", "transcribe"),
    "wav": (b"RIFF\0\0\0\0WAVE" + REST, "audio", "transcribe"),
    "docx": (zipped("[Content_Types].xml", "word/document.xml"), "Word document", "libreoffice"),
    "zip": (zipped("a.png"), "ZIP archive", "unpack"),
    "doc": (b"\xd0\xcf\x11\xe0" + REST, "Office document", "libreoffice"),
    "gzip": (b"\x1f\x8b" + REST, "gzip", "unpack"),
    "npy": (b"\x93NUMPY" + REST, r"numpy\.save", r"numpy\.load"),
    "exr": (b"\x76\x2f\x31\x01" + REST, "OpenEXR", "array"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS", "git lfs pull"),
    "base64": (b"iVBORw0KGgoAAAANSUhEUg==", "base64 text", "b64decode"),
    "data url": (b"data:image/png;base64,iVBORw0KGgo", "base64 text", "b64decode"),
    "text": (b"There is no image", "text .'There is no image'", "as text"),
    "zeros": (bytes(5000), "5000 zero bytes", "again"),
    "png": (saved("PNG")[:20], "PNG image", "20 bytes.*whole file"),
    "jpeg": (saved("JPEG")[:30], "JPEG image", "30 bytes.*whole file"),
    "webp": (saved("WEBP")[:20], "WebP image", "20 bytes"),
    "avif": (saved("AVIF")[:40], "AVIF image that cannot be read", "cut off"),
    "wide tiff": (wide_tiff(), "TIFF image that cannot be read", "64-bit numbers"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "name", "remedy"), FILES.values(), ids=FILES)
def test_a_file_that_is_no_image_is_named_with_its_remedy(data, name, remedy):
    with pytest.raises(MediaError, match=rf"(?s)^x: .*{name}.*{remedy}"):
        load_rgb(BytesSource(data, "x"), POLICY)
    with pytest.raises(MediaError, match=name):
        image_block(data)


def test_avif_without_a_reader(monkeypatch):
    monkeypatch.setattr(encoded, "formats", lambda: ("PNG",))
    with pytest.raises(UnsupportedMediaError, match=r"AVIF image.*Pillow 11\.3"):
        load_rgb(BytesSource(saved("AVIF"), "x"), POLICY)


def raw(**tags):
    """A TIFF whose first image is the thumbnail of a raw photograph."""
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in tags.items():
        info[int(tag[1:])] = value
    return saved("TIFF", size=(160, 120), tiffinfo=info)


RAWS = {
    "NEF, ARW": raw(_254=1, _330=8),
    "DNG": raw(_50706=b"\1\4\0\0"),
    "CR2": saved("TIFF")[:8] + b"CR\2\0" + saved("TIFF")[12:],
}


@pytest.mark.parametrize("data", RAWS.values(), ids=RAWS)
def test_the_thumbnail_of_a_raw_photograph_is_not_taken_for_it(data):
    with pytest.raises(UnsupportedMediaError, match=r"raw photograph.*rawpy"):
        load_rgb(BytesSource(data, "x"), POLICY)


def test_a_tiff_with_smaller_copies_is_an_image():
    assert load_rgb(BytesSource(raw(_330=8), "x"), POLICY).size == (160, 120)


def test_what_is_no_pdf_and_no_video_is_named_too():
    png = saved("PNG")
    with pytest.raises(MediaError, match="is no PDF; it is a PNG image"):
        pdf_block(png)
    with pytest.raises(MediaError, match="it is a ZIP archive"):
        read_pages(BytesSource(zipped("a"), "x"), POLICY)
    with pytest.raises(MediaError, match="it is a PNG image, no video"):
        read_clip(BytesSource(png, "x"), POLICY)
    with pytest.raises(MediaError, match="it is a PDF, no video"):
        read_clip(BytesSource(SCAN.read_bytes(), "x"), POLICY)


def test_any_bytes_have_a_name_or_none():
    rng = np.random.default_rng(0)
    for length in (0, 1, 2, 7, 8, 9, 30, 200):
        for _ in range(50):
            identify(rng.bytes(length))
    assert identify(b"") is None
    assert identify("wörter".encode()[:2]).name == "text ('w')"


@pytest.mark.parametrize("head", [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"])
def test_tiffs_and_big_tiffs_are_tiffs(head):
    assert is_tiff(head + b"\x08\0\0\0")
    assert name_of(head + bytes(60)) == "a TIFF image"
    assert not is_tiff(b"\0" + head)
