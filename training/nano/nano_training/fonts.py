"""Fonts to draw with, from the packages that bring them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import cast

import font_caladea
import font_hanken_grotesk
import font_manrope
import font_source_sans_pro
import font_source_serif_pro
import matplotlib as mpl
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


@cache
def _files() -> dict[str, Path]:
    """All font files of the packages, by name."""
    modules = (
        font_caladea,
        font_hanken_grotesk,
        font_manrope,
        font_source_sans_pro,
        font_source_serif_pro,
    )
    folders = [Path(module.__file__).parent for module in modules if module.__file__]
    folders.append(Path(mpl.get_data_path()) / "fonts")
    return {path.name: path for folder in folders for path in folder.rglob("*.[ot]tf")}


@cache
def training_fonts() -> tuple[str, ...]:
    """Names of the fonts of training; Pillow's own thrice, as most pictures are drawn with it."""
    return (*(name for name in _NAMES if name not in held_out().fonts), *[DEFAULT] * 3)


@cache
def new_fonts() -> tuple[str, ...]:
    """Names of the fonts that are drawn with in evaluation only."""
    return tuple(sorted(held_out().fonts))


@lru_cache(maxsize=1024)
def load_font(name: str, size: int) -> Font:
    """A font of a size in pixels."""
    if name == DEFAULT:
        return cast("Font", ImageFont.load_default(size))
    return ImageFont.truetype(_files()[name], size)


def any_font(rng: random.Random, names: Sequence[str], sizes: tuple[int, int]) -> Font:
    """One of the fonts, in a size of the range (pixels, both ends included)."""
    return load_font(rng.choice(names), rng.randint(*sizes))
