"""Pages to tiles: one on one thread, and many through `batch`."""

from __future__ import annotations

import io
import os
import statistics
from functools import partial

import numpy as np
import torch
from langchain_core.messages import HumanMessage
from PIL import Image

from benchmarks.pages import SIDE, a4_page, formula_pixels, formula_tiles
from benchmarks.row import Bench, Result, Row, Study, timed
from langchain_internvl import ChatInternVL, image_block
from langchain_internvl.backends.base import Request
from langchain_internvl.backends.scripted import ScriptedBackend
from langchain_internvl.backends.transformers.vision import normalise_on_device
from langchain_internvl.media.images import load_rgb
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.media.sources import BytesSource
from langchain_internvl.media.tiling import TileLimits, choose_grid


def measure(bench: Bench) -> dict[str, Result]:
    """From JPEG files to tiles, bit-identical to the formula."""
    return {"tiles": _one(bench), "pages": _many(bench)}


def _own_tiles(data: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """The tiles of a page as a request cuts them."""
    return TileLimits().cut(load_rgb(BytesSource(data, "page"), MediaPolicy()))


def _own_pixels(data: bytes) -> torch.Tensor:
    """The pixels of a page as the vision tower gets them on a CPU, tile by tile."""
    tiles, device = _own_tiles(data), torch.device("cpu")
    return torch.cat([normalise_on_device(tile[None], device) for tile in tiles])


def _one(bench: Bench) -> Result:
    """A page to what the vision tower takes, on one thread."""
    data = a4_page(0, bench.size(2480, 620))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    if not torch.equal(_own_pixels(data), formula_pixels(data)):
        raise SystemExit("OTHER PIXELS")
    ratios, tiles_only, own = [], [], []
    for _ in range(bench.size(25, 1)):
        own.append(timed(lambda: _own_pixels(data)))
        ratios.append(own[-1] / timed(lambda: formula_pixels(data)))
        tiles_only.append(timed(lambda: _own_tiles(data)) / timed(lambda: formula_tiles(data)))
    torch.set_num_threads(threads)
    return Result(
        ratios,
        f"JPEG to normalised pixels, {1000 * statistics.median(own):.0f} ms; to uint8 tiles alone "
        f"{statistics.median(tiles_only):.2f}",
        profile=lambda: _own_tiles(data),
        limit=_limit(data),
    )


def _limit(data: bytes) -> str:
    """The part of the formula that every bit-identical way runs: Pillow's decoder and resizes."""
    image = Image.open(io.BytesIO(data))
    decode = timed(image.load)
    columns, rows = choose_grid(*image.size)
    sizes = ((SIDE * columns, SIDE * rows), (SIDE, SIDE))
    resize = sum(timed(partial(image.resize, size, Image.Resampling.BICUBIC)) for size in sizes)
    whole = timed(lambda: formula_tiles(data))
    return (
        f"Pillow's decoder {1000 * decode:.0f} ms and its two bicubic resizes {1000 * resize:.0f} "
        f"ms are {(decode + resize) / whole:.2f} of the formula's uint8 tiles"
    )


def _many(bench: Bench) -> Result:
    """Different pages through `batch`, over the formula for one after the other."""
    pages = [a4_page(seed, bench.size(2480, 620)) for seed in range(bench.size(32, 4))]
    counts: list[int] = []

    def look(request: Request) -> str:
        counts.append(sum(len(tiles) for tiles in request.tiles))
        return "Seen."

    llm = ChatInternVL(model="nano", backend=ScriptedBackend(look))
    question = {"type": "text", "text": "What is it?"}
    messages = [[HumanMessage([dict(image_block(data)), question])] for data in pages]

    def batch() -> None:
        counts.clear()
        llm.batch(list(messages))

    def formula() -> None:
        for data in pages:
            formula_tiles(data)

    batch()
    if sorted(counts) != sorted(len(formula_tiles(data)) for data in pages):
        raise SystemExit("OTHER TILES")
    own, other = [], []
    for _ in range(bench.size(3, 1)):
        own.append(timed(batch))
        other.append(timed(formula))
    return Result(
        [mine / theirs for mine, theirs in zip(own, other, strict=True)],
        f"{len(pages)} pages on {os.cpu_count()} cores, {min(own):.2f} s",
        profile=batch,
    )


STUDY = Study(
    (
        Row("tiles", "tiles of an A4 page at 300 dpi, one thread, ours / quick start", 0.80),
        Row("pages", "32 JPEG pages through batch, ours / quick start one by one", 0.55),
    ),
    measure,
)
