"""Fonts to draw with, from the packages that bring them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache, lru_cache
from io import BytesIO
from pathlib import Path
from typing import cast

import font_caladea
import font_hanken_grotesk
import font_lato
import font_manrope
import font_roboto
import font_source_sans_pro
import font_source_serif_pro
import matplotlib as mpl
import pymupdf_fonts
from PIL import ImageFont

from nano_training.held_out import held_out

Font = ImageFont.FreeTypeFont

DEFAULT = "Pillow's own"
"""Name of the font that Pillow brings (Aileron Regular)."""

_NAMES = (
    "DejaVuSans.ttf",
    "DejaVuSans-Bold.ttf",
    "DejaVuSans-Oblique.ttf",
    "DejaVuSansMono.ttf",
    "DejaVuSerif.ttf",
    "DejaVuSerif-Bold.ttf",
    "STIXGeneral.ttf",
    "STIXGeneralBol.ttf",
    "HankenGrotesk-Regular.otf",
    "HankenGrotesk-Medium.otf",
    "HankenGrotesk-Bold.otf",
    "Manrope-Regular.ttf",
    "Manrope-Bold.ttf",
    "SourceSerifPro-Regular.ttf",
    "SourceSerifPro-Semibold.ttf",
)

_PRINTED = (
    "DejaVuSansMono-Bold.ttf",
    "DejaVuSerif-Italic.ttf",
    "HankenGrotesk-Italic.otf",
    "HankenGrotesk-Light.otf",
    "Lato-Black.ttf",
    "Lato-Bold.ttf",
    "Lato-Italic.ttf",
    "Lato-Light.ttf",
    "Lato-Regular.ttf",
    "Manrope-ExtraBold.ttf",
    "Manrope-Light.ttf",
    "Roboto-Bold.ttf",
    "Roboto-Italic.ttf",
    "Roboto-Light.ttf",
    "Roboto-Medium.ttf",
    "Roboto-Regular.ttf",
    "STIXGeneralItalic.ttf",
    "SourceSerifPro-Bold.ttf",
    "SourceSerifPro-It.ttf",
    "SourceSerifPro-Light.ttf",
    "cascadia",
    "figbo",
    "figit",
    "figo",
    "fimo",
    "notos",
    "notosbo",
    "notosit",
    "spacemo",
    "ubuntm",
    "ubuntu",
    "ubuntubo",
    "ubuntuit",
)
"""What pages are printed in besides; those without an ending are of `pymupdf_fonts`."""


FOLDER = Path(__file__).parent / "font_files"
"""More fonts of pages, most with serifs, which no package on PyPI has."""


@cache
def _files() -> dict[str, Path]:
    """All font files, by name."""
    modules = (
        font_caladea,
        font_hanken_grotesk,
        font_lato,
        font_manrope,
        font_roboto,
        font_source_sans_pro,
        font_source_serif_pro,
    )
    folders = [Path(module.__file__).parent for module in modules if module.__file__]
    folders.append(Path(mpl.get_data_path()) / "fonts")
    of_packages = {path.name: path for folder in folders for path in folder.rglob("*.[ot]tf")}
    return of_packages | {path.name: path for path in FOLDER.glob("*.woff2")}


@cache
def training_fonts() -> tuple[str, ...]:
    """Names of the fonts of signs; Pillow's own thrice, as most pictures are drawn with it."""
    return (*(name for name in _NAMES if name not in held_out().fonts), *[DEFAULT] * 3)


@cache
def printed_fonts() -> tuple[str, ...]:
    """Names of the fonts of pages: those of signs, and many others."""
    own = sorted(path.name for path in FOLDER.glob("*.woff2"))
    return (*training_fonts(), *(name for name in _PRINTED if name not in held_out().fonts), *own)


@cache
def new_fonts() -> tuple[str, ...]:
    """Names of the fonts that are drawn with in evaluation only."""
    return tuple(sorted(held_out().fonts))


@cache
def _buffer(name: str) -> bytes:
    return cast("bytes", pymupdf_fonts.myfont(name))


@lru_cache(maxsize=1024)
def load_font(name: str, size: int) -> Font:
    """A font of a size in pixels."""
    if name == DEFAULT:
        return cast("Font", ImageFont.load_default(size))
    if name in pymupdf_fonts.fontbuffers:
        return ImageFont.truetype(BytesIO(_buffer(name)), size)
    return ImageFont.truetype(_files()[name], size)


def any_font(rng: random.Random, names: Sequence[str], sizes: tuple[int, int]) -> Font:
    """One of the fonts, in a size of the range (pixels, both ends included)."""
    return load_font(rng.choice(names), rng.randint(*sizes))
