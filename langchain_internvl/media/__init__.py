"""Bytes, paths, URLs and Python objects to decoded pixels, safely; pixels to tiles."""
