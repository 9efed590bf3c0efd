"""The process that decodes an image of a slow format."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from langchain_internvl.media.encoded import ReadOptions, decode_image
from langchain_internvl.media.records import HEAD, write_image, write_record
from langchain_internvl.media.worker import main


@dataclass(frozen=True)
class _Limit:
    max_pixels: int


def decode(task: Mapping[str, Any], records: BinaryIO) -> None:
    """Decode an image to RGB.

    Args:
        task: `path`, `max_pixels` and `options`, of `ReadOptions`.
        records: Receives the warnings, then the image.

    Raises:
        MediaError: It cannot be decoded.
    """
    data = Path(task["path"]).read_bytes()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        options = ReadOptions(**task["options"])
        rgb = decode_image(data, "", _Limit(task["max_pixels"]), options)
    said = [str(one.message) for one in caught if one.category is UserWarning]
    write_record(records, HEAD, json.dumps({"warnings": said[:10]}).encode())
    write_image(records, np.asarray(rgb))


if __name__ == "__main__":
    main(decode)
