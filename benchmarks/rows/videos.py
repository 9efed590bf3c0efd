"""Frames of a long video: a whole call beside decord alone."""

from __future__ import annotations

import statistics
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import decord
import numpy as np

from benchmarks.row import Bench, Result, Row, Study, timed
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.media.sources import PathSource
from langchain_internvl.media.video import frame_indices
from langchain_internvl.media.video_process import read_clip

FRAMES, RATE = 16, 25


def measure(bench: Bench) -> dict[str, Result]:
    """16 frames of 2 minutes of 1080p, bit-identical."""
    with tempfile.TemporaryDirectory(prefix="internvl-bench-") as folder:
        path = str(Path(folder) / "video.mp4")
        seconds, height = bench.size(120, 8), bench.size(1080, 180)
        write_video(path, seconds, height)
        source, policy = PathSource(Path(path)), MediaPolicy()
        clip = read_clip(source, policy, FRAMES)
        frames = read_with_decord(path)
        if not all(map(np.array_equal, clip.frames, frames)):
            raise SystemExit("OTHER FRAMES")
        own, other = [], []
        for _ in range(bench.size(3, 1)):
            own.append(timed(lambda: read_clip(source, policy, FRAMES)))
            other.append(timed(lambda: read_with_decord(path)))
    return {
        "video": Result(
            [mine / theirs for mine, theirs in zip(own, other, strict=True)],
            f"{FRAMES} frames, {seconds} s of {height} lines: {statistics.median(own):.2f} s in a "
            f"process of its own, decord {statistics.median(other):.2f} s in this one",
        )
    }


def read_with_decord(path: str) -> list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    """The same frames as the quick start reads them: decord on one thread, frame by frame."""
    video = decord.VideoReader(path, ctx=decord.cpu(0), num_threads=1)
    indices = frame_indices(len(video), float(video.get_avg_fps()), FRAMES)
    return [video[index].asnumpy() for index in indices]


def write_video(path: str, seconds: int, height: int) -> None:
    """Write H.264 of a moving pattern: encoded 8 seconds, repeated up to the length."""
    width = height * 16 // 9
    with tempfile.TemporaryDirectory(prefix="internvl-bench-") as folder:
        _encode(f"{folder}/part.mp4", width, height, 8 * RATE)
        _repeat(f"{folder}/part.mp4", path, -(-seconds // 8))


def _repeat(part: str, path: str, times: int) -> None:
    """Write the packets of a video several times, one after the other."""
    with av.open(part) as source, av.open(path, "w") as container:
        packets = [one for one in source.demux(video=0) if one.size]
        stream = container.add_stream_from_template(source.streams.video[0])
        frames = len(packets)
        step = int(1 / RATE / packets[0].time_base)
        for repeat in range(times):
            for packet in packets:
                copy = av.Packet(bytes(packet))
                copy.pts = packet.pts + repeat * frames * step
                copy.dts = packet.dts + repeat * frames * step
                copy.time_base = packet.time_base
                copy.is_keyframe = packet.is_keyframe
                copy.stream = stream
                container.mux(copy)


def _encode(path: str, width: int, height: int, count: int) -> None:
    """Encode a closed group of pictures."""
    noise = np.random.default_rng(0).integers(0, 256, (height // 8, width // 4), np.uint8)
    base = np.repeat(np.repeat(noise, 8, 0), 8, 1)
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "veryfast", "x264-params": "keyint=250:open-gop=0"}
        for number in range(count):
            shown = base[:, 4 * number % width :][:, :width]
            shown = np.pad(shown, ((0, height - shown.shape[0]), (0, width - shown.shape[1])))
            frame = av.VideoFrame.from_ndarray(np.stack([shown] * 3, -1), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


STUDY = Study(
    (Row("video", "16 frames of 2 minutes 1080p, whole call / decord alone", 1.3),),
    measure,
)
