"""Files of `ocr --out` on disk: what is interrupted, killed, locked, full or a link."""

import os
import sys
from pathlib import Path

import pytest

from langchain_internvl.documents import file_locks
from langchain_internvl.documents.archive import open_writer
from langchain_internvl.documents.file_locks import hold
from langchain_internvl.errors import RequestError
from langchain_internvl.media.policy import MediaPolicy


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is full")
@pytest.mark.parametrize(
    ("out", "full"), [("a.jsonl", "a.jsonl.part"), ("b", "b/a.png.jsonl.part")]
)
def test_a_full_disk_is_said_with_the_file(ocr, folder, out, full):
    (folder / full).parent.mkdir(exist_ok=True)
    (folder / full).symlink_to("/dev/full")
    result, _ = ocr("scans", "--out", out)
    assert result.exit_code == 1
    assert f"No space left on device: '{full}'" in result.stderr


@pytest.mark.parametrize("out", ["pages.jsonl", "pages.parquet", "read"])
def test_an_interrupted_run_leaves_nothing_half_written(ocr, folder, out):
    def stopped(_):
        raise KeyboardInterrupt

    result, _ = ocr("scans", "--out", out, reply=stopped)
    assert result.exit_code not in {0, None}
    assert not list(folder.rglob("*.part"))
    assert not (folder / "pages.jsonl").exists()
    assert ocr("scans", "--out", out)[0].exit_code == 0
    assert not list(folder.rglob("*.part"))


def test_the_next_run_removes_what_a_killed_one_has_left(ocr, folder):
    (folder / "read").mkdir()
    for name in ("gone.png.txt.part", "a.png.jsonl.part", "other.part"):
        (folder / "read" / name).write_text("half", "utf-8")
    (folder / "pages.jsonl.part").write_text('{"page_id": "0', "utf-8")
    assert ocr("scans", "--out", "read")[0].exit_code == 0
    assert [one.name for one in folder.rglob("read/*.part")] == ["other.part"]
    assert ocr("scans", "--out", "pages.jsonl")[0].exit_code == 0
    assert len((folder / "pages.jsonl").read_text("utf-8").splitlines()) == 4
    assert not (folder / "pages.jsonl.part").exists()


def another_writer(out):
    """A second run with the same output, whatever its journal."""
    options = {"suffix": ".txt", "searchable_pdf": False, "password": None}
    return open_writer(Path(out), policy=MediaPolicy(), **options)


@pytest.mark.parametrize("out", ["pages.jsonl", "pages.parquet", "read"])
def test_a_second_run_at_the_same_time_leaves_the_output_of_the_first(ocr, folder, out):
    """It had removed the incomplete file of the first one, which then lost its output."""
    seen = []

    def reply(_):
        if not seen:
            seen.append(None)
            with pytest.raises(RequestError, match="another process"):
                another_writer(out)
        return "read"

    assert ocr("scans", "--out", out, reply=reply)[0].exit_code == 0
    assert (seen, (folder / out).exists()) == ([None], True)
    assert not (folder / f"{out}.part").exists()
    for end in ("finish", "discard"):
        getattr(another_writer(out), end)()  # each gives the output free
    assert ocr("scans", "--out", out)[0].exit_code == 0


@pytest.mark.parametrize("out", ["pages.jsonl", "pages.parquet"])
def test_a_run_that_waited_for_the_end_of_another_has_its_own_file(folder, monkeypatch, out):
    """Between its opening and its lock the other one renames the file."""
    first = another_writer(out)

    def hold_late(file):
        monkeypatch.setattr(file_locks, "hold", hold)
        first.finish()
        return hold(file)

    monkeypatch.setattr(file_locks, "hold", hold_late)
    second = another_writer(out)
    with pytest.raises(RequestError, match="another process"):
        another_writer(out)
    second.finish()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs the list of open files")
@pytest.mark.parametrize("out", ["pages.jsonl", "pages.parquet", "read"])
@pytest.mark.parametrize("reply", ["read", KeyboardInterrupt()])
def test_no_open_file_is_renamed_or_removed_without_locks(ocr, folder, monkeypatch, out, reply):
    """Windows has no such locks, and refuses both."""
    changed = []

    def of_windows(change):
        def checked(path, *given, **options):
            numbers = Path("/proc/self/fd").iterdir()
            assert str(path.resolve()) not in {os.path.realpath(one) for one in numbers}
            changed.append(path)
            return change(path, *given, **options)

        return checked

    monkeypatch.setitem(sys.modules, "fcntl", None)
    for name in ("replace", "unlink"):
        monkeypatch.setattr(Path, name, of_windows(getattr(Path, name)))

    def answer(_):
        if isinstance(reply, BaseException):
            raise reply
        return reply

    result, _ = ocr("scans", "--out", out, reply=answer)
    assert not isinstance(result.exception, AssertionError), result.exception
    assert changed or out == "read"
    assert (folder / out).exists() == (reply == "read" or out == "read")
    assert not list(folder.rglob("*.part"))


def test_a_run_leaves_the_incomplete_files_of_another_one(ocr, folder):
    (folder / "read").mkdir()
    others = folder / "read/other.png.txt.part", folder / "read/taken.png.txt.part"
    others[1].write_text("left by a killed run", "utf-8")
    os.utime(others[1], (1, 1))

    def reply(_):
        for other in others:
            other.write_text("half", "utf-8")
        return "read"

    assert ocr("scans", "--out", "read", reply=reply)[0].exit_code == 0
    assert sorted((folder / "read").glob("*.part")) == sorted(others)


@pytest.mark.parametrize("name", ["pages.jsonl", "pages.parquet"])
@pytest.mark.parametrize("is_there", [False, True])
def test_a_link_to_an_output_stays_a_link(ocr, folder, name, is_there):
    far = folder / "disk" / f"far{Path(name).suffix}"
    far.parent.mkdir()
    if is_there:
        far.write_text("old", "utf-8")
    (folder / name).symlink_to(far)
    result, _ = ocr("scans/a.png", "--out", name)
    assert result.exit_code == 0
    assert (folder / name).is_symlink()
    assert list(far.parent.iterdir()) == [far]
    assert far.read_bytes().startswith(b'{"page_id"' if name.endswith("l") else b"PAR1")


def test_links_in_the_folder_of_an_output_stay_links(ocr, folder):
    (folder / "out").mkdir()
    (folder / "out/a.png.txt").symlink_to(folder / "far.txt")
    ocr("scans/a.png", "--out", "out")
    assert (folder / "out/a.png.txt").is_symlink()
    assert (folder / "far.txt").read_text("utf-8") == "Grüße aus Köln\n"
