"""Tiles and grids of the reference, bit for bit."""

import hashlib

import numpy as np
import PIL
import pytest
from golden import GOLDEN, by_id, load
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from langchain_internvl.errors import RequestError
from langchain_internvl.media.images import load_rgb
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.media.sources import PathSource
from langchain_internvl.media.tiling import (
    MOST_TILES,
    TileLimits,
    candidate_grids,
    choose_grid,
    normalise,
    tile_image,
)

RECORDED = load("preprocess.json")
IMAGES = {image["id"]: image for image in RECORDED["images"]}


def draw_recipe(recipe):
    """The image that a recipe of the goldens describes."""
    random = np.random.default_rng(recipe["seed"])
    width, height = recipe["width"], recipe["height"]
    small = random.integers(0, 256, (3, 3, 3), np.uint8)
    image = Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(image)
    for index in range(6):
        x0, y0, x1, y1 = (random.random(4) * [width, height, width, height]).astype(int).tolist()
        box = [min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)]
        colour = tuple(random.integers(0, 256, 3).tolist())
        (draw.ellipse if index % 2 else draw.rectangle)(box, fill=colour)
    return image


def open_recorded(name):
    image = IMAGES[name]
    if image["file"]:
        return load_rgb(PathSource(GOLDEN / image["file"]), MediaPolicy())
    drawn = draw_recipe(image)
    assert hashlib.sha256(drawn.tobytes()).hexdigest() == image["rgb_sha256"]
    return drawn


OLDER_PILLOW = int(PIL.__version__.split(".", 1)[0]) < 13


@pytest.mark.golden
@pytest.mark.parametrize("case", **by_id(RECORDED["cases"]))
def test_tensor_is_the_recorded_one(case):
    image = open_recorded(case["image"])
    limits = case["min_num"], case["max_num"], case["image_size"]
    tiles = tile_image(image, *limits, thumbnail=case["use_thumbnail"])
    assert tiles.dtype == np.uint8
    assert len(tiles) == case["num_tiles"]
    assert list(choose_grid(*image.size, *limits)) == case["grid"]
    assert TileLimits(*limits, thumbnail=case["use_thumbnail"]).count(*image.size) == len(tiles)
    tensor = normalise(tiles)
    assert tensor.dtype == np.float32
    assert list(tensor.shape) == case["shape"]
    if OLDER_PILLOW:
        pytest.skip("recorded with Pillow 13; older ones round a few pixels differently")
    digests = [hashlib.sha256(tile.tobytes()).hexdigest()[:16] for tile in tensor]
    assert digests == case["tile_sha256"]
    assert hashlib.sha256(tensor.tobytes()).hexdigest() == case["sha256"]


@pytest.mark.golden
def test_every_grid_is_the_recorded_one():
    cases = load("grid.json")["cases"]
    wrong = [
        case["id"]
        for case in cases
        if list(
            choose_grid(
                case["width"], case["height"], case["min_num"], case["max_num"], case["image_size"]
            )
        )
        != case["grid"]
    ]
    assert cases
    assert not wrong


@pytest.mark.golden
@pytest.mark.parametrize("limits", RECORDED["candidate_order"])
def test_candidates_are_tried_in_the_recorded_order(limits):
    fewest, most = map(int, limits.split("-"))
    recorded = RECORDED["candidate_order"][limits]
    assert [list(grid) for grid in candidate_grids(fewest, most)] == recorded


@given(
    width=st.integers(1, 5000),
    height=st.integers(1, 5000),
    fewest=st.integers(1, 12),
    more=st.integers(0, 28),
)
def test_grid_is_within_its_limits(width, height, fewest, more):
    columns, rows = choose_grid(width, height, fewest, fewest + more)
    assert fewest <= columns * rows <= fewest + more


@given(columns=st.integers(1, 4), rows=st.integers(1, 3))
def test_tiles_of_an_exact_grid_are_its_pixels(columns, rows):
    pixels = np.random.default_rng(0).integers(0, 256, (rows * 32, columns * 32, 3), np.uint8)
    tiles = tile_image(Image.fromarray(pixels), columns * rows, columns * rows, 32, thumbnail=False)
    grid = choose_grid(columns * 32, rows * 32, columns * rows, columns * rows, 32)
    assert grid == (columns, rows)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        top, left = row * 32, column * 32
        assert np.array_equal(tile, pixels[top : top + 32, left : left + 32])


def test_thumbnail_comes_last_and_only_with_several_tiles():
    image = Image.new("RGB", (900, 450), (10, 20, 30))
    assert len(tile_image(image, 1, 2)) == 3
    assert len(tile_image(image, 1, 2, thumbnail=False)) == 2
    assert len(tile_image(image, 1, 1)) == 1


@pytest.mark.parametrize(("fewest", "most"), [(0, 1), (2, 1), (1, MOST_TILES + 1), (-1, 3)])
def test_impossible_limits_are_refused(fewest, most):
    with pytest.raises(RequestError, match="min_tiles"):
        TileLimits(fewest, most)


def test_a_limit_given_alone_moves_the_other_along():
    own = TileLimits(2, 12)
    assert own.narrowed(None, 1) == TileLimits(1, 1)
    assert own.narrowed(20, None) == TileLimits(20, 20)
    assert own.narrowed(None, None) == own
    with pytest.raises(RequestError):
        own.narrowed(5, 4)
