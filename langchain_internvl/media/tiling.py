"""Dynamic tiling, bit-identical to the reference.

An image is resized to the grid of square tiles with the nearest aspect ratio and cut into tiles,
left to right and top to bottom; a thumbnail of the whole image comes last. Formulas:
`dynamic_preprocess` and `find_closest_aspect_ratio` of the InternVL2 quick start.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from langchain_internvl.errors import RequestError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

BICUBIC = 3
"""`PIL.Image.Resampling.BICUBIC`, as a number because Pillow is imported at first use."""

MOST_TILES = 256
"""Maximum number of tiles of an image; 256 tiles are 65,536 tokens."""


@dataclass(frozen=True)
class PixelScale:
    """The scale of pixels for a vision tower: (x * factor - mean) / std.

    Attributes:
        mean: Mean of each channel, of values after the factor.
        std: Standard deviation of each channel.
        factor: Factor of the bytes; 1/255 gives values from 0 to 1.
    """

    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    factor: float = 1 / 255


@dataclass(frozen=True)
class TileLimits:
    """Limits on the tiles of an image.

    Attributes:
        min_tiles: Minimum number of tiles, without the thumbnail.
        max_tiles: Maximum number of tiles, without the thumbnail.
        tile_size: Side of a tile in pixels.
        thumbnail: Whether images of more than one tile also get a thumbnail.
        resample: Filter that resizes images, a number of `PIL.Image.Resampling`.

    Raises:
        RequestError: The limits contradict each other, or are out of range.
    """

    min_tiles: int = 1
    max_tiles: int = 12
    tile_size: int = 448
    thumbnail: bool = True
    resample: int = BICUBIC

    def __post_init__(self) -> None:
        if not 1 <= self.min_tiles <= self.max_tiles <= MOST_TILES:
            raise RequestError(
                f"tile limits must satisfy 1 <= min_tiles <= max_tiles <= {MOST_TILES}, "
                f"got min_tiles={self.min_tiles}, max_tiles={self.max_tiles}"
            )

    def narrowed(self, min_tiles: int | None, max_tiles: int | None) -> TileLimits:
        """These limits with another minimum or maximum.

        If only one is given and contradicts the other limit, the other limit is set to it.

        Raises:
            RequestError: Both are given and contradict each other.
        """
        most = max(self.max_tiles, min_tiles or 1) if max_tiles is None else max_tiles
        fewest = min(self.min_tiles, most) if min_tiles is None else min_tiles
        return replace(self, min_tiles=fewest, max_tiles=most)

    def count(self, width: int, height: int) -> int:
        """Number of tiles of an image of this size, thumbnail included."""
        columns, rows = choose_grid(width, height, self.min_tiles, self.max_tiles, self.tile_size)
        tiles = columns * rows
        return tiles + 1 if self.thumbnail and tiles > 1 else tiles

    def cut(self, image: Image.Image) -> NDArray[np.uint8]:
        """The tiles of an RGB image, see `tile_image`."""
        limits = self.min_tiles, self.max_tiles, self.tile_size, self.thumbnail
        return tile_image(image, *limits, resample=self.resample)


def choose_grid(
    width: int, height: int, min_tiles: int = 1, max_tiles: int = 12, tile_size: int = 448
) -> tuple[int, int]:
    """The grid for an image of the given size.

    The candidate with the nearest aspect ratio is chosen; of equally near candidates a larger grid
    is chosen if the image has more than half of its pixels.

    Args:
        width: Width of the image in pixels.
        height: Height of the image in pixels.
        min_tiles: Minimum number of tiles.
        max_tiles: Maximum number of tiles.
        tile_size: Side of a tile in pixels.

    Returns:
        (columns, rows).
    """
    aspect = width / height
    area = width * height
    best, best_difference = (1, 1), float("inf")
    for columns, rows in candidate_grids(min_tiles, max_tiles):
        difference = abs(aspect - columns / rows)
        if difference < best_difference:
            best, best_difference = (columns, rows), difference
        elif difference == best_difference and area > 0.5 * tile_size * tile_size * columns * rows:
            best = columns, rows
    return best


@lru_cache(maxsize=256)
def candidate_grids(min_tiles: int, max_tiles: int) -> tuple[tuple[int, int], ...]:
    """All grids of min_tiles to max_tiles tiles, as (columns, rows), in the reference's order.

    The reference sorts a set by area, so grids of equal area keep the iteration order of the set,
    which decides for images exactly between two of them. This function fills the same set in the
    same order.
    """
    grids = {
        (columns, rows)
        for side in range(min_tiles, max_tiles + 1)
        for columns in range(1, side + 1)
        for rows in range(1, min(side, max_tiles // columns) + 1)
        if columns * rows >= min_tiles
    }
    return tuple(sorted(grids, key=lambda grid: grid[0] * grid[1]))


def tile_image(
    image: Image.Image,
    min_tiles: int = 1,
    max_tiles: int = 12,
    tile_size: int = 448,
    thumbnail: bool = True,  # noqa: FBT001, FBT002 - in the order of the reference
    *,
    resample: int = BICUBIC,
) -> NDArray[np.uint8]:
    """Cut an image into tiles.

    Args:
        image: The image, in mode RGB.
        min_tiles: Minimum number of tiles.
        max_tiles: Maximum number of tiles, without the thumbnail.
        tile_size: Side of a tile in pixels.
        thumbnail: Append the whole image at tile size, if there is more than one tile.
        resample: Filter that resizes the image, a number of `PIL.Image.Resampling`.

    Returns:
        uint8 array of shape [tiles, tile_size, tile_size, 3]: left to right, top to bottom,
        then the thumbnail.
    """
    import numpy as np  # noqa: PLC0415 - imported at first use

    columns, rows = choose_grid(image.width, image.height, min_tiles, max_tiles, tile_size)
    count = rows * columns
    has_thumbnail = thumbnail and count > 1
    tiles = np.empty((count + has_thumbnail, tile_size, tile_size, 3), np.uint8)
    grid = image.resize((columns * tile_size, rows * tile_size), resample)
    tiles[:count].reshape(rows, columns, tile_size, tile_size, 3)[...] = (
        np.asarray(grid).reshape(rows, tile_size, columns, tile_size, 3).swapaxes(1, 2)
    )
    if has_thumbnail:
        tiles[count] = np.asarray(image.resize((tile_size, tile_size), resample))
    return tiles


def normalise(tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Scale tiles to the values the vision model was trained on: (x / 255 - mean) / std.

    The constants are ImageNet's; every step is float32, in the order of torchvision.

    Args:
        tiles: uint8 array of shape [tiles, height, width, 3].

    Returns:
        float32 array of shape [tiles, 3, height, width].
    """
    import numpy as np  # noqa: PLC0415 - imported at first use

    values = tiles.transpose(0, 3, 1, 2).astype(np.float32)
    values /= np.float32(255)
    values -= np.asarray(IMAGENET_MEAN, np.float32)[:, None, None]
    values /= np.asarray(IMAGENET_STD, np.float32)[:, None, None]
    return np.ascontiguousarray(values)
