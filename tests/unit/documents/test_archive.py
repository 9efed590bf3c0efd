"""Pages on disk: JSON Lines, Parquet, folders, searchable PDFs; and the command."""

import inspect
import io
import json
import os
import random
import sys
from pathlib import Path

import pikepdf
import pyarrow.parquet
import pypdfium2
import pytest
import typer.main
from drawn_pages import draw_page, encode, scan_pdf, scripted, text_of, text_pdf
from langchain_core.documents import Document
from PIL.PngImagePlugin import PngInfo
from typer.testing import CliRunner

from langchain_internvl import InternVLLoader, chat_models
from langchain_internvl.cli.app import app
from langchain_internvl.documents import archive, loader
from langchain_internvl.documents.archive import open_writer
from langchain_internvl.documents.journal import hold
from langchain_internvl.documents.searchable_pdf import make_searchable
from langchain_internvl.errors import (
    CheckpointError,
    EngineBusyError,
    MediaError,
    RequestError,
    ServerAccessError,
)
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.media.sources import BytesSource

PROSE = "The invoice of March is due in thirty days after the goods have been delivered.\n" * 5


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scans/old").mkdir(parents=True)
    (tmp_path / "scans/a.png").write_bytes(encode(draw_page("one", ground="yellow")))
    (tmp_path / "scans/old/a.png").write_bytes(encode(draw_page("two", ground="pink")))
    first, second = (
        draw_page("x", ground="red", size=(90, 80)),
        draw_page(ground="lime", size=(90, 80)),
    )
    (tmp_path / "scans/b.tiff").write_bytes(
        encode(first, "TIFF", save_all=True, append_images=[second])
    )
    return tmp_path


@pytest.fixture
def ocr(folder, monkeypatch):
    """Runs `langchain-internvl ocr` with a scripted model; gives its result and requests."""
    make = chat_models.ChatInternVL

    def run(*arguments, reply=lambda request: "Grüße aus Köln", given=b""):
        llm, backend = scripted(reply)
        monkeypatch.setattr(
            chat_models, "ChatInternVL", lambda **given: make(model=llm.model, backend=backend)
        )
        result = CliRunner().invoke(app, ["ocr", *arguments], input=given)
        monkeypatch.setattr(chat_models, "ChatInternVL", make)
        return result, backend.requests

    return run


def test_lines_of_json(ocr, folder):
    result, requests = ocr("scans", "--out", "out/pages.jsonl")
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in (folder / "out/pages.jsonl").read_text().splitlines()]
    assert [(row["source"], row["page"], row["text"]) for row in rows] == [
        ("scans/a.png", 0, "Grüße aus Köln"),
        ("scans/b.tiff", 0, "Grüße aus Köln"),
        ("scans/b.tiff", 1, "Grüße aus Köln"),
        ("scans/old/a.png", 0, "Grüße aus Köln"),
    ]
    assert len({row["page_id"] for row in rows}) == len(requests) == 4
    assert "4 pages of 3 files" in result.stderr
    assert "pages/s" in result.stderr


def test_a_second_run_reads_what_is_new(ocr, folder):
    ocr("scans", "--out", "pages.jsonl")
    (folder / "scans/c.png").write_bytes(encode(draw_page("new")))
    result, requests = ocr("scans", "--out", "pages.jsonl")
    assert (result.exit_code, len(requests)) == (0, 1)
    assert "5 pages of 4 files" in result.stderr
    assert "4 of them read before" in result.stderr
    assert len((folder / "pages.jsonl").read_text().splitlines()) == 5


def test_rows_of_parquet(ocr, folder):
    assert ocr("scans", "--out", "pages.parquet")[0].exit_code == 0
    rows = pyarrow.parquet.read_table(folder / "pages.parquet").to_pylist()
    assert [row["page"] for row in rows] == [0, 0, 1, 0]
    assert {row["text"] for row in rows} == {"Grüße aus Köln"}
    assert json.loads(rows[0]["metadata"])["attempts"] == 1
    assert not list(folder.glob("*.part"))


def test_a_folder_has_a_text_for_each_document(ocr, folder):
    assert ocr("scans", "--out", "read", "--markdown")[0].exit_code == 0
    assert sorted(path.name for path in (folder / "read").iterdir()) == [
        "a.png-2.jsonl", "a.png-2.md", "a.png.jsonl", "a.png.md", "b.tiff.jsonl", "b.tiff.md",
    ]  # fmt: skip
    assert (folder / "read/b.tiff.md").read_text() == "Grüße aus Köln\n\fGrüße aus Köln\n"


def test_failures_are_counted_and_are_in_the_output(ocr, folder):
    (folder / "scans/c.png").write_bytes(b"broken")

    def reply(request):
        green = request.tiles[0][0, 9, 9].argmax() == 1 and len(request.tiles[0]) > 9
        return EngineBusyError("too many") if green else "text"

    result, _ = ocr("scans", "none.png", "--out", "pages.jsonl", reply=reply)
    assert result.exit_code == 1
    rows = [json.loads(line) for line in (folder / "pages.jsonl").read_text().splitlines()]
    errors = [row["source"] for row in rows if "error" in row]
    assert {"scans/c.png", "none.png"} <= set(errors)
    assert f"{len(errors)} failed" in result.stderr
    assert "scans/c.png: " in result.stderr


def test_a_folder_has_the_errors_of_what_was_not_read(ocr, folder):
    (folder / "scans/c.png").write_bytes(b"broken")
    assert ocr("scans", "--out", "read", "--searchable-pdf")[0].exit_code == 1
    assert [path.name for path in (folder / "read").glob("c.png*")] == ["c.png.jsonl"]
    (row,) = map(json.loads, (folder / "read/c.png.jsonl").read_text().splitlines())
    assert "c.png" in row["error"]


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
        monkeypatch.setattr(archive, "hold", hold)
        first.finish()
        hold(file)

    monkeypatch.setattr(archive, "hold", hold_late)
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


def test_files_of_a_folder_that_are_left_out_are_said_once(ocr, folder, caplog):
    for name in ("notes.txt", "old/b.DOCX", "old/c.docx", "Makefile", ".hidden"):
        (folder / "scans" / name).write_text("no scan", "utf-8")
    assert ocr("scans", "--out", "read")[0].exit_code == 0
    (said,) = [one.getMessage() for one in caplog.records if "left out" in one.getMessage()]
    assert said == (
        "scans: what is no image or PDF is left out: .docx (2), .txt (1), no suffix (1)"
    )


@pytest.mark.parametrize("out", ["file", "file/a.jsonl", "there.jsonl", "new.csv", "new.pdf"])
def test_an_output_that_cannot_be_is_said_before_anything_is_read(ocr, folder, out):
    (folder / "file").write_text("x")
    (folder / "there.jsonl").mkdir()
    result, requests = ocr("scans", "--out", out)
    assert (result.exit_code, requests) == (2, [])
    assert out in result.output


def test_a_page_that_is_not_there_is_said_with_its_file(ocr):
    result, _ = ocr("scans", "--out", "a.jsonl", "--pages", "2")
    assert result.exit_code == 1
    assert "scans/a.png: pages: it has 1 page" in result.stderr
    assert "1 pages of 1 files" in result.stderr


def test_wrong_usage_is_said(ocr):
    assert ocr("scans", "--out", "a.jsonl", "--searchable-pdf")[0].exit_code == 2
    assert ocr("scans", "--out", "a.jsonl", "--ocr", "maybe")[0].exit_code == 2
    assert ocr("scans", "--out", "a.jsonl", "--rotation", "maybe")[0].exit_code == 2
    assert ocr("scans")[0].exit_code == 2


def test_standard_input_is_a_file(ocr, folder):
    given = (folder / "scans/b.tiff").read_bytes()
    result, _ = ocr("scans/a.png", "-", "--out", "pages.jsonl", given=given)
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in (folder / "pages.jsonl").read_text().splitlines()]
    assert [(row["source"], row["page"]) for row in rows] == [
        ("scans/a.png", 0),
        ("-", 0),
        ("-", 1),
    ]
    assert ocr("-", "--out", "none.jsonl")[0].exit_code == 2
    assert ocr("-", "-", "--out", "none.jsonl", given=given)[0].exit_code == 2


@pytest.mark.parametrize(
    "error", [CheckpointError("no such model"), ServerAccessError("no such key")]
)
def test_a_model_that_cannot_be_used_ends_the_run(ocr, folder, error):
    ocr("scans", "--out", "pages.jsonl")
    before = (folder / "pages.jsonl").read_text()
    arguments = ("scans", "--out", "pages.jsonl", "--prompt", "another", "--concurrency", "1")
    result, requests = ocr(*arguments, reply=lambda request: error)
    assert (result.exit_code, len(requests)) == (1, 1)
    assert result.stderr.count(str(error)) == 1
    assert (folder / "pages.jsonl").read_text() == before


def test_every_failure_is_said_once(ocr, folder):
    (folder / "scans/c.png").write_bytes(b"broken")
    result, _ = ocr("scans", "--out", "pages.jsonl")
    assert result.stderr.count("scans/c.png") == 1


def test_the_loader_s_arguments_are_options():
    options = {one.name for one in app_command("ocr").params}
    arguments = set(inspect.signature(InternVLLoader).parameters)
    others = {"output": "markdown", "ocr": "mode", "sources": "files"}
    # Of the command alone: rows for pages, failures in the output, a progress bar.
    fixed = {"llm", "mode", "on_error", "progress", "page_delimiter", "media_policy"}
    assert {others.get(name, name) for name in arguments - fixed} <= options


def app_command(name):
    return typer.main.get_command(app).commands[name]


def test_options_reach_the_loader(ocr, monkeypatch):
    made = {}

    class Loader(InternVLLoader):
        def __init__(self, sources, **given):
            made.update(given)
            super().__init__(sources, **given)

    monkeypatch.setattr(loader, "InternVLLoader", Loader)
    options = {"long_side": 900, "rotation": "never", "deskew": False, "skip_blank": False,
               "max_retries": 3, "recursive": False, "dpi": 100.0, "pages": "1"}  # fmt: skip
    arguments = [
        part
        for name, value in options.items()
        for part in (
            [f"--no-{name.replace('_', '-')}"]
            if value is False
            else [f"--{name.replace('_', '-')}", str(value)]
        )
    ]
    assert ocr("scans", "--out", "pages.jsonl", *arguments)[0].exit_code == 0
    assert made.items() >= options.items()


@pytest.mark.parametrize("out", [".", "..", "../scans/.", "old/.."])
def test_the_folder_of_the_output_may_have_any_name(ocr, folder, monkeypatch, out):
    monkeypatch.chdir(folder / "scans")
    result, _ = ocr("a.png", "--out", out)
    assert result.exit_code == 0, result.output
    place = Path(out).resolve()
    assert (place / "a.png.txt").exists()
    assert (place.parent / f"{place.name}.resume/pages.jsonl").exists()


@pytest.mark.parametrize("out", ["scans", "scans/old/read"])
def test_a_second_run_does_not_read_what_the_first_one_wrote(ocr, folder, out):
    arguments = ("scans", "--out", out, "--searchable-pdf")
    assert ocr(*arguments)[0].exit_code == 0
    first = sorted(one.name for one in (folder / out).glob("*.searchable.pdf"))
    result, asked = ocr(*arguments)
    assert (result.exit_code, asked) == (0, [])
    assert result.stderr.count(f"earlier runs in {out} are left out: 3") == 1
    assert sorted(one.name for one in (folder / out).glob("*.searchable.pdf")) == first
    assert ocr(out, "--out", "other.jsonl", "--ocr", "always")[1] != []  # of another output


@pytest.mark.parametrize("found", ["read", "read/*.pdf", "re*"])
def test_a_searchable_pdf_that_is_named_is_read(ocr, folder, found):
    assert ocr("scans/a.png", "--out", "read", "--searchable-pdf")[0].exit_code == 0
    result, _ = ocr(found, "--out", "read")
    assert "0 pages of 0 files" in result.stderr
    assert "earlier runs in read are left out: 1" in result.stderr
    result, _ = ocr("read/a.png.searchable.pdf", found, "--out", "read")
    assert "1 pages of 1 files" in result.stderr
    assert (folder / "read/a.png.searchable.pdf.txt").exists()


@pytest.mark.parametrize("out", ["pages.parquet", "pages.jsonl", "read"])
def test_names_of_files_that_are_no_utf8(ocr, folder, out):
    name = os.fsdecode(b"sc\xffn.png")
    (folder / "scans/a.png").rename(folder / "scans" / name)
    assert ocr("scans", "--out", out)[0].exit_code == 0
    if out == "pages.parquet":
        rows = pyarrow.parquet.read_table(out).to_pylist()
        assert len(rows) == 4
        (row,) = [row for row in rows if "\ufffd" in row["source"]]
        assert json.loads(row["metadata"])["source"] == f"scans/{name}"
    lines = [line for path in folder.rglob("*.jsonl") if not path.parent.name.endswith(".resume")
             for line in path.read_text("utf-8").splitlines()]  # fmt: skip
    if out != "pages.parquet":
        assert f"scans/{name}" in {json.loads(line)["source"] for line in lines}
        assert "Grüße" in "".join(lines)  # other lines have no escapes


@pytest.mark.parametrize("out", ["pages.parquet", "pages.jsonl", "read"])
def test_text_that_is_no_utf8(ocr, folder, out):
    """A server's JSON may have half of a pair, as `\\ud83d`."""
    arguments = ("scans/a.png", "--out", out, "--searchable-pdf")[: 4 if out == "read" else 3]
    for _ in range(2):  # the second one reads the journal
        assert ocr(*arguments, reply=lambda request: "half \ud83d")[0].exit_code == 0
    for path in [*folder.rglob("*.jsonl"), *folder.rglob("*.txt")]:
        path.read_text("utf-8")


@pytest.mark.parametrize(
    ("before", "letter"),
    [
        ("", "x"),
        ("x", "é"),
        ("", "\u62a5"),
        ("x", "\u62a5"),
        ("xx", "\u62a5"),
        ("xx", "\U0001f600"),
    ],
)
def test_long_names_are_shortened_to_whole_letters(ocr, folder, letter, before):
    size = len(letter.encode())
    for last in "ab":
        path = folder / "scans" / f"{before}{letter * (232 // size)}{last}.png"
        path.write_bytes((folder / "scans/a.png").read_bytes())
    assert ocr("scans", "--out", "read", "--searchable-pdf")[0].exit_code == 0
    name = before + letter * ((200 - len(before)) // size)
    made = {one.name for one in (folder / "read").glob("*.searchable.pdf")}
    assert {f"{name}.searchable.pdf", f"{name}-2.searchable.pdf"} < made
    assert len(made) == 5


def test_searchable_pdfs_of_images(ocr, folder):
    assert ocr("scans", "--out", "read", "--searchable-pdf")[0].exit_code == 0
    data = (folder / "read/b.tiff.searchable.pdf").read_bytes()
    assert [text_of(data, number).strip() for number in (0, 1)] == ["Grüße aus Köln"] * 2


def searchable(data, reply, **settings):
    llm, _ = scripted(reply)
    pages = InternVLLoader(data, llm=llm, **settings).load()
    password = settings.get("password")
    return make_searchable(BytesSource(data, "a"), pages, MediaPolicy(), password=password)


def test_a_scan_looks_the_same_and_has_its_text():
    scan = scan_pdf(draw_page("Scanned", size=(595, 842)), draw_page(size=(595, 842)))
    text = "Première ligne\n\n漢字 \U0001f600 ({\\})\n" + "word " * 60
    made = searchable(scan, [text])
    assert text_of(made).split() == text.split()
    assert text_of(made, 1) == ""
    with pypdfium2.PdfDocument(scan) as old, pypdfium2.PdfDocument(made) as new:
        assert old[0].render().to_pil().tobytes() == new[0].render().to_pil().tobytes()
        found = new[0].get_textpage().search("漢字").get_next()
        assert found is not None


@pytest.mark.parametrize(
    "line",
    ["שלום עולם 123 abc", "مرحبا بالعالم 2024 نص", "חשבון מס׳ 2041: סה״כ 75 ₪", "שָׁלוֹם (עולם)",
     "مُحَمَّد", "الفاتورة رقم ٢٠٤١ بتاريخ 12/03/2024", "The word שלום עולם, among others",
     "中文 日本語 한국어", "The word (שלום) here", "סעיף 3(א) לחוק (abc) עולם", "a < ב",
     "שלום! a (עולם!", "مرحبا (₪)Def«עולם - 3.5% -"],
)  # fmt: skip
def test_text_of_every_direction_is_found_as_it_is_read(line):
    made = searchable(scan_pdf(draw_page("x")), [f"{line}\nSecond line"])
    assert text_of(made).splitlines() == [line, "Second line"]
    with pypdfium2.PdfDocument(made) as document:
        assert document[0].get_textpage().search(line.split()[0]).get_next() is not None


def test_lines_in_many_directions_are_found_as_they_are_read():
    chance = random.Random(1)
    words = ["שלום", "עולם", "abc", "Def", "12", "3.5%", "مرحبا", "٢٠٢٤", "10/12/2024", "₪", "ב"]
    between = [" ", " (", ") ", ", ", " - ", "] [", ")", "(", "»", " «", ": ", "; ", "! ", "{", "<"]
    lines = [
        "".join(chance.choice(words) + chance.choice(between) for _ in range(2, 7)).strip()
        for _ in range(100)
    ]
    pages = [Document(page_content=line, metadata={"page": number, "ocr": "model"})
             for number, line in enumerate(lines)]  # fmt: skip
    scan = BytesSource(scan_pdf(*[draw_page("x", size=(595, 842))] * len(lines)), "a")
    made = make_searchable(scan, pages, MediaPolicy())
    assert [text_of(made, number) for number in range(len(lines))] == lines


@pytest.mark.parametrize("lines", ["中 文 字", "a b c", "ab c de", "שלום ב x", "| | 1 ."])
def test_lines_of_one_letter_are_found(lines):
    made = searchable(scan_pdf(draw_page("x")), [lines.replace(" ", "\n")])
    assert [line.strip() for line in text_of(made).splitlines()] == lines.split()


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
@pytest.mark.parametrize("turned", [0, 90, 180, 270])
def test_the_layer_runs_as_the_page_is_read(rotate, turned):
    with pikepdf.open(io.BytesIO(scan_pdf(draw_page("x", size=(400, 600))))) as pdf:
        pdf.pages[0].Rotate = rotate
        pdf.pages[0].CropBox = [100, 150, 400, 550]
        buffer = io.BytesIO()
        pdf.save(buffer)
    page = Document(
        page_content="upper\nlower", metadata={"page": 0, "ocr": "model", "rotation": turned}
    )
    made = make_searchable(BytesSource(buffer.getvalue(), "a"), [page], MediaPolicy())
    with pypdfium2.PdfDocument(made) as document:
        assert document[0].get_rotation() == (rotate + turned) % 360
        text = document[0].get_textpage()
        assert text.get_text_range().split() == ["upper", "lower"]
        at = text.get_text_range().index("lower")
        (x, y, *_), (x2, y2, *_), (x3, y3, *_) = (text.get_charbox(n) for n in (0, 4, at))
    assert all(100 <= one <= 400 for one in (x, x2, x3))
    assert all(150 <= one <= 550 for one in (y, y2, y3))
    along, down = (x2 - x, y2 - y), (x3 - x, y3 - y)
    degrees = (rotate + turned) % 360
    sign = 1 if degrees in {0, 90} else -1
    along_axis, down_axis = (1, 0) if degrees in {90, 270} else (0, 1)
    assert along[along_axis] * sign > 5
    assert abs(along[1 - along_axis]) < 1
    assert down[down_axis] * (-1 if degrees in {0, 270} else 1) > 50


def test_a_kept_text_layer_gets_no_second_one():
    data = text_pdf(PROSE)
    assert text_of(searchable(data, [])) == text_of(data)


def changed_pdf(change, *pages):
    with pikepdf.open(io.BytesIO(scan_pdf(*pages or [draw_page("x", size=(595, 842))]))) as pdf:
        change(pdf)
        buffer = io.BytesIO()
        pdf.save(buffer)
    return buffer.getvalue()


def places(data):
    """The text of a page, and where its first letter is."""
    with pypdfium2.PdfDocument(data) as document:
        text = document[0].get_textpage()
        return text.get_text_bounded().split(), text.get_charbox(0)


def test_the_layer_is_where_the_page_is_whatever_its_content_leaves_behind():
    """Scanners write `612 0 0 792 0 0 cm /Im0 Do` without restoring the scale."""

    def leave_scaled(pdf):
        page = pdf.pages[0]
        page.contents_coalesce()
        data = b"300 0 0 400 0 0 cm 0 0 0.1 0.1 re W n " + page.Contents.read_bytes()
        page.Contents = pdf.make_stream(data)

    page = Document("upper\nlower", metadata={"page": 0, "ocr": "model"})
    plain, scaled = (
        places(make_searchable(BytesSource(changed_pdf(change), "a"), [page], MediaPolicy()))
        for change in (lambda pdf: None, leave_scaled)
    )
    assert plain == scaled
    assert plain[0] == ["upper", "lower"]


def test_a_page_with_a_crop_beyond_its_paper_has_the_layer_on_it():
    def crop(pdf):
        pdf.pages[0].CropBox = [-300, -300, 900, 1200]

    page = Document("upper\nlower", metadata={"page": 0, "ocr": "model"})
    plain, cropped = (
        places(make_searchable(BytesSource(changed_pdf(change), "a"), [page], MediaPolicy()))
        for change in (lambda pdf: None, crop)
    )
    assert plain == cropped


def test_a_second_layer_leaves_the_first_one_readable():
    page = Document("upper lower", metadata={"page": 0, "ocr": "model"})
    first = make_searchable(BytesSource(changed_pdf(lambda pdf: None), "a"), [page], MediaPolicy())
    page.page_content = "Other words"
    second = make_searchable(BytesSource(first, "a"), [page], MediaPolicy())
    assert sorted(text_of(second).split()) == ["Other", "lower", "upper", "words"]


def test_the_layer_has_the_words_of_tables_without_tags():
    written = "# Costs\n\n<table>\n<tr><td>Rent &amp; heat</td><td>900</td></tr>\n</table>\n\nx < y"
    made = searchable(scan_pdf(draw_page("x")), [written], output="markdown")
    assert text_of(made).splitlines() == ["# Costs", "Rent & heat | 900", "x < y"]


def test_an_image_that_mentions_a_pdf_is_an_image():
    info = PngInfo()
    info.add_text("Source", "%PDF-1.7 scan")
    made = searchable(encode(draw_page("x"), pnginfo=info), ["Read"])
    assert text_of(made).strip() == "Read"


def test_a_pdf_that_cannot_be_changed_takes_no_other_along(ocr, folder, monkeypatch):
    (folder / "scans/a.pdf").write_bytes(scan_pdf(draw_page("x")))

    opened = pikepdf.open

    def refuse(*given, **options):
        if "password" in options:  # not of an image
            raise pikepdf.PdfError("the page tree is damaged")
        return opened(*given, **options)

    monkeypatch.setattr(pikepdf, "open", refuse)
    result, _ = ocr("scans/a.pdf", "scans/a.png", "--out", "read", "--searchable-pdf")
    assert result.exit_code == 1
    assert "the page tree is damaged" in result.stderr
    assert sorted(one.name for one in (folder / "read").glob("*.txt")) == ["a.pdf.txt", "a.png.txt"]


def test_a_pdf_with_other_pages_for_another_reader_is_refused():
    page = Document("x", metadata={"page": 0, "ocr": "model", "total_pages": 3})
    with pytest.raises(MediaError, match="3 pages were read, and 1 are found"):
        make_searchable(BytesSource(scan_pdf(draw_page("x")), "a"), [page], MediaPolicy())


def test_encrypted_pdfs_become_searchable():
    security = pikepdf.Encryption(owner="o", user="secret")
    with pikepdf.open(io.BytesIO(scan_pdf(draw_page("Secret")))) as pdf:
        buffer = io.BytesIO()
        pdf.save(buffer, encryption=security)
    assert text_of(searchable(buffer.getvalue(), ["Secret"], password="secret")).strip() == "Secret"
