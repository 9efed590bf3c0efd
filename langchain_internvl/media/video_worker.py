"""The process that decodes frames of a video."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from langchain_internvl.errors import RequestError
from langchain_internvl.media.chunk_damage import chunk_damage
from langchain_internvl.media.containers import check_container
from langchain_internvl.media.records import HEAD, write_image, write_record
from langchain_internvl.media.video import frame_indices, frame_indices_by_time, is_constant
from langchain_internvl.media.video_damage import cut_off
from langchain_internvl.media.video_readers import VideoReader, open_reader
from langchain_internvl.media.worker import check_size, main


def decode(task: Mapping[str, Any], records: BinaryIO) -> None:
    """Read frames of a video.

    Args:
        task: `path`, `num_frames`, `bound`, `max_pixels`, and `by_time`; see
            `video_process.read_clip`.
        records: Receives the number of images; each requested frame once; facts about the video.

    Raises:
        MediaTooLargeError: Frames have too many pixels.
        RequestError: There are no frames within the bound.
        ValueError: The file is not a video, or has no frames that can be decoded.
    """
    reader, damage = _open(Path(task["path"]))
    times, fps = reader.times, reader.fps
    num_frames, bound = task["num_frames"], task["bound"]
    if len(times) != reader.frame_count:
        times = ()
    try:
        if task.get("by_time") and times and not is_constant(times, fps):
            indices = frame_indices_by_time(times, reader.duration or times[-1], num_frames, bound)
        else:
            indices = frame_indices(reader.frame_count, fps, num_frames, bound, times)
    except RequestError as error:
        raise RequestError(f"{error}; {damage}" if damage else str(error)) from error
    wanted = sorted(set(indices))
    write_record(records, HEAD, json.dumps({"images": len(wanted)}).encode())
    try:
        for frame in reader.read(wanted):
            check_size(frame.shape[1], frame.shape[0], task)
            write_image(records, frame)
    except ValueError as error:
        if damage is None or type(error) is not ValueError:
            raise
        raise ValueError(f"{error}; {damage}") from error
    places = {index: place for place, index in enumerate(wanted)}
    clip = _facts(reader, times, [reader.decoded[places[index]] for index in indices])
    clip["images"] = [places[index] for index in indices]
    lost = f"{reader.lost} of its packets cannot be decoded" if reader.lost else None
    replaced = sum(index != found for index, found in zip(wanted, reader.decoded, strict=True))
    if replaced and not reader.lost:
        lost = f"{replaced} of the frames cannot be decoded, and others are in their place"
    clip["damage"] = "; ".join(filter(None, (damage, lost))) or None
    write_record(records, HEAD, json.dumps(clip).encode())


def _open(path: Path) -> tuple[VideoReader, str | None]:
    """The open video, and why frames may be missing (None: no damage was found).

    Raises:
        ValueError: The file is not a video, or has no frames.
    """
    check_container(path)
    damage = cut_off(path) or chunk_damage(path)
    try:
        reader = open_reader(str(path), is_damaged=damage is not None)
    except Exception as error:  # PyAV's errors, whose text has the path of the temporary file
        reason = getattr(error, "strerror", None)
        if not reason and (damage is None or isinstance(error, ImportError)):
            raise
        end = damage or "a file that was downloaded or copied may be cut off"
        raise ValueError(f"{reason or error}; {end}") from error
    if reader.missing:
        damage = f"the last {reader.missing:.1f} s of the declared length are missing from the file"
    elif reader.is_broken:
        damage = damage or "a packet of it cannot be read, and the rest is missing"
    if reader.frame_count < 1:
        raise ValueError(f"it has no frames; {damage}" if damage else "it has no frames")
    return reader, damage


def _facts(reader: VideoReader, times: Sequence[float], indices: Sequence[int]) -> dict[str, Any]:
    """Metadata of a video and of the frames that were read."""
    fps = reader.fps
    if times:
        seconds, duration = [times[index] for index in indices], reader.duration
    else:
        seconds = [index / fps for index in indices] if fps > 0 else []
        duration = reader.frame_count / fps if fps > 0 else None
    return {
        "frame_count": reader.frame_count,
        "fps": fps,
        "indices": indices,
        "times": seconds,
        "duration": duration,
    }


if __name__ == "__main__":
    main(decode)
