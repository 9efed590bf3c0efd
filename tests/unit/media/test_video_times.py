"""Videos without a constant frame rate: true times, true durations, and parts by seconds."""

from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
from golden import checkpoint_folder
from hypothesis import given
from hypothesis import strategies as st
from support import FixedBackend
from videos import CLIPS, pictures, trim_clip, write_clip

from langchain_internvl import ChatInternVL, MediaPolicy, video_block
from langchain_internvl.errors import RequestError
from langchain_internvl.media.sources import BytesSource, PathSource
from langchain_internvl.media.video import frame_indices, frame_indices_by_time, is_constant
from langchain_internvl.media.video_process import read_clip
from langchain_internvl.media.video_readers import DecordReader, PyAVReader, open_reader
from langchain_internvl.tools.ask_video import VideoQATool

POLICY = MediaPolicy()
# 12 frames at 10 a second, then 12 a second apart.
TIMES = [number / 10 for number in range(12)] + [2.1 + number for number in range(12)]


def write_times(path, times, codec="libx264", first=0.0):
    """A video whose frames have given times in seconds."""
    frames = pictures(len(times))
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        stream.options = {"g": "6", "bf": "0"}
        for frame, time in zip(frames, times, strict=True):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            picture.pts, picture.time_base = round((time + first) * 1000), Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def variable(tmp_path_factory):
    return write_times(tmp_path_factory.mktemp("times") / "variable.mp4", TIMES)


@pytest.mark.parametrize("reader", [PyAVReader, open_reader, DecordReader])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_readers_know_the_true_times(reader, name, tmp_path):
    opened = reader(str(write_times(tmp_path / name, TIMES)))
    assert opened.times == pytest.approx(TIMES, abs=2e-3)
    assert opened.duration >= TIMES[-1]
    assert not is_constant(opened.times, opened.fps)


def test_times_count_from_the_first_frame(tmp_path):
    opened = PyAVReader(str(write_times(tmp_path / "a.mkv", TIMES, first=7.0)))
    assert opened.times == pytest.approx(TIMES, abs=2e-3)


@pytest.mark.parametrize(("first", "second"), [(30, 0), (5000, 0), (0, 30), (0, 0)])
@pytest.mark.parametrize(("suffix", "codec"), [(".ts", "libx264"), (".mpg", "mpeg2video")])
def test_a_recording_goes_on_from_another_whose_times_are_others(
    suffix, codec, first, second, tmp_path
):
    """As of recorders that join their files; all frames count, and time goes on."""
    frames = pictures(40)
    data = b""
    for number, (part, start) in enumerate(((frames[:20], first), (frames[20:], second))):
        clip = write_clip(tmp_path / f"{number}{suffix}", part, codec=codec, g=5, bf=2)
        data += trim_clip(clip, tmp_path / f"moved{number}{suffix}", -start).read_bytes()
    path = tmp_path / f"joined{suffix}"
    path.write_bytes(data)
    with av.open(str(path)) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    shown = read_clip(PathSource(path), POLICY, 4, (0.5, 1.5))
    assert shown.frame_count == len(decoded) == 40
    assert shown.indices == (15, 21, 28, 35)
    assert all(map(np.array_equal, shown.frames, [decoded[index] for index in shown.indices]))
    assert shown.times == pytest.approx([index / 25 for index in shown.indices], abs=0.02)
    assert shown.duration == pytest.approx(1.6, abs=0.02)


@pytest.mark.parametrize("bf", [0, 3])
@pytest.mark.parametrize(
    ("declared", "times"),
    [
        (25, [12 * index for index in range(12)]),  # a time-lapse
        (25, [0, 2, 2.5, 2.54, 2.58, 2.6, 10.6, 12.6, 20.6, 20.64, 28.6, 28.64]),
        (5, [index / 25 for index in range(30)]),  # a camera is faster than it declares
    ],
)
def test_frames_that_are_rare_or_come_early_are_no_jump(declared, times, bf, tmp_path):
    path = tmp_path / "clip.ts"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=declared)
        stream.width = stream.height = 64
        stream.options = {"bf": str(bf)}
        packets = [
            packet
            for frame in [*map(av.VideoFrame.from_ndarray, pictures(len(times))), None]
            for packet in stream.encode(frame and frame.reformat(format="yuv420p"))
        ]
        shown = sorted(packet.pts for packet in packets)
        seconds = dict(zip(shown, times, strict=True))
        late = [-1, -0.5, 0, *times]  # decoded so much earlier
        for index, packet in enumerate(packets):
            packet.time_base, packet.duration = Fraction(1, 90000), 0
            packet.pts = round(seconds[packet.pts] * 90000)
            packet.dts = round((late[index] if bf else times[index]) * 90000)
            container.mux(packet)
    opened = open_reader(str(path))
    assert opened.times == pytest.approx(times, abs=2e-3)
    assert opened.duration == pytest.approx(times[-1] + 1 / declared, abs=2e-3)


@pytest.mark.parametrize("clip", CLIPS)
def test_constant_rates_are_known_as_such(clip, tmp_path):
    name, options = CLIPS[clip]
    reader = open_reader(str(write_clip(tmp_path / name, pictures(30), **options)))
    if reader.times:
        assert is_constant(reader.times, reader.fps)
        assert reader.duration == pytest.approx(30 / reader.fps, rel=0.1)
        assert len(reader.times) == reader.frame_count


def test_messages_keep_the_formula_without_a_bound(variable):
    shown = read_clip(PathSource(variable), POLICY, 8)
    assert list(shown.indices) == frame_indices(24, 1.0, 8)
    assert shown.times == pytest.approx([TIMES[index] for index in shown.indices], abs=2e-3)


@pytest.mark.parametrize("as_bytes", [True, False])
def test_a_bound_of_a_message_means_true_seconds(variable, as_bytes):
    source = BytesSource(variable.read_bytes(), "x") if as_bytes else PathSource(variable)
    shown = read_clip(source, POLICY, 4, (6, 12))
    assert all(5.5 <= time <= 12.5 for time in shown.times)
    assert shown.indices == (16, 18, 19, 20)
    early = read_clip(source, POLICY, 4, (0, 1))
    assert max(early.indices) <= 10
    with pytest.raises(RequestError, match=r"starts at 40.* after the last frame .*13\.10 s"):
        read_clip(source, POLICY, 4, (40, 50))
    assert video_block(variable, bound=(6, 12))["bound"] == (6.0, 12.0)


def test_frames_by_time(variable):
    shown = read_clip(PathSource(variable), POLICY, 6, (6, 12), by_time=True)
    assert shown.times == pytest.approx([6.1, 7.1, 8.1, 9.1, 10.1, 11.1], abs=2e-3)
    whole = read_clip(PathSource(variable), POLICY, 5, by_time=True)
    middles = [whole.duration * (number + 0.5) / 5 for number in range(5)]
    assert all(abs(time - at) <= 0.55 for time, at in zip(whole.times, middles, strict=True))
    between = read_clip(PathSource(variable), POLICY, 2, (6.2, 6.3), by_time=True)
    assert between.times == pytest.approx([6.1, 6.1], abs=2e-3)
    with pytest.raises(RequestError, match="after the end of the video"):
        read_clip(PathSource(variable), POLICY, 2, (60, 61), by_time=True)


def test_a_constant_rate_is_shown_by_the_formula_either_way(tmp_path):
    path = write_clip(tmp_path / "a.mp4", pictures(50))
    by_formula = read_clip(PathSource(path), POLICY, 7, (0.3, 1.7))
    by_time = read_clip(PathSource(path), POLICY, 7, (0.3, 1.7), by_time=True)
    assert by_formula.indices == by_time.indices == tuple(frame_indices(50, 25.0, 7, (0.3, 1.7)))
    assert by_formula.times == pytest.approx([index / 25 for index in by_formula.indices])
    assert by_formula.duration == pytest.approx(2.0)


def test_the_tool_tells_true_times(variable):
    llm = ChatInternVL(model=str(checkpoint_folder("internlm2")), backend=FixedBackend())
    policy = MediaPolicy(roots=[variable.parent])
    tool = VideoQATool(llm=llm, media_policy=policy)
    args = {"video": variable.name, "start": 6, "end": 12, "num_frames": 6}
    message = tool.invoke({"type": "tool_call", "id": "1", "name": tool.name, "args": args})
    assert message.artifact.timestamps == [6.1, 7.1, 8.1, 9.1, 10.1, 11.1]
    assert message.artifact.duration == pytest.approx(13.1, abs=1.05)
    assert "(Frames at 6.1, 7.1, 8.1, 9.1, 10.1, 11.1 s.)" in message.content


@given(
    steps=st.lists(st.floats(0.001, 30), min_size=1, max_size=60),
    wanted=st.integers(1, 40),
    bound=st.none() | st.tuples(st.floats(0, 300), st.floats(0, 300) | st.just(float("inf"))),
)
def test_frames_exist_are_in_order_and_within_the_bound(steps, wanted, bound):
    times = [float(time) for time in np.cumsum([0.0, *steps])]
    duration = times[-1] + 0.04
    for choose in (
        lambda: frame_indices_by_time(times, duration, wanted, bound),
        lambda: frame_indices(len(times), len(times) / duration, wanted, bound, times),
    ):
        try:
            indices = choose()
        except RequestError:
            start, end = bound
            assert start > end or start >= times[-1]
            continue
        assert len(indices) == wanted
        assert all(one <= other for one, other in pairwise(indices))
        assert 0 <= indices[0] <= indices[-1] < len(times)
    if bound and bound[0] <= bound[1] and any(bound[0] <= time <= bound[1] for time in times):
        chosen = frame_indices_by_time(times, duration, wanted, bound)
        assert all(bound[0] - 1e-5 <= times[index] <= bound[1] + 1e-5 for index in chosen)
