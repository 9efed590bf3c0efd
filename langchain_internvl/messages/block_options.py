"""Warns of options of media blocks that are misspelt, or without effect for the kind of medium."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import lru_cache

from langchain_internvl.errors import did_you_mean

_OPTIONS: Mapping[str, frozenset[str]] = {
    "min_tiles": frozenset({"image", "pdf"}),
    "max_tiles": frozenset({"image", "pdf", "video"}),
    "max_dynamic_patch": frozenset({"image", "pdf", "video"}),
    "detail": frozenset({"image", "pdf", "video"}),
    "pages": frozenset({"pdf"}),
    "num_frames": frozenset({"video"}),
    "nframes": frozenset({"video"}),
    "max_tiles_per_frame": frozenset({"video"}),
    "bound": frozenset({"video"}),
    "video_start": frozenset({"video"}),
    "video_end": frozenset({"video"}),
}
"""Options of media blocks, and the kinds of media that they apply to."""

_LIKE_OPTIONS = frozenset({"name", "title", "frames", "type", "format", "page", "page_number"})
"""Fields of blocks that resemble options by chance."""


def warn_of_options(kind: str, fields: Mapping[str, object], where: str) -> None:
    """Warn of options without effect; other unknown fields belong to other providers.

    Args:
        kind: "image", "video" or "pdf".
        fields: Fields of the block.
        where: Position of the block.
    """
    for name, value in fields.items():
        if value is None or not isinstance(name, str):
            continue
        if name in _OPTIONS:
            if kind not in _OPTIONS[name] and kind in {"image", "pdf", "video"}:
                warnings.warn(f"{where}: {name} has no effect on a medium of kind {kind!r}",
                              stacklevel=2)  # fmt: skip
        elif hint := _hint(name):
            warnings.warn(f"{where}: a block has no option {name!r}{hint}", stacklevel=2)


@lru_cache(maxsize=1024)
def _hint(name: str) -> str:
    """What a misspelt option means; "": the name resembles no option."""
    return "" if name in _LIKE_OPTIONS else did_you_mean(name, _OPTIONS, cutoff=0.75)
