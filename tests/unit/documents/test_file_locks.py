"""Locks between processes, also as on Windows, where there is no `fcntl`."""

import os
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

from langchain_internvl.documents.archive import open_writer
from langchain_internvl.documents.file_locks import hold
from langchain_internvl.documents.journal import Journal
from langchain_internvl.errors import RequestError
from langchain_internvl.media.policy import MediaPolicy


class Bytes(ModuleType):
    """Locks of bytes, as Windows has them: at the file's offset, until it is closed."""

    LK_NBLCK = 2

    def __init__(self):
        super().__init__("msvcrt")
        self.__spec__ = ModuleSpec("msvcrt", None)
        self.held = {}

    def locking(self, descriptor, mode, count):
        assert (mode, count) == (self.LK_NBLCK, 1)
        seen = os.fstat(descriptor)
        offset = os.lseek(descriptor, 0, os.SEEK_CUR)
        assert offset > seen.st_size  # other processes can read the file
        key = seen.st_dev, seen.st_ino, offset
        other = self.held.get(key)
        if other not in {None, descriptor} and self._is_open(other, key):
            raise PermissionError(13, "Permission denied")
        self.held[key] = descriptor

    def _is_open(self, descriptor, key):
        try:
            found = os.fstat(descriptor)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == key[:2]


@pytest.fixture(params=["fcntl", "msvcrt"])
def locks(request, monkeypatch):
    if request.param == "msvcrt":
        monkeypatch.setitem(sys.modules, "fcntl", None)
        monkeypatch.setitem(sys.modules, "msvcrt", Bytes())
    return request.param


def writer(out):
    return open_writer(
        Path(out), suffix=".txt", searchable_pdf=False, policy=MediaPolicy(), password=None
    )


@pytest.mark.parametrize("out", ["pages.jsonl", "pages.parquet", "read"])
@pytest.mark.parametrize("end", ["finish", "discard"])
def test_one_writer_of_an_output(locks, out, end, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        first = writer(out)
        for _ in range(2):
            with pytest.raises(RequestError, match="is being written by another process"):
                writer(out)
        getattr(first, end)()
        assert not list(tmp_path.rglob("*.lock"))
        assert not list(tmp_path.rglob("*.part"))


def test_what_a_killed_process_leaves_is_no_lock(locks, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("pages.jsonl.part", "pages.jsonl.part.lock"):
        Path(name).write_text("half", "utf-8")
    writer("pages.jsonl").finish()
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == ["pages.jsonl"]
    assert Path("pages.jsonl.part.lock").exists() == (locks == "fcntl")


def test_one_journal_of_a_folder(locks, tmp_path):
    first = Journal(tmp_path, "settings")
    first.add_file("0", 3)
    with pytest.raises(RequestError, match="in use by another process"):
        Journal(tmp_path, "settings")
    first.add_file("1", 4)
    first.close()
    second = Journal(tmp_path, "settings")
    assert (second.total("0"), second.total("1")) == (3, 4)
    second.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.parametrize("out", ["pages.jsonl", "read", None])
def test_a_process_that_was_forked_meanwhile_keeps_no_lock_and_releases_none(out, tmp_path):
    """A worker of a data loader, say, has copies of the open files and lives longer."""

    def start():
        return Journal(tmp_path, "settings") if out is None else writer(tmp_path / out)

    def end(one):
        (one.close if out is None else one.discard)()

    first = start()
    ended, goes_on = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        os.close(goes_on[1])
        end(first) if out is None else first._claim.close()
        os.write(ended[1], b"1")
        os.read(goes_on[0], 1)
        os._exit(0)
    os.read(ended[0], 1)
    with pytest.raises(RequestError, match="by another process"):
        start()
    os.close(goes_on[1])
    os.waitpid(child, 0)
    goes_on = os.pipe()
    child = os.fork()
    if not child:
        os.close(goes_on[1])
        os.read(goes_on[0], 1)
        os._exit(0)
    end(first)
    end(start())
    os.close(goes_on[1])
    os.waitpid(child, 0)


def test_the_offset_of_a_file_stays(locks, tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"0123456789")
    with path.open("r+b", buffering=0) as file:
        file.seek(4)
        hold(file)
        assert file.read(2) == b"45"
