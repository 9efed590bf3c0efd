"""Videos are decoded elsewhere; whatever happens there is a typed error here."""

import base64
import random
import stat
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from golden import DATA, VIDEO
from support import http_server
from videos import pictures, write_clip

from langchain_internvl import MediaPolicy
from langchain_internvl.errors import (
    MediaError,
    MediaFetchError,
    MediaTooLargeError,
    RequestError,
)
from langchain_internvl.media import video_process
from langchain_internvl.media.sources import Base64Source, BytesSource, PathSource, UrlSource
from langchain_internvl.media.video_cache import VideoCache
from langchain_internvl.media.video_process import read_clip

POLICY = MediaPolicy()


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A lossless clip of 20 frames, and the frames."""
    frames = pictures(20)
    path = tmp_path_factory.mktemp("clip") / "clip.avi"
    return write_clip(path, frames, codec="ffv1", pix_fmt="bgr0", fps=10), frames


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    """Where temporary files go; nothing may be left there."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    yield folder
    assert not list(folder.iterdir())


def test_frames_of_a_file_of_bytes_and_of_base64(clip):
    path, frames = clip
    data = path.read_bytes()
    for source in (
        PathSource(path),
        BytesSource(data, "clip"),
        Base64Source(base64.b64encode(data).decode(), "clip"),
    ):
        shown = read_clip(source, POLICY, 4)
        assert (shown.fps, shown.frame_count, shown.indices) == (10.0, 20, (2, 7, 12, 16))
        for index, frame in zip(shown.indices, shown.frames, strict=True):
            assert np.array_equal(frame, frames[index])


def test_a_part_of_a_video(clip):
    path, frames = clip
    assert read_clip(PathSource(path), POLICY, 2, (0.5, 0.9)).indices == (6, 8)
    repeated = read_clip(PathSource(path), POLICY, 4, (0.5, 0.6))
    assert repeated.indices == (5, 5, 5, 6)
    assert all(
        np.array_equal(frame, frames[index])
        for index, frame in zip(repeated.indices, repeated.frames, strict=True)
    )
    with pytest.raises(RequestError, match=r"clip\.avi: the bound starts at 5"):
        read_clip(PathSource(path), POLICY, 4, (5, 6))


def test_a_video_from_the_web(clip):
    path, _ = clip

    def answer(request):
        request.send_response(200)
        request.end_headers()
        request.wfile.write(path.read_bytes())

    with http_server(answer) as address:
        source = UrlSource(f"{address}/clip.avi")
        near = MediaPolicy(allow_private_hosts=True)
        assert read_clip(source, near, 4).indices == (2, 7, 12, 16)
        with pytest.raises(MediaFetchError):
            read_clip(source, POLICY)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"no video at all", "no video that can be read"),
        ((DATA / "not_expressible.json").read_bytes(), "no video that can be read"),
        (VIDEO.read_bytes()[:4000], "no video that can be read"),
    ],
)
def test_what_is_no_video(data, words):
    with pytest.raises(MediaError, match=f"thing: .*{words}"):
        read_clip(BytesSource(data, "thing"), POLICY)


def test_files_that_are_not_there(tmp_path):
    for path in (tmp_path / "none.mp4", tmp_path):
        with pytest.raises(MediaError, match=r"no such file|not a regular file"):
            read_clip(PathSource(path), POLICY)


def test_limits(clip):
    path, _ = clip
    size = path.stat().st_size
    for policy, words in (
        (MediaPolicy(max_frames=3), "max_frames=3"),
        (MediaPolicy(max_pixels=96 * 64 - 1), "max_pixels"),
        (MediaPolicy(max_video_bytes=size - 1), "max_bytes"),
    ):
        for source in (PathSource(path), BytesSource(path.read_bytes(), "clip")):
            with pytest.raises(MediaError, match=words):
                read_clip(source, policy, 4)
    exact = MediaPolicy(max_frames=4, max_pixels=96 * 64, max_video_bytes=size, max_bytes=1)
    assert len(read_clip(BytesSource(path.read_bytes(), "clip"), exact, 4).frames) == 4
    with pytest.raises(MediaTooLargeError):
        read_clip(PathSource(path), MediaPolicy(max_frames=3), 4)


def worker_that(monkeypatch, tmp_path, program):
    """Let a program of ours be the process that decodes."""
    script = tmp_path / "python"
    script.write_text(f"#!{sys.executable}\nimport os, sys, time\n{program}", "utf-8")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(video_process.sys, "executable", str(script))


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("os.abort()", r"crashed on it \(exit -6\)"),
        ("sys.exit(3)", r"crashed on it \(exit 3\)"),
        ("os.write(1, b'H' + (10**9).to_bytes(4, 'little'))", "went astray"),
        ("os.write(1, b'F' + bytes(4))", "went astray"),
        ("os.write(1, b'X' * 10000)", "went astray"),
        ("os.write(1, b'E' + (5).to_bytes(4, 'little') + b'\\xff\\xfe\\n\\nx')", "damaged"),
        ("os.write(1, b'E' + bytes(4))", "damaged"),
        ("os.write(1, b'H' + (2).to_bytes(4, 'little') + b'{}')", "went astray"),
        ("os.write(1, b'H' + (2).to_bytes(4, 'little') + b'{x')", "went astray"),
    ],
)
def test_whatever_the_process_does_is_a_typed_error(program, words, clip, monkeypatch, tmp_path):
    worker_that(monkeypatch, tmp_path, program)
    with pytest.raises(MediaError, match=words):
        read_clip(PathSource(clip[0]), POLICY)


def test_a_process_that_hangs_is_killed(clip, monkeypatch, tmp_path):
    pid = tmp_path / "pid"
    program = f"open({str(pid)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)"
    worker_that(monkeypatch, tmp_path, program)
    with pytest.raises(MediaError, match=r"MediaPolicy\.timeout=1\.0 s"):
        read_clip(PathSource(clip[0]), MediaPolicy(timeout=1.0))
    assert not _is_running(int(pid.read_text("utf-8")))


def _is_running(pid):
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text("utf-8").rsplit(")", 1)[1].split()[0]
            if state == "Z":
                return False
        except OSError:
            return False
        time.sleep(0.01)
    return True


def test_a_process_that_wants_too_much_memory_fails_alone(clip, monkeypatch):
    monkeypatch.setattr(video_process, "_MAX_MEMORY", 1 << 20)
    with pytest.raises(MediaError):
        read_clip(PathSource(clip[0]), POLICY)


def test_the_extra_is_named_if_it_is_missing(clip, monkeypatch):
    monkeypatch.setattr(video_process, "can_read", lambda: False)
    with pytest.raises(ImportError, match=r"langchain-internvl\[video\]"):
        read_clip(PathSource(clip[0]), POLICY)


def damaged(data, chance):
    """A copy that was cut, or in which bytes were changed."""
    data = bytearray(data)
    if chance.random() < 0.4:
        del data[chance.randrange(len(data)) :]
    for _ in range(chance.choice((1, 10, 200))):
        if data:
            data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data)


def test_damaged_videos_give_frames_or_a_typed_error(clip, tmp_path):
    """More of them, and other kinds: benchmarks/damaged_videos.py."""
    chance = random.Random(0)
    h264 = write_clip(tmp_path / "clip.mp4", pictures(30), g=12, bf=2).read_bytes()
    outcomes = {"frames": 0, "error": 0}
    for number in range(24):
        source = BytesSource(damaged(h264, chance), f"damaged {number}")
        try:
            shown = read_clip(source, MediaPolicy(timeout=20), 4)
        except MediaError as error:
            outcomes["error"] += error.source == source.name
        else:
            assert [frame.shape for frame in shown.frames] == [(64, 96, 3)] * 4
            outcomes["frames"] += 1
    assert sum(outcomes.values()) == 24
    assert min(outcomes.values()) > 2, outcomes


# The cache.


def test_a_clip_is_decoded_once_for_each_way_it_is_shown(clip, monkeypatch):
    path, _ = clip
    read = []

    def count(source, policy, num_frames, bound):
        read.append((source, num_frames, bound))
        return read_clip(source, policy, num_frames, bound)

    monkeypatch.setattr("langchain_internvl.media.video_cache.read_clip", count)
    cache = VideoCache()
    for source in (PathSource(path), BytesSource(path.read_bytes(), "a")):
        for _ in range(2):
            assert cache.read(source, POLICY, 2, None).indices == (4, 14)
        cache.read(source, POLICY, 3, None)
        cache.read(source, POLICY, 2, (0.0, 1.0))
        cache.read(source, MediaPolicy(timeout=29), 2, None)
    assert len(read) == 8


def test_a_file_that_changed_is_another_video(tmp_path):
    path = tmp_path / "clip.mp4"
    cache = VideoCache()
    counts = []
    for count in (10, 20):
        write_clip(path, pictures(count))
        counts.append(cache.read(PathSource(path), POLICY, 2, None).frame_count)
    assert counts == [10, 20]


def test_the_cache_has_a_limit(clip):
    path, frames = clip
    cache = VideoCache(max_bytes=frames[0].nbytes * 5)
    for wanted in (2, 3, 1):
        cache.read(PathSource(path), POLICY, wanted, None)
    assert sum(len(one.frames) for one in cache._clips.values()) == 4
    VideoCache(max_bytes=1).read(PathSource(path), POLICY, 2, None)
