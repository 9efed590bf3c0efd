"""Kinds of servers, and where their requests differ from OpenAI's API.

Each kind is a row of data, chosen by `owned_by` of the server's list of models. Sources of the
field names: lmdeploy 0.18.0, sglang 0.5.23, vllm 0.33.0, mlx-vlm 0.7.10, and llama.cpp as in
llama-cpp-python 0.3.36.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import gcd, isqrt
from typing import Any, Literal

TileField = Literal["image", "images", "processor"]


@dataclass(frozen=True)
class ServerKind:
    """A kind of server.

    Attributes:
        name: Name, for messages.
        owner: `owned_by` of its models; None: any other.
        takes_ids: Whether prompts and replies can be token ids.
        tiles: Field for the maximum number of tiles of an image. "image": `max_dynamic_patch` in
            each `image_url`; "images": likewise, but the minimum applies to the whole request;
            "processor": in `mm_processor_kwargs` of the request, which a server accepts only if it
            was started so; None: no such field.
        skips_special_tokens: Whether special tokens, such as `<ref>` and `<box>`, are left out of
            replies unless `skip_special_tokens` is false.
        takes_template_kwargs: Whether the server accepts `chat_template_kwargs`.
        repetition_penalty: Name of the field of the repetition penalty.
        seeds: Upper bound of seeds, exclusive; the lower bound is 0.
        sampling: Sampling fields that turn off the server's own defaults.
    """

    name: str
    owner: str | None = None
    takes_ids: bool = False
    tiles: TileField | None = None
    skips_special_tokens: bool = False
    takes_template_kwargs: bool = True
    repetition_penalty: str = "repetition_penalty"
    seeds: int = 2**63
    sampling: Mapping[str, Any] = field(default_factory=dict)


OTHER = ServerKind("another server")

KINDS = (
    # lmdeploy/serve/openai/protocol.py; vl/model/internvl.py reads `max_dynamic_patch` per image.
    ServerKind(
        "LMDeploy",
        "lmdeploy",
        takes_ids=True,
        tiles="image",
        skips_special_tokens=True,
        seeds=2**64,
    ),
    # sglang/srt/entrypoints/openai/protocol.py; `_extract_max_dynamic_patch` of serving_chat.py
    # takes the minimum over all images of the request.
    ServerKind("SGLang", "sglang", tiles="images", skips_special_tokens=True),
    # vllm/entrypoints/openai/chat_completion/protocol.py (seeds are 64 bits with a sign);
    # transformers_utils/processors/internvl.py takes `max_dynamic_patch`.
    ServerKind("vLLM", "vllm", tiles="processor", skips_special_tokens=True),
    # tools/server/server-schema.cpp; its own defaults are top_k 40 and min_p 0.05, and the seed
    # 2**32 - 1 means a random one.
    ServerKind(
        "llama.cpp",
        "llamacpp",
        repetition_penalty="repeat_penalty",
        seeds=2**32 - 1,
        sampling={"top_k": 0, "min_p": 0.0},
    ),
    # mlx_vlm/server/schemas.py; its models have no owner, see `owner_of`.
    ServerKind("mlx-vlm", "mlx-vlm", takes_template_kwargs=False, seeds=2**32),
)


def owner_of(model: Any) -> str:
    """The owner of a model in a server's list; "": not given.

    mlx-vlm gives no owner; it is recognised by its boolean field `loaded`, which no other has.
    """
    owner = getattr(model, "owned_by", None)
    if owner is None and isinstance(getattr(model, "loaded", None), bool):
        return "mlx-vlm"
    return "" if owner is None else str(owner)


def kind_of(owner: str) -> ServerKind:
    """The kind of a server, by the owner of its models."""
    return next((kind for kind in KINDS if kind.owner == owner), OTHER)


USUAL_TILES = 12
"""Maximum number of tiles in the configurations of InternVL2, 2.5, 3 and 3.5."""


def tile_fields(
    kind: ServerKind, grids: Sequence[tuple[int, int] | None]
) -> tuple[list[dict[str, int]], dict[str, Any]]:
    """Request fields that set the maximum number of tiles.

    Images are sent resized to their tile grid. The reference's tiling, which all kinds but SGLang
    have, cuts such an image into exactly the tiles of the grid if the maximum permits it. SGLang
    takes the largest grid of the same aspect ratio that the maximum permits.

    Args:
        kind: The kind of server.
        grids: (columns, rows) of each image of the request; None: left to the server.

    Returns:
        Fields of the `image_url` of each image, and fields of the request.

    Warns:
        UserWarning: SGLang's one maximum gives an image another number of tiles than its grid.
    """
    nothing: list[dict[str, int]] = [{} for _ in grids]
    known = [grid for grid in grids if grid is not None]
    most = max((columns * rows for columns, rows in known), default=0)
    if kind.tiles == "image":
        return [{} if one is None else {"max_dynamic_patch": one[0] * one[1]} for one in grids], {}
    # The limit applies to all images, so it is omitted if one of them uses the server's default.
    is_limited = most > 0 and len(known) == len(grids)
    if kind.tiles == "images":
        limit = most if is_limited else USUAL_TILES
        _warn_of_other_grids(known, limit)
        return [{"max_dynamic_patch": limit} for _ in grids] if is_limited else nothing, {}
    # By default vLLM refuses requests with this field, so it is sent only where it is needed.
    if kind.tiles == "processor" and is_limited and most > USUAL_TILES:
        return nothing, {"mm_processor_kwargs": {"max_dynamic_patch": most}}
    return nothing, {}


def _warn_of_other_grids(grids: Sequence[tuple[int, int]], limit: int) -> None:
    cut = [_tiles_at_sglang(*grid, limit) for grid in grids]
    other = [
        f"{count or 'fewer'} instead of {columns * rows}"
        for (columns, rows), count in zip(grids, cut, strict=True)
        if count != columns * rows
    ]
    if other:
        warnings.warn(
            "SGLang has one maximum of tiles for all images of a request and cuts some of them "
            f"into other numbers of tiles than requested: {', '.join(dict.fromkeys(other))}. Give "
            "all images of the request the same number (max_tiles and min_tiles), or send them in "
            "requests of their own",
            stacklevel=2,
        )


def _tiles_at_sglang(columns: int, rows: int, limit: int) -> int:
    """Tiles that SGLang cuts an image of this grid into; 0: fewer than the grid has.

    `InternVLProcessor.dynamic_preprocess` prefers the larger of two grids with the same aspect
    ratio, whatever the size of the image.
    """
    shared = gcd(columns, rows)
    smallest = (columns // shared) * (rows // shared)
    return smallest * isqrt(limit // smallest) ** 2
