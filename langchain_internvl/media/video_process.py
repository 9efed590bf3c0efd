"""Frames of a video file, decoded in a process that can be killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from langchain_internvl.errors import MediaError, MediaTooLargeError, RequestError
from langchain_internvl.media.sources import PathSource
from langchain_internvl.media.video_readers import can_read
from langchain_internvl.media.video_worker import CLIP, FAULT, FRAME, REFUSAL

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from langchain_internvl.media.policy import MediaPolicy
    from langchain_internvl.media.sources import Source

_MAX_MEMORY = 4 << 30
"""Address space of the process, in bytes."""


@dataclass(frozen=True)
class Clip:
    """What is shown of a video.

    Attributes:
        frames: The frames in order, each uint8 [height, width, 3], RGB.
        indices: Their indices in the video.
        fps: Frames per second of the video.
        frame_count: Number of frames of the video.
    """

    frames: tuple[NDArray[np.uint8], ...]
    indices: tuple[int, ...]
    fps: float
    frame_count: int


def read_clip(
    source: Source,
    policy: MediaPolicy,
    num_frames: int = 8,
    bound: tuple[float, float] | None = None,
) -> Clip:
    """Take frames from a video; see `frame_indices` for which.

    Args:
        source: Where the video comes from.
        policy: Limits on bytes, frames, pixels and seconds.
        num_frames: How many frames.
        bound: Start and end in seconds; None: the whole video.

    Raises:
        MediaError: The video is empty, damaged or no video.
        MediaTooLargeError: It is over a limit of the policy.
        RequestError: It has no frames within the bound.
        ImportError: The extra `video` is not installed.
    """
    if num_frames > policy.max_frames:
        raise MediaTooLargeError(
            source.name, f"{num_frames} frames are over MediaPolicy.max_frames={policy.max_frames}"
        )
    if not can_read():
        raise ImportError(
            "decord or PyAV is needed for videos and is not installed: "
            "pip install 'langchain-internvl[video]' (in a clone: pip install '.[video]')"
        )
    with _as_file(source, policy) as path:
        task = {
            "path": path,
            "num_frames": num_frames,
            "bound": bound,
            "max_pixels": policy.max_pixels,
            "max_memory": _MAX_MEMORY,
        }
        return _run(task, source.name, policy)


@contextmanager
def _as_file(source: Source, policy: MediaPolicy) -> Iterator[str]:
    limits = policy.for_videos()
    if isinstance(source, PathSource):
        yield source.check(limits)
        return
    data = source.read(limits)
    if not data:
        raise MediaError(source.name, "is empty")
    with tempfile.TemporaryDirectory(prefix="internvl-video-") as folder:
        file = Path(folder) / "video"
        file.write_bytes(data)
        yield str(file)


def _run(task: dict[str, Any], name: str, policy: MediaPolicy) -> Clip:
    command = [sys.executable, "-m", "langchain_internvl.media.video_worker", json.dumps(task)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "DECORD_EOF_RETRY_MAX": "128",  # instead of 10,240 looks for what is not there
    }
    with subprocess.Popen(  # noqa: S603 - our own module
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    ) as process:
        killed = threading.Event()

        def give_up() -> None:
            killed.set()
            process.kill()

        timer = threading.Timer(policy.timeout, give_up)
        timer.start()
        try:
            return _read_clip(process.stdout, task, name)
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, (MediaError, RequestError)):
                raise
            raise _astray(name) from error
        except EOFError:
            process.wait()
            if killed.is_set():
                reason = f"not decoded within MediaPolicy.timeout={policy.timeout} s"
            else:
                reason = f"the decoder crashed on it (exit {process.returncode}); it is damaged"
            raise MediaError(name, reason) from None
        finally:
            timer.cancel()
            process.kill()


def _read_clip(records: IO[bytes] | None, task: dict[str, Any], name: str) -> Clip:
    clip = json.loads(_read_record(records, name, CLIP, 1 << 20))
    indices = clip["indices"]
    shown = {}
    for index in sorted(set(indices)):
        data = _read_record(records, name, FRAME, task["max_pixels"] * 3 + 8)
        height, width = np.frombuffer(data[:8], "<u4").tolist()
        shown[index] = np.frombuffer(data, np.uint8, offset=8).reshape(height, width, 3)
    return Clip(
        tuple(shown[index] for index in indices), tuple(indices), clip["fps"], clip["frame_count"]
    )


def _read_record(records: Any, name: str, kind: bytes, most: int) -> bytes:
    head = _read_exactly(records, 5)
    found, length = head[:1], int.from_bytes(head[1:], "little")
    if length > most or found not in {kind, FAULT, REFUSAL}:
        raise _astray(name)
    data = _read_exactly(records, length)
    if found == REFUSAL:
        raise RequestError(f"{name}: {data.decode('utf-8', 'replace')}")
    if found == FAULT:
        text = data.decode("utf-8", "replace").strip().partition("\n")[0][:200]
        raise MediaError(name, f"is no video that can be read, or is damaged: {text}")
    return data


def _astray(name: str) -> MediaError:
    return MediaError(name, "the decoder went astray; the video is damaged")


def _read_exactly(records: Any, length: int) -> bytes:
    data: bytes = records.read(length)
    if len(data) < length:
        raise EOFError
    return data
