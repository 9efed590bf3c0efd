"""What was read is kept: after a crash at any moment every page comes once."""

import errno
import json
import os
import random
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from drawn_pages import draw_page, encode, scripted
from langchain_core.documents import Document
from langchain_core.documents.base import Blob
from patience import PATIENCE

from langchain_internvl import ChatInternVL, InternVLLoader, nano
from langchain_internvl.documents import model_identity
from langchain_internvl.documents.jobs import Result
from langchain_internvl.documents.journal import Journal, fingerprint_of, naming
from langchain_internvl.documents.model_identity import identify
from langchain_internvl.errors import EngineBusyError, RequestError

PAGES = 12
PROGRAM = Path(__file__).parent / "reading_killed.py"


def pages(count=PAGES):
    return [draw_page(ground=(250 - 10 * n, 200, 30), size=(90, 80)) for n in range(count)]


def scan(images):
    first, *more = images
    return encode(first, "TIFF", save_all=True, append_images=more)


def load(source, folder, reply=lambda request: "text", **settings):
    llm, backend = scripted(reply)
    loader = InternVLLoader(source, llm=llm, resume_dir=folder, **settings)
    return loader.load(), len(backend.requests)


@pytest.fixture
def tiff(tmp_path):
    path = tmp_path / "a.tiff"
    path.write_bytes(scan(pages(4)))
    return path


def test_a_second_run_reads_nothing_and_gives_the_same(tiff, tmp_path):
    first, asked = load(tiff, tmp_path / "kept")
    again, none = load(tiff, tmp_path / "kept")
    assert (asked, none) == (4, 0)
    assert again == first


async def test_the_same_in_an_event_loop(tiff, tmp_path):
    llm, backend = scripted(lambda request: "text")
    for _ in range(2):
        loader = InternVLLoader(tiff, llm=llm, resume_dir=tmp_path / "kept")
        assert len([page async for page in loader.alazy_load()]) == 4
    assert len(backend.requests) == 4


def test_other_pages_of_a_file_are_read_in_addition(tiff, tmp_path):
    assert load(tiff, tmp_path / "kept", pages="2-3")[1] == 2
    found, asked = load(tiff, tmp_path / "kept", pages="4, 1-2")
    assert ([page.metadata["page"] for page in found], asked) == ([3, 0, 1], 2)


def test_a_changed_file_invalidates_its_own_pages_only(tiff, tmp_path):
    other = tmp_path / "b.png"
    other.write_bytes(encode(pages(1)[0]))
    load([tiff, other], tmp_path / "kept")
    tiff.write_bytes(scan(pages(4)[::-1]))
    assert load([tiff, other], tmp_path / "kept")[1] == 4
    moved = tiff.rename(tmp_path / "moved.tiff")  # the same bytes
    found, asked = load([moved, other], tmp_path / "kept")
    assert (asked, found[0].metadata["source"]) == (0, str(moved))


@pytest.mark.parametrize(
    "changed", [{"prompt": "Read it."}, {"output": "markdown"}, {"dpi": 50}, {"long_side": 900},
                {"rotation": "never"}, {"max_tokens": 7}, {"ocr": "always"}],
)  # fmt: skip
def test_other_settings_are_other_readings(tiff, tmp_path, changed):
    load(tiff, tmp_path / "kept")
    assert load(tiff, tmp_path / "kept", **changed)[1] >= 4
    assert load(tiff, tmp_path / "kept")[1] == 0  # the older ones are still there


def test_another_model_is_another_reading(tiff, tmp_path):
    load(tiff, tmp_path / "kept")
    llm, backend = scripted(lambda request: "text", temperature=0.5)
    InternVLLoader(tiff, llm=llm, resume_dir=tmp_path / "kept").load()
    assert len(backend.requests) == 4


def test_other_weights_of_nano_or_of_an_adapter_are_another_model(tmp_path, monkeypatch):
    for name in ("nano", "adapter"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"one")
    monkeypatch.setattr(nano, "FOLDER", tmp_path / "nano")

    def known():
        model_identity._digests.cache_clear()
        llm = ChatInternVL(model="nano", adapter=str(tmp_path / "adapter"))
        return fingerprint_of(identify(llm))

    first = known()
    assert known() == first
    (tmp_path / "nano/model.safetensors").write_bytes(b"two")
    second = known()
    (tmp_path / "adapter/model.safetensors").write_bytes(b"other")
    assert len({first, second, known()}) == 3


def test_metadata_of_a_blob_do_not_replace_those_of_the_page(tmp_path):
    blob = Blob.from_data(scan(pages(2)), path="a", metadata={"page": 9, "ocr": "x", "box": 7})
    first, _ = load(blob, tmp_path / "kept")
    again, asked = load(blob, tmp_path / "kept")
    assert (again, asked) == (first, 0)
    assert [(one.metadata["page"], one.metadata["box"]) for one in again] == [(0, 7), (1, 7)]


def test_what_failed_is_tried_again(tiff, tmp_path):
    def busy(request):
        return EngineBusyError("busy") if request.tiles[0][0, 9, 9, 0] > 245 else "text"

    found, _ = load(tiff, tmp_path / "kept", busy, on_error="record")
    assert found[0].metadata["error"] == "busy"
    found, asked = load(tiff, tmp_path / "kept")
    assert (asked, [page.page_content for page in found]) == (1, ["text"] * 4)


def test_torn_lines_are_read_again(tiff, tmp_path):
    found, _ = load(tiff, tmp_path / "kept")
    file = tmp_path / "kept/pages.jsonl"
    whole = file.read_bytes()
    ends = [at for at, one in enumerate(whole) if one == 10]
    for cut in (0, 1, ends[0], ends[0] + 1, ends[1] + 30, ends[2] - 1, len(whole) - 1, len(whole)):
        file.write_bytes(whole[:cut])
        again, asked = load(tiff, tmp_path / "kept")
        assert sorted(page.id for page in again) == sorted(page.id for page in found)
        assert asked == 4 - max(0, sum(end <= cut for end in ends) - 1), cut
        assert load(tiff, tmp_path / "kept")[1] == 0
    file.write_bytes(whole[:200] + b"\xff\0\n" + whole[200:])  # and whatever else a disk does
    assert len(load(tiff, tmp_path / "kept")[0]) == 4


@pytest.mark.parametrize(
    "entry",
    [[1], 5, None, {}, {"file": "x"}, {"file": "x", "pages": "many"}, {"key": "KEY", "page": 2},
     {"key": "KEY", "page": "PAGE", "text": None, "metadata": {}},
     {"key": "KEY", "page": "PAGE", "text": "other"}],
)  # fmt: skip
def test_whole_lines_that_are_no_entries_are_left_out(entry, tiff, tmp_path):
    """A version that writes other entries may have used the folder."""
    found, _ = load(tiff, tmp_path / "kept")
    file = tmp_path / "kept/pages.jsonl"
    key = json.loads(file.read_bytes().splitlines()[-1][9:])["key"]
    data = json.dumps(entry).replace("KEY", key).replace("PAGE", found[0].id).encode()
    for one in (data, data + b"}"):
        file.write_bytes(file.read_bytes() + b"%08x %s\n" % (zlib.crc32(one), one))
    again, asked = load(tiff, tmp_path / "kept")
    assert (again, asked) == (found, 0)


def test_a_journal_is_for_one_process_at_a_time(tmp_path):
    journal = Journal(tmp_path, "a")
    with pytest.raises(RequestError, match="in use by another process"):
        Journal(tmp_path, "a")
    journal.close()
    Journal(tmp_path, "a").close()
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="cannot be used"):
        Journal(tmp_path / "file", "a")


def test_an_empty_path_is_not_the_current_folder(tiff, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match="resume_dir: is an empty path"):
        load(tiff, "")
    assert [path.name for path in tmp_path.iterdir()] == [tiff.name]


def test_any_text_survives(tmp_path):
    text = 'line\nline \u2028 \x00 \ud800 \U0001f600 "quoted" \\ \x85 end'
    journal = Journal(tmp_path, "a")
    journal.add("x-0", Document(page_content=text, metadata={"page": 0, "source": "a"}),
                leave_out={"source"})  # fmt: skip
    journal.close()
    again = Journal(tmp_path, "a")
    assert again.read("x-0").page_content == text
    assert again.read("x-0").metadata == {"page": 0}
    assert not again.has("x-1")
    again.close()


def test_fingerprints():
    assert fingerprint_of({"a": 1, "b": 2}) == fingerprint_of({"b": 2, "a": 1})
    assert fingerprint_of({"a": 1}) != fingerprint_of({"a": 2})


def test_a_full_disk_is_said_with_the_file(tiff, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: .*kept/pages\.jsonl"):
        load(tiff, tmp_path / "kept")
    monkeypatch.undo()
    assert [page.page_content for page in load(tiff, tmp_path / "kept")[0]] == ["text"] * 4


def kill_at_random_moments(tmp_path, kills):
    """Start the program and kill it, so many times; then let it finish, and compare."""
    tmp_path.mkdir(exist_ok=True)
    tiff, folder = tmp_path / "a.tiff", tmp_path / "kept"
    tiff.write_bytes(scan(pages()))
    read_killed(tiff, folder, kills, chance=random.Random(str(tmp_path.name)))
    found, asked = load(tiff, folder, skip_blank=False)
    assert asked == 0
    colours = [page.page_content for page in found]
    assert len(set(colours)) == PAGES
    entries = [json.loads(line.partition(b" ")[2]) for line in
               (folder / "pages.jsonl").read_bytes().splitlines() if line[8:9] == b" " and
               line.endswith(b"}}")]  # fmt: skip
    assert {one["page"] for one in entries if "page" in one} == {page.id for page in found}


def read_killed(tiff, folder, kills, *model, chance):
    """Start the program on PAGES pages and kill it, so many times; then let it finish."""
    tests = PROGRAM.parents[2]
    paths = os.pathsep.join([str(tests), str(tests.parent)])
    environment = {**os.environ, "PYTHONPATH": paths}
    command = [sys.executable, str(PROGRAM), str(tiff), str(folder), *model]
    for _ in range(kills):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
        lines = chance.randrange(0, PAGES + 2)
        for _ in range(lines):  # a moment told by progress, not by the clock
            if not process.stdout.readline():
                break
        process.kill()
        process.wait()
        process.stdout.close()
        if chance.random() < 0.3 and (folder / "pages.jsonl").exists():  # and a torn write
            data = (folder / "pages.jsonl").read_bytes()
            (folder / "pages.jsonl").write_bytes(data[: -chance.randrange(1, 60)])
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True,
                          timeout=PATIENCE)  # fmt: skip
    assert done.stdout.split() == ["begun", *map(str, range(PAGES)), "done"]


def test_killed_at_random_moments(tmp_path):
    kill_at_random_moments(tmp_path, 3)


@pytest.mark.slow
def test_killed_many_times_at_random_moments(tmp_path):
    """KILLS=500 for a soak: each kill costs the start of a process, a second or more."""
    for number in range(int(os.environ.get("KILLS", "40")) // 10):
        kill_at_random_moments(tmp_path / str(number), 10)


@pytest.mark.slow
def test_nano_is_killed_at_random_moments(tmp_path):
    """The pages are those of a process that nobody killed."""
    tiff = tmp_path / "a.tiff"
    words = ["amber", "basket", "candle", "dollar", "engine", "forest", "garden", "hammer",
             "island", "jacket", "kettle", "ladder"]  # fmt: skip
    tiff.write_bytes(scan([draw_page(word, size=(448, 448), font=40) for word in words]))
    llm = ChatInternVL(model="nano", temperature=0)
    expected = InternVLLoader(tiff, llm=llm, skip_blank=False).load()
    kills = int(os.environ.get("NANO_KILLS", "6"))
    read_killed(tiff, tmp_path / "kept", kills, "nano", chance=random.Random(3))
    again = InternVLLoader(tiff, llm=llm, skip_blank=False, resume_dir=tmp_path / "kept")
    results = [one for one in again.results() if isinstance(one, Result)]
    assert all(one.is_resumed for one in results)
    assert [one.document.page_content for one in results] == [
        page.page_content for page in expected
    ]
    assert sum(page.page_content.split() == [word]
               for page, word in zip(expected, words, strict=True)) >= 9  # fmt: skip


def test_an_error_without_a_number_is_said_in_words(tmp_path):
    with pytest.raises(OSError, match="the bucket is gone") as caught, naming(tmp_path):
        raise OSError("the bucket is gone")
    assert "None" not in str(caught.value)
