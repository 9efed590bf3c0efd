"""Tile limits per benchmark, from VLMEvalKit's `vlm/internvl`."""

from __future__ import annotations

MAX_TILES = {
    **dict.fromkeys(("chartqapro", "mmmupro"), 6),
    **dict.fromkeys(("chartqa", "mmmu", "mmerealworld", "vcren", "vcrzh", "ocrvqa", "bmmr"), 12),
    **dict.fromkeys(("docvqa", "dude", "mmlongbenchdoc", "slidevqa"), 18),
    **dict.fromkeys(("infovqa", "infographicvqa", "hrbench4k", "hrbench8k"), 24),
    **dict.fromkeys(("ocrbench", "oceanocrbench", "olmocrbench"), 24),
    **dict.fromkeys(("mvbench", "videomme", "video"), 1),
}
"""Most tiles of each image by the beginning of the benchmark's name, lower case; of several matches
the first counts."""

DEFAULT_MAX_TILES = 6
MAX_TOTAL_TILES = 64
"""Most tiles of all images of one question together."""


def max_tiles_of(benchmark: str, images: int = 1) -> int:
    """Most tiles of each image of a question.

    Args:
        benchmark: Name of the benchmark or task, such as "docvqa_val".
        images: Number of images of the question.

    Returns:
        At least 1.
    """
    name = benchmark.lower().replace("_", "").replace("-", "")
    own = next((n for key, n in MAX_TILES.items() if name.startswith(key)), DEFAULT_MAX_TILES)
    return max(1, min(own, MAX_TOTAL_TILES // max(1, images)))
