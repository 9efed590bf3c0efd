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


def trim_clip(path, target, seconds):
    """Copy a video from a time on, undecoded: with an edit list that hides what is before it."""
    with av.open(str(path)) as source, av.open(str(target), "w") as container:
        stream = source.streams.video[0]
        copied = container.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is not None:
                shift = round(seconds / packet.time_base)
                packet.pts, packet.dts, packet.stream = (
                    packet.pts - shift,
                    packet.dts - shift,
                    copied,
                )
                container.mux(packet)
    return target


def turn_clip(path, degrees):
    """Let an MP4 file say that it was taken with the camera turned."""
    show_clip_by(path, {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[degrees])


def show_clip_by(path, matrix):
    """Give an MP4 file the matrix by which it is shown (ISO 14496-12, tkhd)."""
    a, b, c, d = (one << 16 for one in matrix)
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 44
    data[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


CLIPS = {
    "h264": ("clip.mp4", {"g": 12, "bf": 0}),
    "h264 with B-frames": ("clip.mp4", {"g": 12, "bf": 3}),
    "h264, one keyframe": ("clip.mp4", {"g": 1000, "bf": 2}),
    "h264, only keyframes": ("clip.mkv", {"g": 1}),
    "h264, 29.97 fps": ("clip.mp4", {"fps": 30000 / 1001, "g": 9}),
    "mpeg4": ("clip.avi", {"codec": "mpeg4", "g": 10}),
    "mpeg4 with B-frames": ("clip.avi", {"codec": "mpeg4", "g": 12, "bf": 2}),
    "h264 in AVI with B-frames": ("clip.avi", {"g": 12, "bf": 2}),
    "h264 in a transport stream": ("clip.ts", {"g": 12, "bf": 3}),
    "mpeg2": ("clip.mpg", {"codec": "mpeg2video", "g": 12, "bf": 2}),
    "wmv": ("clip.wmv", {"codec": "wmv2", "g": 12}),
    "gif": ("clip.gif", {"codec": "gif", "pix_fmt": "rgb8"}),
    "av1": ("clip.mp4", {"codec": "libsvtav1", "g": 12}),
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
