"""The process that decodes an image of a slow format."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, Jpeg2KImagePlugin

from langchain_internvl.media.encoded import ReadOptions, decode_image
from langchain_internvl.media.pillow_readers import register
from langchain_internvl.media.pixel_source import PixelSource
from langchain_internvl.media.pixels import check_size
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.media.records import DATA, HEAD, write_image, write_record
from langchain_internvl.media.undecoded import identity
from langchain_internvl.media.worker import main


@dataclass(frozen=True)
class _Limit:
    max_pixels: int


def decode(task: Mapping[str, Any], records: BinaryIO) -> None:
    """Decode an image to RGB, or to PNG or TIFF.

    Args:
        task: `path`, `max_pixels` and `options`, of `ReadOptions`; or instead of these, for an
            image that the caller has opened with Pillow, its `format`, `frame`, `reduce`,
            `layers` and `identity`. In both cases `reader`, of `pillow_readers.reference`.
        records: Receives the warnings, then the image; or whether the image of the file has the
            given identity, then its encoded bytes; or only that the reader cannot be imported.

    Raises:
        MediaError: It cannot be decoded.
    """
    if task["reader"] and not register(task["reader"]):
        write_record(records, HEAD, json.dumps({"lacks_reader": True}).encode())
        return
    if "format" in task:
        _decode_opened(task, records)
        return
    data = Path(task["path"]).read_bytes()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        options = ReadOptions(**task["options"])
        rgb = decode_image(data, "", _Limit(task["max_pixels"]), options)
    said = [str(one.message) for one in caught if one.category is UserWarning]
    write_record(records, HEAD, json.dumps({"warnings": said[:10]}).encode())
    write_image(records, np.asarray(rgb))


def _decode_opened(task: Mapping[str, Any], records: BinaryIO) -> None:
    Image.MAX_IMAGE_PIXELS = None  # the caller's own `Image.open` has checked it
    with Image.open(task["path"], formats=[_READERS.get(task["format"], task["format"])]) as image:
        if image.tell() != task["frame"]:
            image.seek(task["frame"])
        if isinstance(image, Jpeg2KImagePlugin.Jpeg2KImageFile):
            image.reduce, image.layers = task["reduce"], task["layers"]
        policy = MediaPolicy(max_pixels=task["max_pixels"])
        check_size(image.size, "", policy)
        is_same = repr(identity(image)) == task["identity"]
        write_record(records, HEAD, json.dumps({"is_same": is_same}).encode())
        if is_same:
            write_record(records, DATA, PixelSource(image, "").decoded_bytes(policy))


_READERS = {"MPO": "JPEG"}
"""Readers by format, where their names differ."""


if __name__ == "__main__":
    main(decode)
