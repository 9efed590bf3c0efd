"""Sizes of what the model sees, in pixels and tokens."""

from __future__ import annotations

TILE = 448
"""Side of a tile, in pixels."""

PATCH = 16
"""Side of a patch of the vision tower, in pixels."""

SQUARE = 2 * PATCH
"""Side of what one context token sees, in pixels."""

TOKENS = (TILE // SQUARE) ** 2
"""Context tokens of a tile: 196."""
