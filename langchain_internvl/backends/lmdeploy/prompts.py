"""Prompts in LMDeploy's format: token ids with one context id for each image, and the images.

LMDeploy expands each context id to the tokens of its image, and cuts the image into tiles by
`max_dynamic_patch`. Each tile is passed as an image of its own with `max_dynamic_patch` 1. So the
tiles are bit-identical to those of all other backends, independent of `min_tiles`, joined images
and the server's Pillow version, and -hf checkpoints, where LMDeploy ignores the number of tiles,
get the right one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from langchain_internvl.errors import PromptError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from langchain_internvl.backends.base import Request


@dataclass(frozen=True)
class FoldedPrompt:
    """A prompt with one context id for each tile.

    Attributes:
        ids: The ids.
        tiles: The tiles, each uint8 [size, size, 3].
    """

    ids: list[int]
    tiles: list[NDArray[np.uint8]]


def fold(request: Request, context_id: int, tokens_per_tile: int) -> FoldedPrompt:
    """Replace the context tokens of each tile by a single one.

    Args:
        request: A request with token ids.
        context_id: Id of the context token.
        tokens_per_tile: Context tokens of one tile.

    Raises:
        PromptError: The number of context tokens does not match the tiles.
    """
    tiles = [tile for image in request.tiles for tile in image]
    ids: list[int] = []
    run = 0
    for token_id in (*request.prompt_ids, None):
        if token_id == context_id:
            run += 1
            continue
        if run % tokens_per_tile:
            raise _misfit(request.prompt_ids, context_id, tokens_per_tile, len(tiles))
        ids += [context_id] * (run // tokens_per_tile)
        run = 0
        if token_id is not None:
            ids.append(token_id)
    if ids.count(context_id) != len(tiles):
        raise _misfit(request.prompt_ids, context_id, tokens_per_tile, len(tiles))
    return FoldedPrompt(ids, tiles)


def _misfit(ids: Sequence[int], context_id: int, tokens_per_tile: int, tiles: int) -> PromptError:
    return PromptError(
        f"the prompt has {list(ids).count(context_id)} context tokens, but its {tiles} tiles have "
        f"{tokens_per_tile} each"
    )
