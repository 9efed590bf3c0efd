"""What the command reads: files, folders, addresses, standard input, and pages of PDFs."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from golden import VIDEO
from PIL import Image

BOX = "<ref>cat</ref><box>[[100, 200, 300, 400]]</box>"


@pytest.mark.parametrize("coding", ["utf-8", "ascii"])
def test_names_that_are_no_utf8_are_printed(folder, coding):
    """In JSON and text, also where the output has few characters."""
    names = [os.fsdecode(b"c\xfft\xe6\xbc\xa2.png"), "c\u6f22.png"]
    shutil.move(folder / "broken.png", folder / names[0])
    shutil.copy(folder / names[0], folder / names[1])
    code = "from langchain_internvl.cli import main; main()"
    arguments = [sys.executable, "-c", code, "read", *names, "--model", "nano"]

    def run(*options):
        environment = {**os.environ, "PYTHONIOENCODING": coding}
        done = subprocess.run(
            [*arguments, *options], env=environment, capture_output=True, check=False
        )
        assert b"Traceback" not in done.stderr
        assert done.returncode == 1
        return done.stdout.decode(coding), done.stderr.decode()

    lines = run("--json")[0].splitlines()
    assert [json.loads(line)["file"] for line in lines] == names
    assert r"c\udcfft" in lines[0]
    assert ("c\u6f22.png" if coding == "utf-8" else r"c\u6f22.png") in lines[1]
    shown = "c\\udcfft\u6f22.png" if coding == "utf-8" else "c?t\u6f22.png"
    said = run()[1].splitlines()  # click writes UTF-8 where the output is ASCII
    for name in (shown, names[1]):
        assert any(line.startswith(f"{name}: ") for line in said), said


def test_a_folder_that_cannot_be_listed_is_said(run, folder, monkeypatch):
    (folder / "box/locked").mkdir(parents=True)
    shutil.copy(folder / "cat.png", folder / "box/a.png")
    walk = os.walk

    def locked(top, onerror=None):
        onerror(PermissionError(13, "Permission denied", str(folder / "box/locked")))
        return walk(top, onerror=onerror)

    monkeypatch.setattr(os, "walk", locked)
    result = run("read", "box")
    assert result.exit_code == 1
    assert "locked: cannot be read: Permission denied" in " ".join(result.stderr.split())
    assert "A cat." in result.stdout


def test_names_that_nothing_can_have_fail_alone(run, folder):
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "space ").write_bytes((folder / "cat.png").read_bytes())
    result = run("describe", "loop.png", "x" * 300, "a\0b", "space ", "cat.png")
    assert result.exit_code == 1
    assert result.stdout == "space :\nA cat.\ncat.png:\nA cat.\n"


def test_a_name_that_is_too_long_has_its_line(run):
    """It is the only name, so that it might be the name of a folder."""
    result = run("describe", "x" * 300, "--json")
    assert result.exit_code == 1
    line = json.loads(result.stdout)
    assert line == {"file": "x" * 300, "ok": False, "error": "cannot be read: File name too long"}


def test_files_are_read_wherever_they_are(run, folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "cat.png"
    shutil.copy(folder / "cat.png", elsewhere)
    (folder / "link.png").symlink_to(elsewhere)
    assert run("describe", str(elsewhere)).exit_code == 0
    assert run("describe", "link.png").exit_code == 0


def test_folders_are_searched_for_what_the_command_takes(run, folder):
    (folder / "deep" / ".hidden").mkdir(parents=True)
    for name in ("deep/b.PNG", "deep/a.jpg", "deep/.hidden/c.png", "deep/.d.png", "deep/e.txt"):
        shutil.copy(folder / "cat.png", folder / name)
    shutil.copy(VIDEO, folder / "deep/v.mp4")
    (folder / "empty").mkdir()
    assert run("describe", "deep").stdout == "deep/a.jpg:\nA cat.\ndeep/b.PNG:\nA cat.\n"
    said = run("ask", "deep", "-q", "What?", "--json", "--num-frames", "2").stdout
    assert [json.loads(one)["file"] for one in said.splitlines()] == [
        "deep/a.jpg", "deep/b.PNG", "deep/v.mp4",
    ]  # fmt: skip
    result = run("describe", "empty", "cat.png")
    assert (result.exit_code, result.stdout) == (1, "cat.png:\nA cat.\n")
    assert "empty: no image or pdf in this folder" in result.stderr


@pytest.mark.parametrize("name", ["cat.png", "paper.pdf", "v.mp4"])
def test_standard_input_is_whatever_it_is(run, folder, name):
    Image.open(folder / "cat.png").convert("RGB").save(folder / "paper.pdf")
    result = run("ask", "-", "-q", "What?", "--num-frames", "2", data=(folder / name).read_bytes())
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("A cat.\n")
    assert ("Frames at" in result.stdout) == (name == "v.mp4")


def test_standard_input_that_is_nothing(run):
    empty = run("describe", "-", data=b"")
    assert (empty.exit_code, empty.stderr) == (1, "-: standard input is empty\n")
    assert run("describe", "-", data=b"no image").exit_code == 1
    assert run("describe", "-", "-").exit_code == 2


def test_an_empty_name_is_not_the_current_folder(run):
    """As of `"$FILE"` where FILE is not set; every image of the folder would be described."""
    result = run("describe", "", "cat.png")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "a name is empty" in result.stderr
    assert run("describe", ".").stdout.count("A cat.") == 2


def test_pdfs_are_read_page_by_page(run, folder):
    pages = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue", "green")]
    pages[0].save(folder / "paper.pdf", "PDF", save_all=True, append_images=pages[1:])
    (folder / "no_ending").write_bytes((folder / "paper.pdf").read_bytes())
    for name in ("paper.pdf", "no_ending"):
        said = run("read", name).stdout
        assert said.startswith("Page 1 of 3:\nA cat.\n\nPage 2 of 3:")
    two = json.loads(run("read", "paper.pdf", "--pages", "2-3", "--json").stdout)
    assert [page["number"] for page in two["pages"]] == [2, 3]
    assert run("ask", "paper.pdf", "-q", "What?").stdout == "A cat.\n"
    found = run("ground", "paper.pdf", "-p", "cat", "--page", "3", "--json", reply=BOX)
    assert json.loads(found.stdout)["page"] == 3
    assert run("read", "paper.pdf", "--pages", "9").exit_code == 1
    pages[0].save(folder / "a.png")
    for command in (("read", "--pages", "1"), ("ground", "-p", "cat", "--page", "1")):
        refused = run(command[0], "a.png", *command[1:])
        assert refused.exit_code == 2
        assert "a.png is not a PDF or TIFF and has no pages" in " ".join(refused.stderr.split())
    assert run("read", "a.png", "paper.pdf", "--pages", "2").exit_code == 0
    assert run("ask", "v.mp4", "-q", "What?", "--pages", "2").exit_code == 2
    for name in ("misspelt.png", "a" * 300):
        missing = run("read", name, "--pages", "2")
        assert (missing.exit_code, name in missing.stderr) == (1, True)


def test_tiffs_are_read_page_by_page(run, folder):
    pages = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue", "green")]
    pages[0].save(folder / "fax.tif", save_all=True, append_images=pages[1:] * 5)
    pages[0].save(folder / "one.tif")
    assert run("read", "fax.tif").stdout.count("A cat.") == 11
    two = json.loads(run("read", "fax.tif", "--pages", "2-3", "--json").stdout)
    assert [page["number"] for page in two["pages"]] == [2, 3]
    found = run("ground", "fax.tif", "-p", "cat", "--json", reply=BOX)
    assert json.loads(found.stdout)["page"] == 1
    for options in ((), ("--pages", "1")):
        assert run("read", "one.tif", *options).stdout == "A cat.\n"
    assert run("read", "one.tif", "--pages", "2").exit_code == 1
    data = (folder / "fax.tif").read_bytes()
    assert run("read", "-", "--pages", "11", data=data).stdout == "A cat.\n"


def test_further_images_of_a_file_are_said(run, folder):
    pages = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue", "green")]
    pages[0].save(folder / "a.gif", save_all=True, append_images=pages[1:])
    assert "The file has 3 images" in run("read", "a.gif").stdout


def test_files_that_are_called_pdf_and_are_none(run, folder):
    Image.new("RGB", (40, 30), "red").save(folder / "image.pdf", "PNG")
    (folder / "page.pdf").write_text("<html>Please log in</html>", "utf-8")
    os.mkfifo(folder / "pipe.pdf")
    assert run("read", "image.pdf").stdout == "A cat.\n"
    for named in (("page.pdf", "pipe.pdf"), (".",)):
        failed = run("read", *named)
        assert failed.exit_code == 1
        assert "page.pdf: is an HTML page" in failed.stderr.replace(f"{folder}/", "")
        assert "is not a regular file" in failed.stderr
        assert "#page" not in failed.stderr


@pytest.mark.parametrize(
    ("address", "sent"),
    [
        ("https://h.example/a", "https://h.example/a#page=2"),
        ("https://h.example/a.PDF?x=1.png", "https://h.example/a.PDF?x=1.png#page=2"),
        ("https://h.example/a.png", "https://h.example/a.png"),
    ],
)
def test_pages_of_addresses(address, sent, run, folder, monkeypatch):
    """Pages are asked of what may be a PDF, and not of an image beside one."""
    Image.new("RGB", (40, 30)).save(folder / "one.pdf", "PDF")
    asked = []

    def read(tool, arguments):
        asked.append(arguments["image"])
        raise ValueError("no internet")

    monkeypatch.setattr("langchain_internvl.cli.jobs._call", read)
    run("read", address, "one.pdf", "--pages", "2")
    assert asked[0] == sent
    assert asked[1].endswith("one.pdf#page=2")


def test_private_addresses_are_not_fetched(run):
    result = run("describe", "http://127.0.0.1:9/cat.png")
    assert result.exit_code == 1
    assert "not a public address" in result.stderr


@pytest.mark.parametrize(
    "command",
    [("read",), ("ask", "-q", "What?"), ("describe",), ("ground", "-p", "cat")],
    ids=lambda command: command[0],
)
def test_an_encrypted_pdf_needs_its_password(run, folder, command, monkeypatch):
    pikepdf = pytest.importorskip("pikepdf")
    Image.new("RGB", (40, 30), "red").save(folder / "open.pdf")
    with pikepdf.open(folder / "open.pdf") as file:
        file.save(folder / "a.pdf", encryption=pikepdf.Encryption(owner="o", user="horse"))
    asked = (command[0], "a.pdf", *command[1:])
    result = run(*asked, reply=BOX)
    assert (result.exit_code, "it is encrypted" in result.stderr) == (1, True)
    assert run(*asked, "--password", "horse", reply=BOX).exit_code == 0
    monkeypatch.setenv("INTERNVL_PDF_PASSWORD", "horse")
    assert run(*asked, reply=BOX).exit_code == 0
