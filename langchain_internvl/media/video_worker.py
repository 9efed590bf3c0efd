"""The process that decodes a video: it may crash, hang or eat memory, and only it suffers.

It is given its task as JSON on the command line and writes records to its standard output: a
letter, the length of what follows as four bytes, and that. `H`, JSON: the clip; `F`, height and
width as four bytes each, and the pixels: a frame; `E`, text: what is wrong.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

from langchain_internvl.errors import RequestError
from langchain_internvl.media.video import frame_indices
from langchain_internvl.media.video_readers import open_reader

CLIP, FRAME, FAULT, REFUSAL = b"H", b"F", b"E", b"R"


def main() -> None:
    """Do the task of the command line."""
    # Libraries print to standard output too; ours is kept for the records.
    records = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    task = json.loads(sys.argv[1])
    _limit_memory(task["max_memory"])
    try:
        for kind, data in _decode(task):
            _write(records, kind, data)
    except RequestError as error:
        _write(records, REFUSAL, str(error).encode())
    except (Exception, MemoryError) as error:  # noqa: BLE001 - decoders raise anything
        _write(records, FAULT, f"{type(error).__name__}: {error}".encode("utf-8", "replace"))
    records.flush()
    os._exit(0)  # without the clean-up of libraries that may hang in it


def _decode(task: dict[str, Any]) -> Iterator[tuple[bytes, bytes]]:
    reader = open_reader(task["path"])
    if reader.frame_count < 1:
        raise ValueError("it has no frames")
    indices = frame_indices(reader.frame_count, reader.fps, task["num_frames"], task["bound"])
    clip = {"frame_count": reader.frame_count, "fps": reader.fps, "indices": indices}
    yield CLIP, json.dumps(clip).encode()
    for frame in reader.read(sorted(set(indices))):
        height, width = frame.shape[:2]
        if height * width > task["max_pixels"]:
            raise ValueError(
                f"{width} x {height} pixels are over MediaPolicy.max_pixels={task['max_pixels']}"
            )
        size = height.to_bytes(4, "little") + width.to_bytes(4, "little")
        yield FRAME, size + frame.tobytes()


def _write(records: BinaryIO, kind: bytes, data: bytes) -> None:
    records.write(kind + len(data).to_bytes(4, "little") + data)


def _limit_memory(most: int) -> None:
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
