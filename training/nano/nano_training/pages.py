"""Pictures of printed text."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import Image, ImageDraw

from nano_training import fonts, prompts, words
from nano_training.samples import Question, Sample
from nano_training.things import Letter

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Print:
    """How a page is printed.

    Attributes:
        lines: Fewest and most lines.
        sizes: Smallest and largest font in pixels.
        writer: Draws a line of text.
        fonts: Names of fonts to choose from.
        one_font: Whether all lines share a font and size, as printed pages do.
    """

    lines: tuple[int, int]
    sizes: tuple[int, int]
    writer: words.Writer = words.training_line
    fonts: Sequence[str] | None = None
    one_font: bool = False


def draw_page(
    rng: random.Random, width: int, height: int, style: Print
) -> tuple[Image.Image, str, list[Letter]]:
    """A page of text.

    Args:
        rng: Where chance comes from.
        width: In pixels.
        height: In pixels.
        style: How it is printed.

    Returns:
        The picture, its lines joined by newlines (there is at least one), and where each letter
        is.
    """
    paper, ink = colours(rng)
    picture = Image.new("RGB", (width, height), paper)
    draw = ImageDraw.Draw(picture)
    names = style.fonts or fonts.printed_fonts()
    font = fonts.any_font(rng, names, style.sizes)
    left = rng.randint(4, max(4, width // 6)) if style.one_font else None
    lines: list[str] = []
    letters: list[Letter] = []
    wanted = rng.randint(*style.lines)
    room = height - wanted * font.size * 1.3
    top = rng.uniform(2, max(3, min(room, height / 2)))
    while len(lines) < wanted:
        if not style.one_font:
            font = fonts.any_font(rng, names, style.sizes)
        if top + font.size * 1.3 > height and lines:
            break
        start = left if left is not None else rng.randint(2, max(2, width // 3))
        text = fit(style.writer(rng), font, width - start - 4)
        if not text and left is None and start > 4:
            start, text = 2, fit(style.writer(rng), font, width - 6)
        if not text:  # too narrow for this font
            font = fonts.any_font(rng, names, (style.sizes[0], style.sizes[0]))
            text, start = fit("".join(style.writer(rng).split())[:2], font, width - 4) or "1", 2
        draw.text((start, top), text, fill=ink, font=font)
        lines.append(text)
        letters += letters_of(text, font, start, top)
        top += font.size * rng.uniform(1.15, 1.5) + (0 if style.one_font else rng.randint(0, 16))
    return picture, "\n".join(lines), letters


def page_sample(
    rng: random.Random, width: int, height: int, style: Print, *, short: bool = False
) -> Sample:
    """A page, and the question what it says; `short` asks in few letters, which cost less.

    Two pages of five are printed wider or narrower, higher or lower than their font is, so that
    letters are of more shapes than there are fonts. Three of ten say the same words again and
    again. What was read so far has wrong letters now and then, as it has where fonts are new.
    """
    style = echoed(rng, style)
    across, down = (
        (rng.uniform(0.85, 1.2), rng.uniform(0.9, 1.15)) if rng.random() < 0.4 else (1.0, 1.0)
    )
    drawn = draw_page(rng, round(width / across), round(height / down), style)
    picture, text, letters = _stretched(*drawn, (width, height))
    asked = prompts.read(rng, short=short)
    question = Question("read", asked, text, written=words.misread(rng, text))
    system = None if short else prompts.system(rng)
    return Sample([picture], [question], system=system, letters=[letters])


def echoed(rng: random.Random, style: Print) -> Print:
    """The style, three times of ten with few words that it writes again and again."""
    is_echoed = style.writer is words.training_line and rng.random() < 0.3
    return replace(style, writer=words.echoing(rng)) if is_echoed else style


def _stretched(
    picture: Image.Image, text: str, letters: list[Letter], size: tuple[int, int]
) -> tuple[Image.Image, str, list[Letter]]:
    """A page in another size (pixels)."""
    if picture.size == size:
        return picture, text, letters
    across, down = size[0] / picture.width, size[1] / picture.height
    moved = [Letter(one.letter, one.x * across, one.y * down) for one in letters]
    return picture.resize(size, Image.Resampling.BICUBIC), text, moved


def letters_of(text: str, font: fonts.Font, left: float, top: float) -> list[Letter]:
    """Where the letters of a line are."""
    _, high, _, low = font.getbbox(text)
    edges = [left + font.getlength(text[:index]) for index in range(len(text) + 1)]
    middle = top + (high + low) / 2
    return [
        Letter(letter, (start + end) / 2, middle)
        for letter, start, end in zip(text, edges, edges[1:], strict=False)
        if letter != " "
    ]


def fit(text: str, font: fonts.Font, width: float) -> str:
    """As many whole words as fit; of one word that does not, its beginning."""
    while text and font.getlength(text) > width:
        shorter = text.rpartition(" ")[0]
        text = shorter or text[:-1]
    return text.strip()


def colours(rng: random.Random) -> tuple[Colour, Colour]:
    """Dark ink on light paper, or now and then the other way round."""
    light: Colour = (255, 255, 255) if rng.random() < 0.5 else _grey(rng, 205, 255)
    dark: Colour = (0, 0, 0) if rng.random() < 0.4 else _grey(rng, 0, 95)
    return (dark, light) if rng.random() < 0.12 else (light, dark)


def _grey(rng: random.Random, low: int, high: int) -> Colour:
    return rng.randint(low, high), rng.randint(low, high), rng.randint(low, high)
