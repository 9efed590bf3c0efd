"""Pages on disk: JSON Lines, Parquet, folders, searchable PDFs; and the command."""

import inspect
import json
import os
from pathlib import Path

import pikepdf
import pyarrow.parquet
import pytest
import typer.main
from drawn_pages import draw_page, encode, scan_pdf, text_of

from langchain_internvl import InternVLLoader
from langchain_internvl.cli.app import app
from langchain_internvl.documents import loader
from langchain_internvl.errors import (
    CheckpointError,
    EngineBusyError,
    ServerAccessError,
)


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


def test_files_of_a_folder_that_are_left_out_are_said_once(ocr, folder, caplog):
    for name in ("notes.txt", "old/b.DOCX", "old/c.docx", "Makefile", ".hidden"):
        (folder / "scans" / name).write_text("no scan", "utf-8")
    assert ocr("scans", "--out", "read")[0].exit_code == 0
    (said,) = [one.getMessage() for one in caplog.records if "left out" in one.getMessage()]
    assert said == (
        "scans: what is no image or PDF is left out: .docx (2), .txt (1), no suffix (1)"
    )


@pytest.mark.parametrize("out", ["file", "file/a.jsonl", "there.jsonl", "new.csv", "new.pdf", "-"])
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
    assert ocr("scans", "--out", "")[0].exit_code == 2
    assert ocr("scans", "--out", "a.jsonl", "--resume-dir", "")[0].exit_code == 2


@pytest.mark.parametrize(
    ("out", "journal"),
    [
        ("a.jsonl", "a.jsonl"),
        ("a.parquet", "./scans/../a.parquet"),
        ("a.jsonl", "a.jsonl/journal"),
        ("a.jsonl", "link"),
        ("done/pages.jsonl", "done"),
    ],
)
def test_a_journal_is_not_in_the_way_of_the_output(ocr, folder, out, journal):
    """The output replaced the journal in the end, or could not be written."""
    (folder / "link").symlink_to("a.jsonl")
    before = sorted(folder.rglob("*"))
    result, requests = ocr("scans", "--out", out, "--resume-dir", journal)
    assert (result.exit_code, len(requests)) == (2, 0)
    assert "would overwrite each other" in " ".join(result.stderr.replace("│", " ").split())
    assert sorted(folder.rglob("*")) == before


def test_a_journal_that_is_a_file_is_said(ocr, folder):
    (folder / "file").touch()
    result, requests = ocr("scans", "--out", "a.jsonl", "--resume-dir", "file")
    assert (result.exit_code, requests) == (1, [])
    assert result.stderr.startswith("--resume-dir: file cannot be used: ")


@pytest.mark.parametrize(("out", "journal"), [("done/a.jsonl", "done"), ("done", "done")])
def test_a_journal_may_be_beside_the_output(ocr, folder, out, journal):
    for expected in (4, 0):
        result, requests = ocr("scans", "--out", out, "--resume-dir", journal)
        assert (result.exit_code, len(requests)) == (0, expected)


def test_a_name_that_is_too_long_is_said(ocr):
    for out in ("x" * 300, f"{'x' * 300}.jsonl"):
        result, requests = ocr("scans", "--out", out)
        assert (result.exit_code, requests) == (2, [])
        assert "File name too long" in " ".join(result.stderr.replace("│", " ").split())


def test_a_prompt_without_words_is_refused(ocr):
    result, requests = ocr("scans", "--out", "a.jsonl", "--prompt", " ")
    assert (result.exit_code, requests) == (2, [])


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
