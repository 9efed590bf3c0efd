"""Files that are admitted as videos, and playlists that look like one."""

import io

import pytest
from golden import VIDEO
from videos import CLIPS, pictures, write_clip

from langchain_internvl import MediaPolicy
from langchain_internvl.errors import MediaError
from langchain_internvl.media import video_readers
from langchain_internvl.media.containers import check_container
from langchain_internvl.media.sources import BytesSource, PathSource
from langchain_internvl.media.video_process import read_clip
from langchain_internvl.media.video_worker import decode

TASK = {"num_frames": 2, "bound": None, "max_pixels": 10**8}


@pytest.mark.parametrize("clip", CLIPS)
def test_videos_are_admitted(clip, tmp_path):
    name, options = CLIPS[clip]
    check_container(write_clip(tmp_path / name, pictures(12), **options))


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("clip.flv", "flv", {}),
        ("clip.ogv", "libvpx", {}),
        ("clip.mov", "mpeg4", {}),
        ("clip.3gp", "mpeg4", {}),
        ("clip.mxf", "mpeg2video", {}),
        ("clip.nut", "mpeg4", {}),
        ("clip.y4m", "wrapped_avframe", {}),
        ("clip.ivf", "libvpx", {}),
        ("clip.h264", "libx264", {}),
        ("clip.m2ts", "libx264", {}),
        ("clip.m1v", "mpeg1video", {}),
        ("clip.obu", "libsvtav1", {}),
    ],
)
def test_rarer_videos_are_read(name, codec, options, tmp_path):
    path = write_clip(tmp_path / name, pictures(12), codec=codec, **options)
    assert len(read_clip(PathSource(path), MediaPolicy(), 2).frames) == 2


def tag(size, *, footer=False):
    """An ID3v2 tag."""
    sizes = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x04\x00" + bytes([0x10 * footer]) + sizes + bytes(size) + bytes(10 * footer)


PLAYLIST = (
    "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9\n#EXT-X-MEDIA-SEQUENCE:0\n"
    "#EXTINF:9.0,\n{path}\n#EXT-X-ENDLIST\n"
)
MPD = (
    '    ftyp<?xml version="1.0"?><MPD profiles="urn:mpeg:dash:profile:isoff-on-demand:2011">'
    "<Period><AdaptationSet><Representation><BaseURL>{path}</BaseURL></Representation>"
    "</AdaptationSet></Period></MPD>"
)
DISGUISES = {
    "plain": lambda text: text,
    "behind a tag": lambda text: tag(6000) + text,
    "behind a tag of 2 MB": lambda text: tag(2_000_000) + text,
    "behind a tag with a footer": lambda text: tag(6000, footer=True) + text,
    "behind three tags": lambda text: tag(10) + tag(6000) + tag(300) + text,
    "with a NUL at its end": lambda text: text + bytes(5000),
    "behind a byte order mark": lambda text: b"\xef\xbb\xbf" + text,
}


@pytest.mark.parametrize("text", [PLAYLIST, MPD, "ffconcat version 1.0\nfile '{path}'\n"])
@pytest.mark.parametrize("disguise", DISGUISES.values(), ids=DISGUISES)
@pytest.mark.parametrize("installed", [("decord",), ("av",), ("decord", "av")], ids=str)
def test_a_playlist_shows_no_other_file(text, disguise, installed, tmp_path, monkeypatch):
    monkeypatch.setattr(video_readers, "is_installed", lambda name: name in installed)
    data = disguise(text.format(path=VIDEO.absolute()).encode())
    for name in ("clip.mp4", "clip.m3u8"):
        (tmp_path / name).write_bytes(data)
        records = io.BytesIO()
        with pytest.raises(ValueError, match=r"no video|no known video format"):
            decode({**TASK, "path": str(tmp_path / name)}, records)
        assert not records.getvalue()
    with pytest.raises(MediaError, match="is no video that can be read"):
        read_clip(BytesSource(data, "clip"), MediaPolicy())


@pytest.mark.parametrize(
    "head", [b"", b"\xff\xd8\xff\xe0 a JPEG", b"RIFF\0\0\0\0WAVEfmt ", b"MZ\0\0", tag(10) * 17]
)
def test_other_files_are_refused(head, tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(head + bytes(3000))
    with pytest.raises(ValueError, match=r"no known video format|no video"):
        check_container(path)


def test_pyav_opens_no_playlist_even_if_it_were_admitted(tmp_path):
    path = tmp_path / "list.m3u8"
    path.write_text(PLAYLIST.format(path=VIDEO.absolute()), "utf-8")
    with pytest.raises(Exception, match=r"Invalid|whitelist|denied|list\.m3u8"):
        video_readers.PyAVReader(str(path))
