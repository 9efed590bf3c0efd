"""Progress of `ocr`, on a terminal and elsewhere."""

from langchain_core.documents import Document

from langchain_internvl.cli.page_progress import PageProgress
from langchain_internvl.documents.jobs import FileStart, Result
from langchain_internvl.documents.sources import File
from langchain_internvl.errors import MediaError
from langchain_internvl.media.sources import BytesSource

FILE = File(BytesSource(b"", "a.pdf"), "a.pdf")
PAGE = Result(FILE, Document("text"))
FAILED = Result(FILE, error=MediaError("a.pdf, page 1", "is damaged"), metadata={"page": 1})
BROKEN = Result(FILE, error=MediaError("b.pdf", "is broken"), metadata={"source": "b.pdf"})


def test_elsewhere_it_is_a_line_now_and_then(capsys):
    now = 0.0
    with PageProgress(5, is_terminal=False, clock=lambda: now) as progress:
        progress.add(FileStart(FILE, 10))
        for _ in range(4):
            now += 10
            progress.add(PAGE)
        progress.add(BROKEN)
        assert progress.pages == 40  # three files of ten pages are not open yet
        now += 30
        progress.add(FAILED)
        assert progress.summary() == 2
    assert capsys.readouterr().err.splitlines() == [
        "3 of 50 pages, 0.10 pages/s, 0:07:50 left, 0 failed",
        "5 of 40 pages, 0.06 pages/s, 0:08:10 left, 2 failed",
        "4 pages of 1 files in 70.0 s (0.06 pages/s), 0 of them read before, 2 failed",
        "  b.pdf: is broken",
        "  a.pdf, page 1: is damaged",
    ]


def test_pages_of_the_journal_do_not_count_as_fast(capsys):
    now = 0.0
    with PageProgress(1, is_terminal=False, clock=lambda: now) as progress:
        progress.add(FileStart(FILE, 20))
        for _ in range(10):
            progress.add(Result(FILE, Document("text"), is_resumed=True))
        now += 30
        progress.add(PAGE)
    assert capsys.readouterr().err == "11 of 20 pages, 0.03 pages/s, 0:04:30 left, 0 failed\n"


def test_a_terminal_has_a_bar_that_goes(capsys):
    with PageProgress(1, is_terminal=True) as progress:
        progress.add(FileStart(FILE, 2))
        progress.add(PAGE)
    assert "1/2" in capsys.readouterr().err
