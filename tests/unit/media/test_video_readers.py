"""Both readers give the very frames of the video, whatever they have to seek."""

import random
from itertools import pairwise

import av
import numpy as np
import pytest
from golden import VIDEO
from videos import CLIPS, pictures, show_clip_by, trim_clip, turn_clip, write_clip

from langchain_internvl.media import video_readers
from langchain_internvl.media.video_readers import DecordReader, PyAVReader, open_reader

COUNT = 60
READERS = {
    "decord, decoding on": DecordReader,
    "PyAV": PyAVReader,
    "the chosen one": open_reader,
}
# FFmpeg of 2021, which decord brings, counts or decodes these in other ways.
NOT_DECORDS = {
    "h264 in a transport stream", "h264 in AVI with B-frames", "mpeg4 with B-frames", "mpeg2",
    "gif", "av1",
}  # fmt: skip
# Containers that tell too little to seek in.
NO_INDEX = (".avi", ".ts", ".mpg", ".wmv", ".gif")


@pytest.fixture(scope="module", params=CLIPS)
def clip(request, tmp_path_factory):
    """A clip, and its frames as they are decoded one after the other."""
    file, options = CLIPS[request.param]
    path = write_clip(tmp_path_factory.mktemp("clip") / file, pictures(COUNT), **options)
    return request.param, str(path), all_frames(path)


def all_frames(path):
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert any((one != other).any() for one, other in pairwise(frames))
    return frames


@pytest.mark.parametrize("make", READERS.values(), ids=READERS)
def test_frames_are_those_of_the_video_to_the_bit(make, clip):
    name, path, frames = clip
    if make is DecordReader and name in NOT_DECORDS:
        pytest.skip("decord alone does not read it right; PyAV is preferred")
    assert len(frames) == COUNT
    for seed in range(4):
        wanted = sorted(random.Random(seed).sample(range(COUNT), 1 + 4 * seed))
        reader = make(path)
        assert reader.frame_count == COUNT
        assert reader.fps == pytest.approx(CLIPS[name][1].get("fps", 25))
        for index, frame in zip(wanted, reader.read(wanted), strict=True):
            assert np.array_equal(frame, frames[index]), index


def test_decord_seeks_only_where_it_is_right(clip):
    """Its own seeks are off by the leading frames of an open group of pictures."""
    name, path, frames = clip
    can_seek = "open" not in name and not path.endswith(NO_INDEX)
    assert PyAVReader(path).can_seek is can_seek
    reads = can_seek and name not in NOT_DECORDS and not PyAVReader(path).equals_decord
    assert isinstance(open_reader(path), DecordReader if reads else PyAVReader)
    if name in NOT_DECORDS:
        return
    seeking = [next(DecordReader(path, seeks=True).read([index])) for index in range(COUNT)]
    wrong = [index for index in range(COUNT) if (seeking[index] != frames[index]).any()]
    assert not (wrong and can_seek)
    assert wrong or "open" not in name


def test_hidden_frames_are_not_shown(tmp_path):
    """What a trimmed video cuts off by its edit list is still in the file, and decord shows it."""
    whole = write_clip(tmp_path / "whole.mp4", pictures(COUNT), g=12, bf=2)
    path = trim_clip(whole, tmp_path / "part.mp4", 0.7)
    frames = all_frames(path)
    assert 40 <= len(frames) < COUNT
    reader = open_reader(str(path))
    assert isinstance(reader, PyAVReader)
    assert reader.frame_count == len(frames)
    wanted = [0, 5, 14, 20, len(frames) - 1]
    for index, frame in zip(wanted, reader.read(wanted), strict=True):
        assert np.array_equal(frame, frames[index]), index


def test_both_readers_agree_on_a_real_video():
    wanted = [0, 1, 40, 41, 90, 131]
    one, other = DecordReader(str(VIDEO), seeks=True), PyAVReader(str(VIDEO))
    assert (one.frame_count, one.fps) == (other.frame_count, other.fps) == (132, 25.0)
    for left, right in zip(one.read(wanted), other.read(wanted), strict=True):
        assert left.shape == (720, 1280, 3)
        assert np.array_equal(left, right)


@pytest.mark.parametrize(
    ("pix_fmt", "same"),
    [
        ("yuv420p", True),
        ("yuvj420p", True),
        ("yuv422p", True),
        ("yuv444p", True),
        ("yuv420p10le", False),
    ],
)
@pytest.mark.parametrize("size", [(96, 64), (34, 18), (322, 182)])
def test_pixels_of_8_bits_are_decords_to_the_bit(pix_fmt, same, size, tmp_path):
    frames = pictures(12, *size)
    path = str(write_clip(tmp_path / "a.mp4", frames, pix_fmt=pix_fmt, g=6, bf=0))
    one, other = DecordReader(path, seeks=True), PyAVReader(path)
    assert other.equals_decord is same
    wanted = [0, 3, 7, 11]
    pairs = list(zip(one.read(wanted), other.read(wanted), strict=True))
    assert len(pairs) == len(wanted)
    if same:
        assert all(np.array_equal(left, right) for left, right in pairs)


@pytest.mark.parametrize(("degrees", "turns"), [(90, 3), (180, 2), (270, 1)])
def test_videos_of_phones_are_upright(degrees, turns, tmp_path):
    path = write_clip(tmp_path / "a.mp4", pictures(6), g=3, bf=0)
    (lying,) = PyAVReader(str(path)).read([4])
    turn_clip(path, degrees)
    for make in READERS.values():
        (frame,) = make(str(path)).read([4])
        assert np.array_equal(frame, np.rot90(lying, turns))


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ((-1, 0, 0, 1), np.fliplr),
        ((1, 0, 0, -1), np.flipud),
        ((0, 1, 1, 0), lambda frame: frame.transpose(1, 0, 2)),
        ((0, -1, -1, 0), lambda frame: np.rot90(frame, 2).transpose(1, 0, 2)),
    ],
)
def test_mirrored_videos(matrix, shown, tmp_path):
    path = write_clip(tmp_path / "a.mp4", pictures(6), g=3, bf=0)
    (stored,) = PyAVReader(str(path)).read([4])
    show_clip_by(path, matrix)
    (frame,) = open_reader(str(path)).read([4])
    assert np.array_equal(frame, shown(stored))


@pytest.mark.parametrize(
    "options",
    [
        {"g": 12, "bf": 3},
        {"g": 12, "bf": 3, "x264-params": "open-gop=1"},
        {"codec": "mpeg2video", "g": 12, "bf": 2},
        {"codec": "libx265", "x265-params": "keyint=12:open-gop=1:log-level=none"},
    ],
)
def test_recordings_that_begin_between_keyframes(options, tmp_path):
    """Packets before the first keyframe give no frames, and count for no time."""
    whole = write_clip(tmp_path / "whole.ts", pictures(COUNT), **options)
    path = tmp_path / "part.ts"
    path.write_bytes(whole.read_bytes()[40 * 188 :])
    with av.open(str(path)) as container:
        decoded = list(container.decode(video=0))
    reader = open_reader(str(path))
    assert 0 < reader.frame_count == len(decoded) < COUNT - 6
    wanted = [0, 1, 7, len(decoded) - 1]
    for index, frame in zip(wanted, reader.read(wanted), strict=True):
        assert np.array_equal(frame, decoded[index].to_ndarray(format="rgb24")), index
        assert reader.times[index] == pytest.approx(decoded[index].time - decoded[0].time)


def test_pyav_seeks_over_keyframes_and_else_decodes_on(tmp_path):
    """Keyframes are at 0, 12, 24, 36 and 48."""
    path = write_clip(tmp_path / "a.mp4", pictures(COUNT), g=12, bf=0)
    reader = PyAVReader(str(path))
    seeks, decoded = [], []
    container = reader._container

    class Spy:
        def seek(self, time, **options):
            seeks.append(reader._times.index(time))
            container.seek(time, **options)

        def demux(self, stream):
            for packet in container.demux(stream):
                decoded.append(packet.pts)
                yield packet

    reader._container = Spy()
    list(reader.read([3, 7, 11, 13, 50, 59]))
    assert seeks == [0, 48]
    assert len(decoded) == 14 + 12


def test_which_reader_is_chosen(monkeypatch):
    def installed(*names):
        monkeypatch.setattr(video_readers, "is_installed", lambda name: name in names)
        return type(open_reader(str(VIDEO))), video_readers.can_read()

    assert installed("decord", "av") == (PyAVReader, True)
    monkeypatch.setattr(video_readers, "_SAME_PIXELS", ())  # as for a video of 10 bits
    assert installed("decord", "av") == (DecordReader, True)
    assert installed("av") == (PyAVReader, True)
    assert installed("decord") == (DecordReader, True)
    assert not open_reader(str(VIDEO))._seeks
    monkeypatch.setattr(video_readers, "is_installed", lambda name: False)
    assert not video_readers.can_read()
