"""Kinds of servers, and where their requests differ from OpenAI's protocol.

A kind is a row of data. Which one a server is comes from `owned_by` of its list of models. Names of
fields were read in the packages: lmdeploy 0.18.0, sglang 0.5.23, vllm 0.33.0, mlx-vlm 0.7.10, and
llama.cpp as in llama-cpp-python 0.3.36.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

TileField = Literal["image", "images", "processor"]


@dataclass(frozen=True)
class ServerKind:
    """A kind of server.

    Attributes:
        name: Its name.
        owner: What it says as the owner of its models; None: any other.
        takes_ids: Whether it takes prompts by token ids, and answers by ids.
        tiles: How it is told the most tiles of an image: "image", `max_dynamic_patch` in each
            `image_url`; "images", likewise, but the least of them holds for the whole request;
            "processor", in `mm_processor_kwargs` of the request; None: not at all.
        skips_special_tokens: Whether it leaves special tokens, `<ref>` and `<box>` among them, out
            of replies unless `skip_special_tokens` is false.
        takes_template_kwargs: Whether it takes `chat_template_kwargs`.
        repetition_penalty: Its name of the repetition penalty.
        seeds: It takes seeds from 0 up to this, exclusive.
        sampling: Sampling fields that switch off its own defaults.
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
    """The owner of a model in a server's list; "": it has none.

    mlx-vlm gives no owner, and is the only one that says whether a model is `loaded`.
    """
    owner = getattr(model, "owned_by", None)
    if owner is None and isinstance(getattr(model, "loaded", None), bool):
        return "mlx-vlm"
    return "" if owner is None else str(owner)


def kind_of(owner: str) -> ServerKind:
    """The kind of a server, by the owner of its models."""
    return next((kind for kind in KINDS if kind.owner == owner), OTHER)


def tile_fields(
    kind: ServerKind, counts: Sequence[int | None]
) -> tuple[list[dict[str, int]], dict[str, Any]]:
    """Fields that limit tiles.

    Images are sent in the size of their grid, which all kinds of server cut into just its tiles as
    long as they may be so many; these fields see to it that they may.

    Args:
        kind: The kind of server.
        counts: Tiles of each image of the request, without the thumbnail; None: the server's own
            choice.

    Returns:
        Fields of the `image_url` of each image, and fields of the request.
    """
    known = [one for one in counts if one is not None]
    if kind.tiles == "image":
        return [{} if one is None else {"max_dynamic_patch": one} for one in counts], {}
    # One limit for all images: none where one of them has the server's own.
    if not known or len(known) < len(counts) or kind.tiles is None:
        return [{} for _ in counts], {}
    most = {"max_dynamic_patch": max(known)}
    if kind.tiles == "images":
        return [most for _ in counts], {}
    return [{} for _ in counts], {"mm_processor_kwargs": most}
