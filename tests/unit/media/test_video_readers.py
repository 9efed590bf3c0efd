"""Both readers give the very frames of the video, whatever they have to seek."""

import random
from itertools import pairwise

import av
import numpy as np
import pytest
from golden import VIDEO
from videos import CLIPS, pictures, turn_clip, write_clip

from langchain_internvl.media import video_readers
from langchain_internvl.media.video_readers import DecordReader, PyAVReader, open_reader

COUNT = 60
READERS = {
    "decord, decoding on": DecordReader,
    "PyAV": PyAVReader,
    "the chosen one": open_reader,
}


@pytest.fixture(scope="module", params=CLIPS)
def clip(request, tmp_path_factory):
    """A clip, and its frames as they are decoded one after the other."""
    file, options = CLIPS[request.param]
    path = write_clip(tmp_path_factory.mktemp("clip") / file, pictures(COUNT), **options)
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == COUNT
    assert any((one != other).any() for one, other in pairwise(frames))
    return request.param, str(path), frames


@pytest.mark.parametrize("make", READERS.values(), ids=READERS)
def test_frames_are_those_of_the_video_to_the_bit(make, clip):
    name, path, frames = clip
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
    is_open = "open" in name
    assert PyAVReader(path).is_closed is not is_open
    assert isinstance(open_reader(path), PyAVReader if is_open else DecordReader)
    seeking = [next(DecordReader(path, seeks=True).read([index])) for index in range(COUNT)]
    wrong = [index for index in range(COUNT) if (seeking[index] != frames[index]).any()]
    assert bool(wrong) is is_open


def test_both_readers_agree_on_a_real_video():
    wanted = [0, 1, 40, 41, 90, 131]
    one, other = DecordReader(str(VIDEO), seeks=True), PyAVReader(str(VIDEO))
    assert (one.frame_count, one.fps) == (other.frame_count, other.fps) == (132, 25.0)
    for left, right in zip(one.read(wanted), other.read(wanted), strict=True):
        assert left.shape == (720, 1280, 3)
        assert np.array_equal(left, right)


@pytest.mark.parametrize(("degrees", "turns"), [(90, 3), (180, 2), (270, 1)])
def test_videos_of_phones_are_upright(degrees, turns, tmp_path):
    path = write_clip(tmp_path / "a.mp4", pictures(6), g=3, bf=0)
    (lying,) = PyAVReader(str(path)).read([4])
    turn_clip(path, degrees)
    for make in READERS.values():
        (frame,) = make(str(path)).read([4])
        assert np.array_equal(frame, np.rot90(lying, turns))


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

        def decode(self, stream):
            for frame in container.decode(stream):
                decoded.append(frame.pts)
                yield frame

    reader._container = Spy()
    list(reader.read([3, 7, 11, 13, 50, 59]))
    assert seeks == [0, 48]
    assert len(decoded) == 14 + 12


def test_which_reader_is_chosen(monkeypatch):
    def installed(*names):
        monkeypatch.setattr(video_readers, "find_spec", lambda name: name in names or None)
        return type(open_reader(str(VIDEO))), video_readers.can_read()

    assert installed("decord", "av") == (DecordReader, True)
    assert installed("av") == (PyAVReader, True)
    assert installed("decord") == (DecordReader, True)
    assert not open_reader(str(VIDEO))._seeks
    monkeypatch.setattr(video_readers, "find_spec", lambda name: None)
    assert not video_readers.can_read()
