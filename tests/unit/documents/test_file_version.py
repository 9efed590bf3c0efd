"""Files that change while they are read: no page of another file stands under their digest."""

import hashlib
import io
import logging
import os
from itertools import pairwise

import pikepdf
import pytest
from drawn_pages import draw_page, encode, scan_pdf, scripted, text_pdf

from langchain_internvl import InternVLLoader, MediaPolicy
from langchain_internvl.documents.file_version import FileVersion
from langchain_internvl.documents.sources import File
from langchain_internvl.errors import MediaError
from langchain_internvl.media.sources import BytesSource, PathSource

OLD = "The invoice of March is due in thirty days after the goods have been delivered.\n" * 5
NEW = "A letter of thanks went to all guests of the wedding in the old mill by the river.\n" * 5
COLOURS = ["red", "lime", "blue"]


def alternating(colour, text, pairs=3):
    """A PDF of scans, each followed by a page of text: every scan is rendered on its own."""
    pdf = pikepdf.new()
    for _ in range(pairs):
        for data in (scan_pdf(draw_page(ground=colour, size=(90, 80))), text_pdf(text)):
            with pikepdf.open(io.BytesIO(data)) as one:
                pdf.pages.extend(one.pages)
    buffer = io.BytesIO()
    pdf.save(buffer)
    return buffer.getvalue()


def load(path, change, **settings):
    """Load a file that is changed when its second scan is read."""
    seen = []

    def reply(request):
        seen.append(COLOURS[int(request.tiles[0][0, 9, 9].argmax())])
        if len(seen) == 2:
            change()
        return seen[-1]

    loader = InternVLLoader(path, llm=scripted(reply)[0], concurrency=1, **settings)
    return list(loader.lazy_load())


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.pdf"
    path.write_bytes(alternating("red", OLD))
    return path


@pytest.mark.parametrize("pairs", [3, 1])
def test_a_file_that_changes_gives_no_pages_of_another(path, tmp_path, pairs):
    before = path.read_bytes()
    digest = hashlib.sha256(before).hexdigest()
    settings = {"on_error": "record", "resume_dir": tmp_path / "kept"}
    *found, failed = load(
        path, lambda: path.write_bytes(alternating("blue", NEW, pairs)), **settings
    )
    assert found
    for page in found:
        assert page.metadata["page_id"] == f"{digest}-{page.metadata['page']}"
        assert page.page_content == ("red" if page.metadata["page"] % 2 == 0 else OLD.strip())
    assert "has changed while it was read" in failed.metadata["error"]
    path.write_bytes(before)  # nothing of the other file was kept under this one
    again = load(path, lambda: None, **settings)
    assert [page.page_content for page in again] == ["red", OLD.strip()] * 3


def test_no_text_is_put_on_the_pages_of_another_file(ocr, folder):
    page = folder / "scans/a.png"

    def reply(_):
        page.write_bytes(encode(draw_page("another", ground="blue")))
        return "the words of the page"

    result, _ = ocr("scans/a.png", "--out", "read", "--searchable-pdf", reply=reply)
    assert result.exit_code == 1
    assert "has changed while it was read" in " ".join(result.output.split())
    assert sorted(one.name for one in (folder / "read").iterdir()) == ["a.png.jsonl", "a.png.txt"]


def test_a_file_that_changes_raises(path):
    with pytest.raises(MediaError, match=r"a\.pdf: has changed while it was read"):
        load(path, lambda: path.write_bytes(alternating("blue", NEW)))


def test_a_file_that_is_only_touched_is_read_to_its_end(path, caplog):
    with caplog.at_level(logging.WARNING):
        pages = load(path, lambda: os.utime(path, (1, 1)))
    assert [page.page_content for page in pages] == ["red", OLD.strip()] * 3
    assert not caplog.records


def test_a_file_that_vanishes_is_an_error_of_its_own(path):
    *pages, failed = load(path, path.unlink, on_error="record")
    assert all(now < then for now, then in pairwise(page.metadata["page"] for page in pages))
    assert "no such file" in failed.metadata["error"]


def test_a_change_during_the_digest_is_noticed(path, monkeypatch):
    digest = File.digest

    def changing(file, policy):
        found = digest(file, policy)
        monkeypatch.undo()
        path.write_bytes(alternating("blue", NEW))
        return found

    monkeypatch.setattr(File, "digest", changing)
    version = FileVersion(File(PathSource(path), str(path)), MediaPolicy())
    with pytest.raises(MediaError, match="has changed"):
        version.check()


def test_bytes_have_one_version():
    data = encode(draw_page("x"))
    version = FileVersion(File(BytesSource(data, "x"), None), MediaPolicy())
    version.check()
    assert version.digest == hashlib.sha256(data).hexdigest()
