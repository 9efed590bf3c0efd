"""How long tests wait for what must happen."""

PATIENCE = 1800
"""Seconds. No test measures speed: only a hang takes this long, on the slowest machine too."""
