"""Clips made at test time."""

import struct
from fractions import Fraction

import av
import numpy as np


def pictures(count, width=96, height=64, seed=0):
    """Frames that differ: bars that move, over noise that stays."""
    noise = np.random.default_rng(seed).integers(0, 60, (height, width, 3), np.uint8)
    frames = []
    for number in range(count):
        frame = noise.copy()
        place = number * 7 % (width - 8)
        frame[:, place : place + 8] = (255, number * 5 % 256, 0)
        frame[number % height, :, 2] = 255
        frames.append(frame)
    return frames


def write_clip(path, frames, *, codec="libx264", fps=25, pix_fmt="yuv420p", **options):
    """Write frames to a video file; options are the encoder's."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(100_000))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.options = {key: str(value) for key, value in options.items()}
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def turn_clip(path, degrees):
    """Let an MP4 file say that it was taken with the camera turned (ISO 14496-12, tkhd)."""
    a, b, c, d = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[degrees]
    one = 1 << 16
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 44
    data[matrix : matrix + 36] = struct.pack(
        ">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30
    )
    path.write_bytes(data)


CLIPS = {
    "h264": ("clip.mp4", {"g": 12, "bf": 0}),
    "h264 with B-frames": ("clip.mp4", {"g": 12, "bf": 3}),
    "h264, one keyframe": ("clip.mp4", {"g": 1000, "bf": 2}),
    "h264, only keyframes": ("clip.mkv", {"g": 1}),
    "h264, 29.97 fps": ("clip.mp4", {"fps": 30000 / 1001, "g": 9}),
    "mpeg4": ("clip.avi", {"codec": "mpeg4", "g": 10}),
    "vp9": ("clip.webm", {"codec": "libvpx-vp9", "g": 15}),
    "h264, open groups": ("clip.mp4", {"g": 12, "bf": 3, "x264-params": "open-gop=1"}),
    "hevc": (
        "clip.mp4",
        {"codec": "libx265", "x265-params": "keyint=12:open-gop=0:log-level=none"},
    ),
    "hevc, open groups": (
        "clip.mp4",
        {"codec": "libx265", "x265-params": "keyint=12:open-gop=1:log-level=none"},
    ),
    "mjpeg": ("clip.avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
}
