"""How often each kind of sample is drawn, by the names of mixtures that runs have."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

WINDOW, SHAPES = "window", "shape window"
"""Kinds that are parts of a tile: of text, and of shapes."""

Mixture = Mapping[str, float]
"""How often each kind is drawn."""

MIXTURES: Mapping[str, Mixture] = MappingProxyType(
    {
        # From random weights: letters and shapes on windows, which are cheap.
        "first": {
            "first window": 0.2,
            WINDOW: 0.34,
            SHAPES: 0.18,
            "few lines": 0.1,
            "simple scene": 0.08,
            "scene": 0.05,
            "video": 0.05,
        },
        "all": {
            WINDOW: 0.08,
            "few lines": 0.19,
            "dense": 0.13,
            "any size": 0.05,
            "stretched": 0.05,
            "wide": 0.21,
            SHAPES: 0.03,
            "simple scene": 0.03,
            "scene": 0.11,
            "wide scene": 0.03,
            "pair": 0.03,
            "video": 0.06,
        },
        # Which of several things is meant is learnt last.
        "shapes": {
            SHAPES: 0.27,
            "scene": 0.2,
            "wide scene": 0.02,
            "pair": 0.02,
            "few lines": 0.1,
            "dense": 0.08,
            "any size": 0.02,
            "stretched": 0.03,
            "sign": 0.03,
            "one tile sign": 0.03,
            "wide": 0.16,
            "video": 0.03,
            "blank": 0.01,
        },
        # With videos enough, and rows of one length where that is most of the work.
        "second": {
            SHAPES: 0.2,
            "square scene": 0.3,
            "wide scene": 0.02,
            "pair": 0.02,
            "few lines": 0.1,
            "dense": 0.06,
            "any size": 0.02,
            "stretched": 0.03,
            "sign": 0.02,
            "one tile sign": 0.02,
            "wide": 0.1,
            "video": 0.09,
            "blank": 0.02,
        },
        # Everything, reading more than half of it: a long run should trade no job for another.
        "third": {
            SHAPES: 0.1,
            "square scene": 0.22,
            "wide scene": 0.02,
            "pair": 0.03,
            "few lines": 0.12,
            "dense": 0.1,
            "any size": 0.03,
            "stretched": 0.03,
            "sign": 0.03,
            "one tile sign": 0.03,
            "wide": 0.14,
            "video": 0.05,
            "list": 0.04,
            "short list": 0.05,
            "blank": 0.01,
        },
        # As the third, with heads that are told what to read next; things from left to right; lists
        # of two tiles; where lines of one tile are; answers that cite numbered pages.
        "fourth": {
            SHAPES: 0.06,
            "square scene": 0.13,
            "described": 0.1,
            "wide scene": 0.01,
            "pair": 0.02,
            "few lines": 0.11,
            "dense": 0.08,
            "any size": 0.02,
            "stretched": 0.03,
            "sign": 0.01,
            "one tile sign": 0.03,
            "wide": 0.13,
            "video": 0.06,
            "list": 0.03,
            "short list": 0.04,
            "middle list": 0.03,
            "placed lines": 0.05,
            "cited": 0.05,
            "blank": 0.01,
        },
        # For a new layer: questions about numbered pages first of all, and no large lists.
        "fifth": {
            SHAPES: 0.04,
            "square scene": 0.08,
            "described": 0.11,
            "wide scene": 0.01,
            "pair": 0.01,
            "few lines": 0.12,
            "dense": 0.08,
            "any size": 0.01,
            "stretched": 0.03,
            "sign": 0.01,
            "one tile sign": 0.02,
            "wide": 0.12,
            "video": 0.04,
            "short list": 0.02,
            "placed lines": 0.04,
            "cited": 0.25,
            "blank": 0.01,
        },
        # After it: everything, with pages, lists and the places of lines.
        "sixth": {
            SHAPES: 0.03,
            "square scene": 0.08,
            "described": 0.13,
            "wide scene": 0.01,
            "pair": 0.01,
            "few lines": 0.11,
            "dense": 0.07,
            "any size": 0.02,
            "stretched": 0.03,
            "sign": 0.01,
            "one tile sign": 0.02,
            "wide": 0.18,
            "video": 0.03,
            "list": 0.02,
            "short list": 0.03,
            "middle list": 0.02,
            "placed lines": 0.05,
            "cited": 0.2,
            "blank": 0.01,
        },
        # Shapes, with pages of short lines.
        "shapes and lists": {
            SHAPES: 0.27,
            "scene": 0.2,
            "wide scene": 0.02,
            "pair": 0.02,
            "few lines": 0.1,
            "dense": 0.07,
            "any size": 0.02,
            "stretched": 0.03,
            "sign": 0.03,
            "one tile sign": 0.03,
            "wide": 0.1,
            "video": 0.03,
            "list": 0.03,
            "short list": 0.04,
            "blank": 0.01,
        },
    }
)
