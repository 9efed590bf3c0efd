"""Damaged chunks within a video: FFmpeg goes on behind them without a word."""

import struct
import warnings

import av
import pytest
from videos import pictures, write_clip

from langchain_internvl import MediaPolicy
from langchain_internvl.media.chunk_damage import chunk_damage
from langchain_internvl.media.sources import BytesSource
from langchain_internvl.media.video_process import read_clip

COUNT = 60


@pytest.fixture(scope="module", params=["mpeg4", "ffv1"])
def avi(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("avi") / "clip.avi"
    return write_clip(path, pictures(COUNT), codec=request.param)


@pytest.fixture(scope="module")
def flv(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("flv") / "clip.flv", pictures(COUNT), codec="flv")


def places(path):
    """Where the chunk of each packet of an AVI file begins."""
    with av.open(str(path)) as container:
        return [one.pos - 8 for one in container.demux(video=0) if one.size]


def test_whole_files_are_not_flagged(avi, flv):
    for path in (avi, flv):
        assert chunk_damage(path) is None
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert (
                read_clip(BytesSource(path.read_bytes(), path.name), MediaPolicy(), 4).damage
                is None
            )


@pytest.mark.parametrize("lost", [[20], [20, 21, 22, 40]])
def test_chunks_of_avi_whose_heads_are_damaged_are_counted(avi, lost, tmp_path):
    data, path = bytearray(avi.read_bytes()), tmp_path / "clip.avi"
    begins = places(avi)
    for number in lost:
        data[begins[number] : begins[number] + 4] = b"\xff\x00\xff\x00"
    path.write_bytes(data)
    said = f"{len(lost)} of the {COUNT} chunks that its index names are damaged"
    assert chunk_damage(path) == said
    with pytest.warns(UserWarning, match=said):
        clip = read_clip(BytesSource(bytes(data), "clip.avi"), MediaPolicy(), 4)
    assert said in clip.damage


def test_offsets_from_the_beginning_of_the_file_are_understood(avi, tmp_path):
    """Some programs write them so."""
    data, path = bytearray(avi.read_bytes()), tmp_path / "clip.avi"
    movi, index = data.index(b"movi"), data.rindex(b"idx1")
    (size,) = struct.unpack_from("<I", data, index + 4)
    for entry in range(index + 8, index + 8 + size, 16):
        (offset,) = struct.unpack_from("<I", data, entry + 8)
        struct.pack_into("<I", data, entry + 8, offset + movi)
    path.write_bytes(data)
    assert chunk_damage(path) is None


def test_an_index_of_another_file_says_nothing(avi, tmp_path):
    data, path = bytearray(avi.read_bytes()), tmp_path / "clip.avi"
    index = data.rindex(b"idx1")
    for entry in range(index + 8, len(data) - 15, 16):
        struct.pack_into("<I", data, entry + 8, 7)
    path.write_bytes(data)
    assert chunk_damage(path) is None


def test_a_damaged_tag_of_flv_is_said(flv, tmp_path):
    data, offset = bytearray(flv.read_bytes()), 13
    for _ in range(COUNT // 2):
        offset += 15 + int.from_bytes(data[offset + 1 : offset + 4], "big")
    data[offset : offset + 11] = b"\xff" * 11
    path = tmp_path / "clip.flv"
    path.write_bytes(data)
    said = f"what begins at byte {offset} is damaged"
    assert chunk_damage(path) == said
    with pytest.warns(UserWarning, match="frames may be missing"):
        read_clip(BytesSource(bytes(data), "clip.flv"), MediaPolicy(), 4)


@pytest.mark.parametrize("tail", [b"", bytes(40), b"\xff" * 12])
def test_what_recorders_leave_at_the_end_of_flv_is_no_damage(flv, tail, tmp_path):
    path = tmp_path / "clip.flv"
    path.write_bytes(flv.read_bytes() + tail)
    assert chunk_damage(path) is None
    path.write_bytes(flv.read_bytes()[:13])
    assert chunk_damage(path) is None


def test_hostile_lists_end(tmp_path):
    path = tmp_path / "clip.avi"
    for rest in (b"LIST\x00\x00\x00\x00movi" * 9, b"idx1\xff\xff\xff\xff" + bytes(99), b"LIST"):
        path.write_bytes(b"RIFF\xff\xff\xff\xffAVI " + rest)
        assert chunk_damage(path) is None
