"""Fonts for labels in any script: a given font, Pillow's own, or an installed one.

Pillow's own font has ASCII letters only (no "é"), so labels with other characters use the first
installed font that has them.
"""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_PREFERRED = (
    "notosanscjk", "sourcehansans", "notosanssc", "notosansjp", "pingfang", "hiragino", "msyh",
    "yugoth", "meiryo", "malgun", "applesdgothic", "wqy", "droidsansfallback", "notosans",
    "dejavusans", "arial", "segoeui", "liberationsans", "freesans", "unifont",
)  # fmt: skip
"""Preferred fonts for labels, those with the most characters first; all others follow."""
_MOST_FONTS = 300
_CHECK_SIZE = 16
_NOBODYS = "\U0010ffff"
"""A character without a glyph in any font, which is drawn as the font's placeholder."""
_UNWRITTEN = "?"


class LabelFonts:
    """Fonts for the labels of one image.

    Args:
        size: Font size in pixels.
        given: A font file, or the name of an installed font, that is tried first; None: Pillow's
            own font.

    Raises:
        OSError: The given font cannot be opened.
    """

    def __init__(self, size: int, given: str | Path | None = None) -> None:
        self._size = size
        self._given = None if given is None else open_font(given, size)
        self.missing: dict[str, None] = {}

    def font_for(self, text: str) -> tuple[Font, str]:
        """A font for a text, and the text with missing characters replaced.

        Characters that no installed font has become "?" and are recorded in `missing`.
        """
        wanted = frozenset(map(str, filter(_is_drawn, text)))
        first: Font = self._given or ImageFont.load_default(self._size)
        lacking = frozenset(one for one in wanted if not _has(first, one))
        if not lacking:
            return first, text
        if self._given is not None:
            plain = ImageFont.load_default(self._size)
            if all(_has(plain, one) for one in wanted):
                return plain, text
        path, missing = _installed_font(wanted)
        font = first if path is None else ImageFont.truetype(str(path), self._size)
        if path is None or len(missing) >= len(lacking):
            font, missing = first, lacking
        self.missing.update(dict.fromkeys(sorted(missing)))
        return font, "".join(_UNWRITTEN if one in missing else one for one in text)


def open_font(font: str | Path, size: int = _CHECK_SIZE) -> ImageFont.FreeTypeFont:
    """Open a font file, or an installed font by its name.

    Raises:
        OSError: The font does not exist, or is damaged.
    """
    try:
        return ImageFont.truetype(str(font), size)
    except OSError as error:
        raise OSError(
            f"font={str(font)!r} cannot be opened ({error}); give a .ttf, .otf or .ttc file"
        ) from error


def _is_drawn(character: str) -> bool:
    """Whether a character needs a glyph: not a space, control or variation selector."""
    is_variant = "\ufe00" <= character <= "\ufe0f"
    return not is_variant and unicodedata.category(character)[0] not in "CZ"


def _has(font: Font, character: str) -> bool:
    """Whether a font has a glyph for a character, rather than a placeholder."""
    try:
        mask, empty = font.getmask(character), font.getmask(_NOBODYS)
    except (OSError, UnicodeError, ValueError):
        return False  # Pillow's bitmap font has Latin-1 only
    return (mask.size, bytes(mask)) != (empty.size, bytes(empty))


@lru_cache(maxsize=256)
def _installed_font(characters: frozenset[str]) -> tuple[Path | None, frozenset[str]]:
    """The installed font with most of the given characters, and those that it lacks."""
    best: tuple[Path | None, frozenset[str]] = (None, characters)
    for path in _installed_fonts():
        lacking = frozenset(one for one in characters if not _file_has(path, one))
        if len(lacking) < len(best[1]):
            best = path, lacking
        if not lacking:
            break
    return best


@lru_cache(maxsize=16384)
def _file_has(path: Path, character: str) -> bool:
    font = _open(path)
    return font is not None and _has(font, character)


@lru_cache(maxsize=_MOST_FONTS)
def _open(path: Path) -> Font | None:
    try:
        return ImageFont.truetype(str(path), _CHECK_SIZE)
    except OSError:  # damaged, or a colour bitmap font without this size
        return None


@lru_cache(maxsize=1)
def _installed_fonts() -> tuple[Path, ...]:
    """Installed font files, preferred fonts first."""
    found = {path for folder in font_folders() for path in _font_files(folder)}
    return tuple(sorted(found, key=_rank)[:_MOST_FONTS])


def _rank(path: Path) -> tuple[int, bool, str]:
    name = path.stem.lower().replace("-", "").replace("_", "").replace(" ", "")
    rank = next((place for place, one in enumerate(_PREFERRED) if name.startswith(one)), 99)
    is_styled = any(word in name for word in ("bold", "italic", "oblique", "black", "thin"))
    return rank, is_styled, str(path)


def _font_files(folder: Path) -> Iterator[Path]:
    for root, _, names in os.walk(folder):
        for name in names:
            if name.lower().endswith((".ttf", ".otf", ".ttc")):
                yield Path(root, name)


def font_folders() -> list[Path]:
    """Font folders of this operating system."""
    home = Path.home()
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA", str(home / "AppData" / "Local"))
        windows = os.environ.get("WINDIR", "C:\\Windows")
        return [Path(windows, "Fonts"), Path(local, "Microsoft", "Windows", "Fonts")]
    if sys.platform == "darwin":
        return [Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library" / "Fonts"]
    data = os.environ.get("XDG_DATA_HOME", str(home / ".local" / "share"))
    return [
        Path(data, "fonts"),
        home / ".fonts",
        Path("/usr/share/fonts"),
        Path("/usr/local/share/fonts"),
    ]
