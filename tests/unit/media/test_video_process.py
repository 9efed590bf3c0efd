"""Videos are decoded elsewhere; whatever happens there is a typed error here."""

import base64
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from engine_support import wait_until
from golden import DATA, VIDEO
from patience import PATIENCE
from support import http_server
from videos import pictures, write_clip

from langchain_internvl import MediaPolicy
from langchain_internvl.errors import (
    MediaError,
    MediaFetchError,
    MediaTooLargeError,
    RequestError,
    RequestTimeoutError,
)
from langchain_internvl.media import process, video_process
from langchain_internvl.media.deadline import Deadline
from langchain_internvl.media.reader import MediaReader
from langchain_internvl.media.sources import Base64Source, BytesSource, PathSource, UrlSource
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
        (MediaPolicy(max_total_pixels=4 * 96 * 64 - 1), "max_total_pixels"),
        (MediaPolicy(max_video_bytes=size - 1), "max_bytes"),
    ):
        for source in (PathSource(path), BytesSource(path.read_bytes(), "clip")):
            with pytest.raises(MediaError, match=words):
                read_clip(source, policy, 4)
            with pytest.raises(MediaTooLargeError):
                read_clip(source, policy, 4)
    exact = MediaPolicy(
        max_frames=4, max_pixels=96 * 64, max_total_pixels=4 * 96 * 64, max_video_bytes=size,
        max_bytes=1,
    )  # fmt: skip
    assert len(read_clip(BytesSource(path.read_bytes(), "clip"), exact, 4).frames) == 4
    with pytest.raises(MediaTooLargeError):
        read_clip(PathSource(path), MediaPolicy(max_frames=3), 4)


def worker_that(monkeypatch, tmp_path, program):
    """Let a program of ours be the process that decodes."""
    script = tmp_path / "python"
    script.write_text(f"#!{sys.executable}\nimport os, sys, time\n{program}", "utf-8")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(process.sys, "executable", str(script))


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("os.abort()", r"crashed on it \(exit -6\)"),
        ("sys.exit(3)", r"crashed on it \(exit 3\)"),
        ("os.write(1, b'H' + (10**9).to_bytes(4, 'little'))", "no valid result; .* re-encode it"),
        ("os.write(1, b'F' + bytes(4))", "no valid result; .* re-encode it"),
        ("os.write(1, b'X' * 10000)", "no valid result; .* re-encode it"),
        ("os.write(1, b'E' + (5).to_bytes(4, 'little') + b'\\xff\\xfe\\n\\nx')", "damaged"),
        ("os.write(1, b'E' + bytes(4))", "damaged"),
        (
            "os.write(1, b'H' + (2).to_bytes(4, 'little') + b'{}')",
            "no valid result; .* re-encode it",
        ),
        (
            "os.write(1, b'H' + (2).to_bytes(4, 'little') + b'{x')",
            "no valid result; .* re-encode it",
        ),
    ],
)
def test_whatever_the_process_does_is_a_typed_error(program, words, clip, monkeypatch, tmp_path):
    worker_that(monkeypatch, tmp_path, program)
    with pytest.raises(MediaError, match=words):
        read_clip(PathSource(clip[0]), POLICY)


@pytest.fixture
def started(monkeypatch):
    """The processes that were started, whether or not they have come to run anything."""
    found, popen = [], subprocess.Popen

    def start(*arguments, **options):
        found.append(popen(*arguments, **options))
        return found[-1]

    monkeypatch.setattr(process.subprocess, "Popen", start)
    return found


def was_killed(one):
    return one.wait(PATIENCE) == -signal.SIGKILL


def test_a_process_that_hangs_is_killed(clip, monkeypatch, tmp_path, started):
    worker_that(monkeypatch, tmp_path, f"time.sleep({PATIENCE})")
    with pytest.raises(MediaError, match=r"MediaPolicy\.timeout=1\.0 s"):
        read_clip(PathSource(clip[0]), MediaPolicy(timeout=1.0))
    (only,) = started
    assert was_killed(only)


def test_a_process_that_wants_too_much_memory_fails_alone(clip, monkeypatch, tmp_path):
    worker_that(
        monkeypatch, tmp_path,
        "from langchain_internvl.media.worker import main\n"
        "sys.argv[1:] = sys.argv[3:]\n"
        "main(lambda task, records: bytearray(task['max_memory']))",
    )  # fmt: skip
    with pytest.raises(MediaTooLargeError, match="needs more than 4096 MiB of memory; reduce"):
        read_clip(PathSource(clip[0]), POLICY)


def test_libraries_find_nothing_on_standard_input(clip, monkeypatch, tmp_path):
    """It is open as long as the decoder is wanted, so that a read of it would wait."""
    worker_that(
        monkeypatch, tmp_path,
        "from langchain_internvl.errors import MediaError\n"
        "from langchain_internvl.media.worker import main\n"
        "def decode(task, records):\n"
        "    is_empty = os.path.samestat(os.fstat(0), os.stat(os.devnull))\n"
        "    raise MediaError('', f'empty: {is_empty}')\n"
        "main(decode)",
    )  # fmt: skip
    with pytest.raises(MediaError, match="empty: True"):
        read_clip(PathSource(clip[0]), POLICY)


def test_what_the_process_lacks_is_no_fault_of_the_video(clip, monkeypatch, tmp_path):
    worker_that(monkeypatch, tmp_path, "os.write(1, b'I' + (5).to_bytes(4, 'little') + b'no av')")
    with pytest.raises(ImportError, match=r"a module that .*python does not find: no av"):
        read_clip(PathSource(clip[0]), POLICY)
    for executable in ("/not/there", "", None):
        monkeypatch.setattr(process.sys, "executable", executable)
        with pytest.raises(MediaError, match="no process can be started"):
            read_clip(PathSource(clip[0]), POLICY)


def test_the_process_runs_nothing_of_the_folder_and_knows_no_secrets(clip, monkeypatch, tmp_path):
    for name in ("av.py", "types.py", "numpy.py"):
        (tmp_path / name).write_text("raise SystemExit(7)", "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECRET_TOKEN", "x")
    assert len(read_clip(PathSource(clip[0]), POLICY, 4).frames) == 4
    worker_that(monkeypatch, tmp_path, "sys.exit(3 if 'SECRET_TOKEN' in os.environ else 4)")
    with pytest.raises(MediaError, match="exit 4"):
        read_clip(PathSource(clip[0]), POLICY)


def test_names_that_are_no_utf8(clip, tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9 \n.avi")
    shutil.copy(clip[0], path)
    assert len(read_clip(PathSource(path), POLICY, 4).frames) == 4


@pytest.mark.parametrize("head", ["#EXTM3U\n", "\n\nffconcat version 1.0\n", "\ufeff#EXTM3U\n"])
@pytest.mark.parametrize("suffix", ["m3u8", "mp4"])
def test_playlists_show_no_other_files(head, suffix, clip, tmp_path):
    lists = f"{head}#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{clip[0]}\nfile '{clip[0]}'\n\0"
    path = tmp_path / f"list.{suffix}"
    path.write_text(lists, "utf-8")
    for source in (PathSource(path), BytesSource(lists.encode(), "list")):
        with pytest.raises(MediaError, match="a text or a playlist"):
            read_clip(source, POLICY)


def test_a_call_that_is_over_ends_the_process(clip, monkeypatch, tmp_path, started):
    worker_that(monkeypatch, tmp_path, f"time.sleep({PATIENCE})")
    with pytest.raises(RequestTimeoutError, match=r"timeout=0\.7 s"):
        read_clip(PathSource(clip[0]), POLICY, deadline=Deadline(0.7))
    assert was_killed(started.pop())
    deadline = Deadline()
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read_clip, PathSource(clip[0]), POLICY, deadline=deadline)
        assert wait_until(lambda: started)
        deadline.cancel()
        with pytest.raises(RequestTimeoutError, match="cancelled"):
            reading.result(PATIENCE)
    assert was_killed(started.pop())
    for over in (deadline, Deadline(0)):
        with pytest.raises(RequestTimeoutError):
            read_clip(PathSource(clip[0]), POLICY, deadline=over)


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


@pytest.mark.slow
def test_damaged_videos_give_frames_or_a_typed_error(clip, tmp_path):
    """More of them, and other kinds: benchmarks/damaged_videos.py."""
    chance = random.Random(0)
    h264 = write_clip(tmp_path / "clip.mp4", pictures(30), g=12, bf=2).read_bytes()
    outcomes = {"frames": 0, "error": 0}
    for number in range(24):
        source = BytesSource(damaged(h264, chance), f"damaged {number}")
        try:
            shown = read_clip(source, MediaPolicy(timeout=PATIENCE), 4)
        except MediaError as error:
            outcomes["error"] += error.source == source.name
        else:
            assert [frame.shape for frame in shown.frames] == [(64, 96, 3)] * 4
            outcomes["frames"] += 1
    assert sum(outcomes.values()) == 24
    assert min(outcomes.values()) > 2, outcomes


# The cache.


class Cache(MediaReader):
    def read(self, source, policy, num_frames, bound):
        return self.clip(source, policy, num_frames, bound, Deadline())


def test_a_clip_is_decoded_once_for_each_way_it_is_shown(clip, monkeypatch):
    path, _ = clip
    read = []

    def count(source, policy, num_frames, bound, deadline):
        read.append((source, num_frames, bound))
        return read_clip(source, policy, num_frames, bound, deadline)

    monkeypatch.setattr("langchain_internvl.media.reader.read_clip", count)
    cache = Cache()
    for source in (PathSource(path), BytesSource(path.read_bytes(), "a")):
        for _ in range(2):
            assert cache.read(source, POLICY, 2, None).indices == (4, 14)
        cache.read(source, POLICY, 3, None)
        cache.read(source, POLICY, 2, (0.0, 1.0))
        cache.read(source, MediaPolicy(timeout=29), 2, None)
    assert len(read) == 8


def test_who_asks_at_once_for_the_same_waits_for_one(clip, monkeypatch):
    read, asked = [], []

    def slow(*arguments):
        read.append(arguments)
        assert wait_until(lambda: len(asked) == 6)  # all of them are there
        return read_clip(*arguments)

    def ask(number):
        asked.append(number)
        return cache.read(PathSource(clip[0]), POLICY, 2, None)

    monkeypatch.setattr("langchain_internvl.media.reader.read_clip", slow)
    cache = Cache()
    with ThreadPoolExecutor(6) as pool:
        clips = list(pool.map(ask, range(6)))
    assert len(read) == 1
    assert all(one is clips[0] for one in clips)


def test_a_file_that_changed_is_another_video(tmp_path):
    path = tmp_path / "clip.mp4"
    cache = Cache()
    counts = []
    for count in (10, 20):
        write_clip(path, pictures(count))
        counts.append(cache.read(PathSource(path), POLICY, 2, None).frame_count)
    assert counts == [10, 20]


def test_the_cache_has_a_limit(clip):
    path, frames = clip
    cache = Cache(max_bytes=frames[0].nbytes * 5)
    for wanted in (2, 3, 1):
        cache.read(PathSource(path), POLICY, wanted, None)
    assert sum(len(one.frames) for one in cache._kept.values()) == 4
    Cache(max_bytes=1).read(PathSource(path), POLICY, 2, None)
