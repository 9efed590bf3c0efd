"""Pages to measure with, and the formula of InternVL2's quick start for their tiles."""

from __future__ import annotations

import io
import random
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from langchain_internvl.media.tiling import choose_grid

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIDE = 448


@cache
def a4_page(seed: int = 0, width: int = 2480) -> bytes:
    """An A4 page in colour as JPEG: text and a photograph; 2480 pixels wide are 300 dpi."""
    chance = random.Random(seed)  # noqa: S311 - words of pages
    height = round(width * 297 / 210)
    page = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(max(8, width // 70))
    for line in range(60):
        text = " ".join("abcdefghij"[: chance.randint(2, 9)] for _ in range(14))
        draw.text((width // 16, height * line // 62 + 20), text, "black", font)
    noise = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), np.uint8)
    photo = Image.fromarray(noise).resize((width // 2, height // 4), Image.Resampling.BICUBIC)
    page.paste(photo, (width // 4, height // 2))
    buffer = io.BytesIO()
    page.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def formula_images(data: bytes) -> list[Image.Image]:
    """Tiles and thumbnail of an image by the quick start's `dynamic_preprocess`."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    columns, rows = choose_grid(image.width, image.height)
    resized = image.resize((SIDE * columns, SIDE * rows), Image.Resampling.BICUBIC)
    tiles = []
    for index in range(columns * rows):
        left, top = SIDE * (index % columns), SIDE * (index // columns)
        tiles.append(resized.crop((left, top, left + SIDE, top + SIDE)))
    if len(tiles) != 1:
        tiles.append(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    return tiles


def formula_tiles(data: bytes) -> NDArray[np.uint8]:
    """The tiles as one uint8 array [tiles, height, width, 3]."""
    return np.stack([np.asarray(tile) for tile in formula_images(data)])


def formula_pixels(data: bytes) -> torch.Tensor:
    """`load_image` of the quick start: its transform, by the steps of torchvision.

    Convert, Resize (which copies an image of the right size), ToTensor and Normalize of each tile.
    """
    mean, std = (torch.tensor(one, dtype=torch.float32).view(3, 1, 1) for one in (MEAN, STD))
    pixels = []
    for tile in formula_images(data):
        image = tile.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        tensor = (
            torch.from_numpy(np.array(image, np.uint8, copy=True)).permute(2, 0, 1).contiguous()
        )
        scaled = tensor.to(torch.float32).div(255)
        pixels.append(scaled.clone().sub_(mean).div_(std))
    return torch.stack(pixels)
