"""A video that is cut off is read as far as it goes, and says so."""

import random
import warnings

import av
import numpy as np
import pytest
from golden import VIDEO, checkpoint_folder
from support import FixedBackend
from videos import CLIPS, pictures, write_clip

from langchain_internvl import ChatInternVL, MediaPolicy
from langchain_internvl.errors import MediaError, RequestError
from langchain_internvl.media import video_damage
from langchain_internvl.media.sources import BytesSource
from langchain_internvl.media.video_damage import cut_off
from langchain_internvl.media.video_process import read_clip
from langchain_internvl.media.video_readers import PyAVReader
from langchain_internvl.tools.ask_video import VideoQATool

COUNT = 100
WITHIN = "the file ends within a packet"
NO_END = "the file has no end mark: it is cut off, or its recording was stopped"
WRITTEN = {
    **CLIPS,
    "flv": ("clip.flv", {"codec": "flv"}),
    "ogg": ("clip.ogv", {"codec": "libvpx"}),
    "mov": ("clip.mov", {"codec": "mpeg4"}),
    "mxf": ("clip.mxf", {"codec": "mpeg2video"}),
    "ivf": ("clip.ivf", {"codec": "libvpx"}),
    "m2ts": ("clip.m2ts", {}),
    "nut": ("clip.nut", {"codec": "mpeg4"}),
    "y4m": ("clip.y4m", {"codec": "wrapped_avframe"}),
    "without a container": ("clip.h264", {}),
}
COPIED = {
    "index in front": (".mp4", {"movflags": "faststart"}),
    "fragments": (".mp4", {"movflags": "frag_keyframe+empty_moov"}),
    "fragments with an index": (".mp4", {"movflags": "frag_keyframe+dash+global_sidx"}),
    "matroska": (".mkv", {}),
    "matroska in a pipe": (".mkv", {"live": "1"}),
}
UNDECLARED = {"without a container"}
"""Streams that may end anywhere."""


def copy_clip(path, options, *, sound=0):
    """Put a clip into another container, beside `sound` seconds of silence."""
    clip = write_clip(path.with_suffix(".source.mp4"), pictures(COUNT), g=12, bf=2)
    with av.open(str(clip)) as source, av.open(str(path), "w", options=options) as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        silence = container.add_stream("aac", rate=8000) if sound else None
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
        for number in range(sound * 8 if silence else 0):
            samples = av.AudioFrame(format="fltp", layout="mono", samples=1000)
            samples.sample_rate, samples.pts = 8000, number * 1000
            for plane in samples.planes:
                plane.update(bytes(plane.buffer_size))
            container.mux(silence.encode(samples))
        if silence:
            container.mux(silence.encode())
    return path


@pytest.fixture(params=[*WRITTEN, *COPIED])
def clip(request, tmp_path):
    name = request.param
    if name in COPIED:
        suffix, options = COPIED[name]
        return name, copy_clip(tmp_path / f"clip{suffix}", options)
    file, options = WRITTEN[name]
    return name, write_clip(tmp_path / file, pictures(COUNT), **options)


def test_a_whole_video_is_not_flagged_and_a_shorter_one_is(clip, tmp_path):
    name, path = clip
    reader = PyAVReader(str(path))
    assert (cut_off(path), reader.missing) == (None, 0)
    count = reader.frame_count
    data, cut = path.read_bytes(), tmp_path / f"cut{path.suffix}"
    for seed in range(12):
        length = random.Random(seed).randrange(len(data) // 8, len(data))
        if path.suffix == ".ts" and length % 188 == 0:
            length -= 1  # between two packets nothing tells
        cut.write_bytes(data[:length])
        try:
            reader = PyAVReader(str(cut))
        except (av.FFmpegError, ValueError):  # no index, or no stream
            continue
        is_flagged = cut_off(cut) is not None or reader.missing > 0
        if name in UNDECLARED:
            assert not is_flagged
        elif 0 < reader.frame_count < count:
            assert is_flagged, (length, len(data), reader.frame_count)


@pytest.mark.parametrize(
    ("pix_fmt", "size", "bytes_"),
    [
        ("yuv420p", (95, 63), 95 * 63 + 2 * 48 * 32), ("yuv422p", (95, 63), 95 * 63 + 2 * 48 * 63),
        ("yuv411p", (95, 63), 95 * 63 + 2 * 24 * 63), ("yuv444p", (95, 63), 3 * 95 * 63),
        ("gray", (95, 63), 95 * 63), ("yuv420p10le", (94, 62), 3 * 94 * 62),
        ("gray12le", (95, 63), 2 * 95 * 63),
    ],
)  # fmt: skip
def test_uncompressed_frames_of_every_layout(pix_fmt, size, bytes_, tmp_path):
    frames = [frame[: size[1], : size[0]] for frame in pictures(3)]
    path = tmp_path / "clip.y4m"
    with av.open(str(path), "w", options={"strict": "-1"}) as container:
        stream = container.add_stream("wrapped_avframe", rate=25)
        (stream.width, stream.height), stream.pix_fmt = size, pix_fmt
        for frame in frames:
            new = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")
            container.mux(stream.encode(new.reformat(format=pix_fmt)))
    data = path.read_bytes()
    assert data.index(b"\n") + 1 + 3 * (6 + bytes_) == len(data)
    assert cut_off(path) is None
    for end in (1, 2, bytes_ // 2, bytes_, bytes_ + 1, bytes_ + 5):
        path.write_bytes(data[:-end])
        assert cut_off(path) == "the file is cut off", end
    path.write_bytes(data[: -bytes_ - 6])  # between two frames nothing tells
    assert cut_off(path) is None


def test_what_follows_the_frames_may_be_missing(tmp_path):
    """Index, tags and padding at the end of a file have no frames."""
    for name, extra in (("a.mkv", b""), ("a.mp4", b"\0\0\x10\0free")):
        path = copy_clip(tmp_path / name, {"movflags": "faststart"} if extra else {})
        data = path.read_bytes() + extra
        path.write_bytes(data[:-3] if not extra else data)
        assert cut_off(path) is None
        assert PyAVReader(str(path)).frame_count == COUNT


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_longer_sound_is_no_damage(suffix, tmp_path):
    path = copy_clip(tmp_path / f"clip{suffix}", {}, sound=12)
    with av.open(str(path)) as container:
        assert container.duration > 10e6
    assert PyAVReader(str(path)).missing == 0


def test_a_file_cut_between_two_chunks_has_less_than_its_header_declares(tmp_path):
    path = tmp_path / "clip.flv"
    write_clip(path, pictures(COUNT), codec="flv")
    data = path.read_bytes()
    place, ends = 13, []
    while place < len(data):
        place += 15 + int.from_bytes(data[place + 1 : place + 4], "big")
        ends.append(place)
    path.write_bytes(data[: ends[len(ends) // 2]])
    assert cut_off(path) is None
    assert PyAVReader(str(path)).missing == pytest.approx(2, abs=0.3)


def test_damage_reaches_the_user(tmp_path):
    path = copy_clip(tmp_path / "clip.mp4", {"movflags": "faststart"})
    half = BytesSource(path.read_bytes()[: path.stat().st_size // 2], "talk.mp4")
    with pytest.warns(UserWarning, match=r"talk\.mp4: .* s of the declared length are missing"):
        clip = read_clip(half, MediaPolicy(), 4)
    assert clip.damage
    assert len(clip.frames) == 4
    assert clip.frame_count < COUNT
    with pytest.raises(RequestError, match="the declared length are missing from the file"):
        read_clip(half, MediaPolicy(), 4, (3.5, 4))


def test_an_index_that_is_cut_off_is_the_reason_of_the_error(tmp_path):
    path = copy_clip(tmp_path / "clip.mp4", {})  # its index is at the end
    data = path.read_bytes()
    for length in (len(data) - 100, data.index(b"moov") + 300):
        with pytest.raises(MediaError, match="the file is cut off"):
            read_clip(BytesSource(data[:length], "talk.mp4"), MediaPolicy(), 2)


def test_a_whole_video_gives_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_clip(BytesSource(VIDEO.read_bytes(), "a.mp4"), MediaPolicy(), 2).damage is None


@pytest.mark.parametrize("head", ["1a45dfa3", "52494646", "464c56", "4f676753", "474946383961",
                                  "3026b275", "444b4946", "060e2b34", "000001ba", "47",
                                  "0000000166747970", "0000002073696478"])  # fmt: skip
def test_hostile_chunks_end(head, tmp_path):
    """Lengths of 0 and of 2 ** 64, and random ones, neither hang nor raise."""
    path = tmp_path / "clip"
    for seed in range(60):
        chance = random.Random(seed)
        fill = chance.choice((bytes(500), b"\xff" * 500, chance.randbytes(500)))
        path.write_bytes(bytes.fromhex(head) + fill)
        assert cut_off(path) in {
            None,
            "the file is cut off",
            WITHIN,
            NO_END,
        }
        with pytest.raises(MediaError) if seed == 0 else warnings.catch_warnings():
            if seed == 0:
                read_clip(BytesSource(path.read_bytes(), "a"), MediaPolicy(), 2)


def test_the_agent_is_told_that_a_video_is_not_complete(tmp_path):
    path = copy_clip(tmp_path / "clip.mp4", {"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    llm = ChatInternVL(model=str(checkpoint_folder("internlm2")), backend=FixedBackend())
    tool = VideoQATool(llm=llm, media_policy=MediaPolicy(roots=[tmp_path]))
    with pytest.warns(UserWarning, match="the whole file"):
        message = tool.invoke(
            {"type": "tool_call", "id": "1", "name": tool.name, "args": {"video": "clip.mp4"}}
        )
    assert "(The video is not complete: the last" in message.content
    assert "missing from the file" in message.artifact.damage


TAILS = {
    "avi": ("clip.avi", {"codec": "mpeg4"}, bytes(2)),
    "program stream": ("clip.mpg", {"codec": "mpeg2video"}, bytes(3)),
    "end code": ("clip.mpg", {"codec": "mpeg2video"}, b"\0\0\1\xb9"),
    "flv": ("clip.flv", {"codec": "flv"}, bytes(4)),
    "ogg": ("clip.ogv", {"codec": "libvpx"}, bytes(2)),
    "gif": ("clip.gif", {"codec": "gif", "pix_fmt": "rgb8"}, bytes(1)),
}


@pytest.mark.parametrize(("file", "options", "tail"), TAILS.values(), ids=TAILS)
def test_padding_and_end_codes_are_no_damage(file, options, tail, tmp_path):
    path = tmp_path / file
    write_clip(path, pictures(20), **options)
    data = path.read_bytes()
    for end in (b"", tail):
        path.write_bytes(data.removesuffix(b"\0\0\1\xb9") + end)
        assert cut_off(path) is None


def test_marks_that_recorders_leave_out_are_no_damage(tmp_path):
    """GIF's trailer, the last length of FLV, and the size of the last box of MP4."""
    gif = tmp_path / "a.gif"
    gif.write_bytes(b"GIF89a" + bytes([9, 0, 9, 0, 0, 0, 0]) + b"!\xf9\4\0\0\0\0\0")
    assert cut_off(gif) is None
    flv = write_clip(tmp_path / "a.flv", pictures(20), codec="flv")
    flv.write_bytes(flv.read_bytes()[:-4])
    assert cut_off(flv) is None
    mp4 = tmp_path / "a.mp4"
    head = b"\0\0\0\x10ftypisom\0\0\2\0"
    for box, damage in ((b"\0\0\0\0mdatframes", None), (b"", "the file is cut off")):
        mp4.write_bytes(head + b"\0\0\0\x08moof" + box)
        assert cut_off(mp4) == damage


def test_an_ogg_file_of_many_pages_is_not_flagged(monkeypatch, tmp_path):
    monkeypatch.setattr(video_damage, "_MOST_CHUNKS", 3)
    path = tmp_path / "a.ogv"
    page = b"OggS" + bytes(23)
    path.write_bytes(page * 3)
    assert cut_off(path) is None
    path.write_bytes(page * 2)
    assert cut_off(path) == NO_END


def test_a_duration_that_is_estimated_is_none_that_is_missing(tmp_path):
    path = tmp_path / "live.mkv"
    with av.open(str(path), "w", options={"live": "1"}) as container:
        stream = container.add_stream("mpeg1video", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 64, 64, "yuv420p", 60_000
        noise = np.random.default_rng(0)
        for _ in range(75):
            pixels = noise.integers(0, 255, (64, 64, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    reader = PyAVReader(str(path))
    assert reader.frame_count == 75
    assert reader.missing == 0
