"""Packets that cannot be decoded cost their own frames only."""

import re

import av
import numpy as np
import pytest
from test_video_damage import COPIED, COUNT, WRITTEN, copy_clip
from videos import pictures, write_clip

from langchain_internvl import MediaPolicy
from langchain_internvl.errors import MediaError
from langchain_internvl.media.sources import BytesSource
from langchain_internvl.media.video_process import read_clip
from langchain_internvl.media.video_readers import PyAVReader


def with_broken_packets(path, broken, *, kept=12):
    """A copy in which the given packets (numbers in decoding order) have zeros after some bytes."""
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [one for one in container.demux(video=0) if one.size]
    for number in broken:
        start, size = packets[number].pos, packets[number].size
        data[start + kept : start + size] = bytes(size - kept)
    path.write_bytes(data)
    return path


CUT = {
    "index in front": COPIED["index in front"],
    "fragments": COPIED["fragments"],
    "matroska": COPIED["matroska"],
    **{name: WRITTEN[name] for name in ("nut", "mpeg4 with B-frames", "vp9")},
    "without a container": WRITTEN["without a container"],
}  # fmt: skip


@pytest.mark.parametrize("name", CUT)
def test_every_cut_gives_the_frames_that_are_there(name, tmp_path):
    """A decoder refuses the rest of a packet before it gives the frames that it holds back."""
    first, options = CUT[name]
    if name in COPIED:
        path = copy_clip(tmp_path / f"clip{first}", options)
    else:
        path = write_clip(tmp_path / first, pictures(COUNT), **options)
    whole = list(PyAVReader(str(path)).read(range(COUNT)))
    data, cut = path.read_bytes(), tmp_path / f"cut{path.suffix}"
    shown = 0
    for length in range(len(data) // 4, len(data), len(data) // 25):
        cut.write_bytes(data[:length])
        reader = PyAVReader(str(cut))
        if reader.frame_count < 6:
            continue
        frames = list(reader.read(range(reader.frame_count)))
        assert reader.lost <= 1
        assert len(frames) == len(reader.decoded) == reader.frame_count
        assert reader.decoded == sorted(reader.decoded)
        # What the cut does not touch is as in the whole file.
        intact = [index for index in reader.decoded if index < reader.frame_count - 5]
        assert len(set(intact)) == reader.frame_count - 5
        assert all(np.array_equal(frames[index], whole[index]) for index in intact)
        shown += 1
    assert shown > 12


def test_fragments_before_one_whose_head_is_cut_off(tmp_path):
    """FFmpeg alone fills up the table of the frames with what is in memory."""
    path = copy_clip(tmp_path / "clip.mp4", COPIED["fragments"][1])
    whole = list(PyAVReader(str(path)).read(range(COUNT)))
    data = path.read_bytes()
    heads = [found.start() - 4 for found in re.finditer(b"moof", data)]
    for count, head in ((12, heads[1]), (60, heads[5])):
        for length in range(8, 208, 24):
            path.write_bytes(data[: head + length])
            reader = PyAVReader(str(path))
            wanted = [3, count // 2, count - 1]
            shown = list(reader.read(wanted))
            assert (reader.frame_count, reader.lost, reader.decoded) == (count, 0, wanted)
            assert all(map(np.array_equal, shown, [whole[index] for index in wanted]))
    with pytest.warns(UserWarning, match="the file is cut off; frames may be missing, get the who"):
        clip = read_clip(BytesSource(data[: heads[3] + 120], "a"), MediaPolicy(), 3)
    assert (clip.frame_count, clip.damage) == (36, "the file is cut off")


def test_a_cut_packet_among_the_selected_frames_is_counted(tmp_path):
    """Three frames of a short rest: the decoder holds some back when it meets the cut."""
    path = copy_clip(tmp_path / "clip.mp4", {"movflags": "faststart"})
    with av.open(str(path)) as container:
        packets = [one for one in container.demux(video=0) if one.size]
    end = packets[5].pos + packets[5].size // 2
    source = BytesSource(path.read_bytes()[:end], "talk.mp4")
    with pytest.warns(UserWarning, match=r"are missing .*; 1 of its packets cannot be decoded"):
        clip = read_clip(source, MediaPolicy(), 6)
    assert len(clip.frames) == len(clip.times) == 6
    assert list(clip.indices) == sorted(clip.indices)


def test_broken_packets_within_a_file_cost_their_frames_only(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", pictures(40), g=10, bf=0)
    whole = list(PyAVReader(str(path)).read(range(40)))
    with_broken_packets(path, (10, 25, 38, 39), kept=0)
    reader = PyAVReader(str(path))
    shown = dict(zip(range(40), reader.read(range(40)), strict=True))
    assert reader.lost == 4
    assert (reader.decoded[24:27], reader.decoded[36:]) == ([24, 26, 26], [36, 37, 37, 37])
    for index in (*range(10), *range(20, 25), *range(30, 38)):
        assert np.array_equal(shown[index], whole[index]), index
    with pytest.warns(UserWarning, match=r"4 of its packets cannot be decoded; frames may be"):
        clip = read_clip(BytesSource(path.read_bytes(), "a.mp4"), MediaPolicy(), 40)
    assert set(clip.indices) <= set(reader.decoded)
    assert clip.times[-1] == clip.times[-2] == pytest.approx(37 / 25)


def test_a_last_group_without_frames_gives_the_frame_before_it(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", pictures(40), g=10, bf=0)
    whole = list(PyAVReader(str(path)).read([29]))
    with_broken_packets(path, range(30, 40), kept=0)
    for wanted in ([35], [3, 35, 39]):
        reader = PyAVReader(str(path))
        frames = list(reader.read(wanted))
        assert reader.decoded == [3, 29, 29][-len(wanted) :]
        assert np.array_equal(frames[-1], whole[0])


def test_no_frame_that_can_be_decoded_is_an_error(tmp_path):
    for name, options in (("a.mp4", {}), ("a.avi", {"codec": "mpeg4"})):
        path = write_clip(tmp_path / name, pictures(10), g=5, **options)
        with_broken_packets(path, range(10), kept=0)
        with pytest.raises(MediaError, match="none of its frames can be decoded"):
            read_clip(BytesSource(path.read_bytes(), name), MediaPolicy(), 2)


def test_frames_that_are_missing_without_a_packet_are_said(tmp_path):
    """A hole in a transport stream: there are packets for more frames than can be decoded."""
    flat = [np.full((64, 96, 3), index * 3 % 250, np.uint8) for index in range(120)]
    path = write_clip(tmp_path / "a.ts", flat, g=12, bf=0)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + len(data) // 20] = bytes(len(data) // 20)
    path.write_bytes(data)
    reader = PyAVReader(str(path))
    list(reader.read(range(reader.frame_count)))
    replaced = sum(a != b for a, b in enumerate(reader.decoded))
    assert (reader.lost, replaced > 0) == (0, True)
    with pytest.warns(UserWarning, match=r"\d of the frames cannot be decoded, and others"):
        clip = read_clip(BytesSource(bytes(data), "a.ts"), MediaPolicy(), reader.frame_count)
    assert set(clip.indices) <= set(reader.decoded)


def test_a_container_that_cannot_be_read_to_its_end_is_said(tmp_path):
    """YUV4MPEG2 declares no duration: the video is shorter, and nothing else tells it."""
    path = write_clip(tmp_path / "a.y4m", pictures(20), codec="rawvideo")
    data = path.read_bytes()
    places = [found.start() for found in re.finditer(b"FRAME\n", data)]
    assert len(places) == 20
    broken = data[: places[12]] + b"BROKE\n" + data[places[12] + 6 :]
    with pytest.warns(UserWarning, match="cannot be read, and the rest is missing; frames may be"):
        clip = read_clip(BytesSource(broken, "a.y4m"), MediaPolicy(), 4)
    assert clip.frame_count == 12
