"""Names the format of a file by its first bytes, for errors, and what to do with it.

Signatures: the formats' specifications, as in https://www.garykessler.net/library/file_sigs.html.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from langchain_internvl.media.video_signatures import has_signature

_OPEN = "open it with PIL.Image.open() and pass that object, or convert it to PNG"
_CONVERT = "convert it to PNG or JPEG"
_JPEG_XL = (
    f"{_CONVERT} (djxl FILE OUT.png), or give Pillow a reader: pip install pillow-jxl-plugin, then "
    "import pillow_jxl"
)
_TO_PDF = "convert it to PDF (libreoffice --headless --convert-to pdf FILE), and pass that"
_UNPACK = "unpack it, and pass the files in it"
_DEVELOP = "develop it (rawpy.imread(path).postprocess() gives an array), or export it as JPEG"
_VIDEO = "pass it to video_block(), or in a block of type video"
_NO_AUDIO = "InternVL takes no audio; transcribe it first"
_SAVE = "the transfer or the disk lost its content: copy or download it again"


@dataclass(frozen=True)
class Format:
    """A format of files.

    Attributes:
        name: Its name with an article, such as "a PDF".
        remedy: What to do with such a file that was not read as an image.
        is_image: Whether images of this format can be read, unless they are damaged or of a rare
            kind.
    """

    name: str
    remedy: str
    is_image: bool = False


def _rows(offset: int, *rows: tuple[str, str, str]) -> list[tuple[int, bytes, Format]]:
    return [(offset, magic.encode("latin-1"), Format(name, remedy)) for magic, name, remedy in rows]


# Signatures that begin another one come after it.
_SIGNATURES = [
    *_rows(
        4,
        ("ftypcrx ", "a Canon CR3 raw photograph", _DEVELOP),
        ("ftypavif", "an AVIF image", f"{_CONVERT}, or use Pillow 11.3 or newer with AVIF"),
        ("ftypavis", "an AVIF animation", f"{_CONVERT}, or use Pillow 11.3 or newer with AVIF"),
        ("ftypM4A", "audio (M4A)", _NO_AUDIO),
        *((f"ftyp{brand}", "a HEIC/HEIF image", (
            "it needs a reader: pip install pillow-heif, then call "
            "pillow_heif.register_heif_opener()"
        )) for brand in ("heic", "heix", "hevc", "hevx", "heim", "heis", "mif1", "msf1")),
    ),
    *_rows(
        8,
        ("CR\x02\0", "a Canon CR2 raw photograph", _DEVELOP),
        ("WAVE", "audio (WAV)", _NO_AUDIO),
        ("AVI ", "a video (AVI)", _VIDEO),
    ),
    *_rows(128, ("DICM", "a DICOM image", (
        "pydicom.dcmread(path).pixel_array gives its values; scale them to uint8, and pass the "
        "array"
    ))),
    *_rows(
        0,
        ("\xff\x0a", "a JPEG XL image", _JPEG_XL),
        ("\0\0\0\x0cJXL ", "a JPEG XL image", _JPEG_XL),
        ("8BPS", "a Photoshop image (PSD)", _OPEN),
        ("%!PS", "a PostScript file (EPS)", f"{_CONVERT}, or convert it to PDF (ps2pdf FILE)"),
        ("\xc5\xd0\xd3\xc6", "a PostScript file (EPS)", f"{_CONVERT}, or to PDF (ps2pdf FILE)"),
        ("\xd7\xcd\xc6\x9a", "a Windows metafile (WMF)", _CONVERT),
        ("\x01\0\x09\0\0\x03", "a Windows metafile (WMF)", _CONVERT),
        ("AT&TFORM", "a DjVu document", "convert it to PDF (ddjvu -format=pdf FILE OUT.pdf)"),
        ("FUJIFILMCCD-RAW", "a Fujifilm raw photograph", _DEVELOP),
        ("IIRO", "an Olympus raw photograph", _DEVELOP),
        ("IIRS", "an Olympus raw photograph", _DEVELOP),
        ("MMOR", "an Olympus raw photograph", _DEVELOP),
        ("IIU\0", "a Panasonic raw photograph", _DEVELOP),
        ("FOVb", "a Sigma raw photograph", _DEVELOP),
        ("\0MRM", "a Minolta raw photograph", _DEVELOP),
        ("II\xbc", "a JPEG XR image", _CONVERT),
        ("\x76\x2f\x31\x01", "an OpenEXR image", "scale its values to uint8, and pass the array"),
        ("#?RADIANCE", "a Radiance HDR image", "scale its values to uint8, and pass the array"),
        ("BPG\xfb", "a BPG image", _CONVERT),
        ("FLIF", "a FLIF image", _CONVERT),
        ("DDS ", "a DDS texture", _OPEN),
        ("\x01\xda", "an SGI image", _OPEN),
        ("icns", "an Apple icon (ICNS)", _OPEN),
        ("SIMPLE  =", "a FITS image", _OPEN),
        ("gimp xcf", "a GIMP image (XCF)", _CONVERT),
        ("/* XPM */", "an XPM image", _OPEN),
        ("\x93NUMPY", "an array of numpy.save", "pass numpy.load(path)"),
        ("\x89HDF", "an HDF5 file", "read its arrays with h5py, and pass them"),
        ("version https://git-lfs", "a pointer of Git LFS", "run: git lfs pull"),
        ("ID3", "audio (MP3)", _NO_AUDIO),
        ("\xff\xfb", "audio (MP3)", _NO_AUDIO),
        ("fLaC", "audio (FLAC)", _NO_AUDIO),
        ("\xd0\xcf\x11\xe0", "an Office document (.doc, .xls, .ppt)", _TO_PDF),
        ("{\\rtf", "an RTF document", _TO_PDF),
        ("\x1f\x8b", "a gzip archive", _UNPACK),
        ("7z\xbc\xaf", "a 7z archive", _UNPACK),
        ("Rar!", "a RAR archive", _UNPACK),
        ("BZh", "a bzip2 archive", _UNPACK),
        ("\xfd7zXZ", "an xz archive", _UNPACK),
        ("\x28\xb5\x2f\xfd", "a Zstandard archive", _UNPACK),
        ("MZ", "a Windows program", "pass an image"),
        ("\x7fELF", "a program", "pass an image"),
    ),
]  # fmt: skip

_TIFF = b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"
"""First bytes of a TIFF (TIFF 6.0), and of a BigTIFF."""

# Formats that are read: a file that begins so and is refused is damaged.
_READ = [
    (0, b"\x89PNG", "a PNG image"), (0, b"\xff\xd8", "a JPEG image"), (0, b"GIF8", "a GIF image"),
    *((0, head, "a TIFF image") for head in _TIFF), (8, b"WEBP", "a WebP image"),
    (0, b"BM", "a BMP image"), (0, b"qoif", "a QOI image"), (20, b"jp2 ", "a JPEG 2000 image"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
]  # fmt: skip

_IN_ZIP = {
    b"word/": "a Word document (.docx)",
    b"ppt/": "a PowerPoint document (.pptx)",
    b"xl/": "an Excel workbook (.xlsx)",
    b"mimetypeapplication/epub": "an EPUB book",
    b"mimetypeapplication/vnd.oasis": "an OpenDocument file",
}

_HTML = re.compile(rb"\s*(<!doctype html|<html|<head|<body)", re.IGNORECASE)
_BASE64 = re.compile(rb"(data:[\w/+.;=-]*,|iVBORw0KGgo|/9j/|R0lGOD|UklGR|JVBERi0)")


_IMAGES = (
    *_TIFF, b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM",
    b"\0\0\0\x0cjP", b"\xff\x4f\xff\x51", b"qoif", b"\x93NUMPY", b"\0\0\1\0", b"\0\0\2\0",
    b"\0\0\0\x0cJXL ", b"\xff\x0a", b"II\xbc", b"8BPS", b"icns", b"DDS ", b"\x01\xda",
    b"\x76\x2f\x31\x01", b"#?RADIANCE", b"BPG\xfb", b"FLIF", b"SIMPLE  =", b"gimp xcf",
    b"/* XPM */", b"P7\n",
)  # fmt: skip
"""Beginnings of images whose metadata may contain the beginning of a PDF."""
_PNM = re.compile(rb"P[1-6](\s|#[^\r\n]*[\r\n])+[0-9]")
"""Beginning of a PBM, PGM or PPM image: its width follows, perhaps after comments."""


def _is_image(data: bytes) -> bool:
    """Whether a file begins as an image, or as a video of ISO/IEC 14496-12 (HEIC, AVIF, MP4)."""
    return data.startswith(_IMAGES) or data[4:8] == b"ftyp" or _PNM.match(data) is not None


def is_pdf(data: bytes) -> bool:
    """Whether a file is a PDF, which may begin after other bytes (ISO 32000-1, annex H.3.4.1).

    Images with a signature are none, whatever their metadata contain; TGA has no signature.

    Args:
        data: The file, or at least its first 1024 bytes.
    """
    return b"%PDF-" in data[:1024] and not _is_image(data)


def is_tiff(data: bytes) -> bool:
    """Whether a file begins as a TIFF or BigTIFF, which may have pages.

    Args:
        data: The file, or at least its first 4 bytes.
    """
    return data.startswith(_TIFF)


def identify(data: bytes) -> Format | None:
    """The format of a file, by its first bytes; None: it is unknown.

    Args:
        data: The file, or at least its first 4096 bytes. Empty: None.
    """
    if is_pdf(data):
        return Format("a PDF", "pass it to pdf_block(), or in a block of type file")
    for offset, magic, found in _SIGNATURES:
        if data.startswith(magic, offset):
            return found
    if data.startswith(b"\x01\0\0\0") and data.startswith(b" EMF", 40):
        return Format("a Windows metafile (EMF)", _CONVERT)
    if data.startswith(b"PK\x03\x04"):
        names = (name for mark, name in _IN_ZIP.items() if mark in data)
        name = next(names, None)
        return Format(name, _TO_PDF) if name else Format("a ZIP archive", _UNPACK)
    return _read(data) or _video(data) or _text(data)


def _read(data: bytes) -> Format | None:
    for offset, magic, name in _READ:
        if data.startswith(magic, offset):
            return Format(name, unreadable(data), is_image=True)
    if data and not data.strip(b"\0"):
        return Format(f"{len(data)} zero bytes", _SAVE)
    return None


def unreadable(data: bytes) -> str:
    """Reasons and remedy of an image whose format can be read."""
    return (
        f"it is damaged, cut off ({len(data)} bytes), or of a kind that its reader does not know, "
        "such as a TIFF of 64-bit numbers: get the whole file, or save it anew, with 8 bits"
    )


def _video(data: bytes) -> Format | None:
    return Format("a video", _VIDEO) if has_signature(data) else None


def _text(data: bytes) -> Format | None:
    text = data[:4096].removeprefix(b"\xef\xbb\xbf")
    if _HTML.match(text):
        return Format(
            "an HTML page",
            "a link may lead to a page about the image, a login or an error; use the address of "
            "the image itself",
        )
    if b"<svg" in text and text.lstrip().startswith(b"<"):
        return Format("an SVG drawing", f"{_CONVERT} (cairosvg.svg2png(url=path) gives PNG bytes)")
    if _BASE64.match(text):
        return Format("base64 text", "decode it (base64.b64decode), or pass it as base64")
    try:
        shown = text.decode()
    except UnicodeDecodeError as error:
        if error.reason != "unexpected end of data":
            return None
        shown = text[: error.start].decode()
    if "\0" in shown or not shown.strip():
        return None
    return Format(f"text ({shown.strip()[:40]!r})", "pass text as text, not as an image")


def name_of(data: bytes) -> str:
    """The name of a file's format, with an article, for an error; see `identify`."""
    found = identify(data)
    return f"of an unknown format (it begins {data[:8].hex(' ')})" if found is None else found.name
