"""The command, as a person types it."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from fault_server import FaultServer, error, lines, words
from golden import PHOTOS, VIDEO, checkpoint_folder
from PIL import Image
from typer.testing import CliRunner

from langchain_internvl import ChatInternVL, __version__, chat_models
from langchain_internvl._optional import require
from langchain_internvl.backends.scripted import ScriptedBackend
from langchain_internvl.cli import app as module
from langchain_internvl.cli import jobs, main

BOX = "<ref>cat</ref><box>[[100, 200, 300, 400]]</box>"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    shutil.copy(PHOTOS / "chelsea.png", tmp_path / "cat.png")
    shutil.copy(PHOTOS / "coffee.png", tmp_path / "cup.png")
    shutil.copy(VIDEO, tmp_path / "v.mp4")
    (tmp_path / "broken.png").write_bytes(b"nothing")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(folder, monkeypatch):
    """Runs the command with a model that says one thing."""

    def run(*arguments, reply="A cat.", data=None):
        asked = []

        def make(model, **settings):
            asked.append(model)
            backend = ScriptedBackend(lambda request: reply)
            settings = {**settings, "max_tiles": 1}
            return ChatInternVL(model=str(checkpoint_folder("qwen2")), backend=backend, **settings)

        monkeypatch.setattr(chat_models, "ChatInternVL", make)
        result = CliRunner().invoke(module.app, arguments, input=data)
        assert result.exception is None or isinstance(result.exception, SystemExit)
        result.models = asked
        return result

    return run


def test_one_file_gives_its_answer_and_nothing_else(run):
    result = run("describe", "cat.png", "--model", "nano")
    assert (result.exit_code, result.stdout, result.models) == (0, "A cat.\n", ["nano"])


def test_many_files_are_named_and_a_failure_does_not_stop_the_others(run):
    result = run("read", "cat.png", "broken.png", "none.png", "cup.png")
    assert result.exit_code == 1
    assert result.stdout == "cat.png:\nA cat.\ncup.png:\nA cat.\n"
    assert "broken.png: " in result.stderr
    assert "none.png: " in result.stderr


def test_json_is_a_line_for_each(run):
    result = run("ground", "cat.png", "none.png", "-p", "cat", "--json", reply=BOX)
    first, second = map(json.loads, result.stdout.splitlines())
    assert (first["file"], first["ok"], second["ok"]) == ("cat.png", True, False)
    assert first["boxes"][0]["pixels"] == [45, 60, 135, 120]
    assert "no such file" in second["error"]


def test_results_are_kept_in_a_folder(run, folder):
    run("ground", "cat.png", "cup.png", "-p", "cat", "--out", "found", reply=BOX)
    names = sorted(path.name for path in (folder / "found").iterdir())
    assert names == ["0001-cat.png", "0001-cat.txt", "0002-cup.png", "0002-cup.txt"]
    with Image.open(folder / "found/0001-cat.png") as drawn, Image.open("cat.png") as picture:
        assert drawn.size == picture.size
    run("ground", "cat.png", "-p", "cat", "--out", "found", "--json", reply=BOX)
    assert json.loads((folder / "found/0001-cat.json").read_text())["phrase"] == "cat"


def test_ask_takes_pictures_and_videos_in_their_order(run, folder):
    shutil.copy(VIDEO, folder / "cat.mp4")
    result = run("ask", "cat.mp4", "cat.png", "-q", "What is it?", "--num-frames", "2",
                 "--out", "said")  # fmt: skip
    assert result.exit_code == 0
    first, second = result.stdout.split("cat.png:\n")
    assert first.startswith("cat.mp4:\nA cat.\n(Frames at ")
    assert second == "A cat.\n"
    assert sorted(one.name for one in (folder / "said").iterdir()) == [
        "0001-cat.txt",
        "0002-cat.txt",
    ]


@pytest.mark.parametrize("options", [["--start", "1"], ["--num-frames", "9", "--end", "2"]])
def test_options_of_videos_are_refused_where_there_is_none(run, options):
    result = run("ask", "cat.png", "-q", "What?", *options)
    assert result.exit_code == 2
    assert "is no video; leave --" in " ".join(result.stderr.split())
    assert run("ask", "cat.png", "v.mp4", "-q", "What?", *options).exit_code in {0, 1}


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


def test_what_is_read_is_printed_to_the_letter(run):
    text = "MAC 00:a:1b\tfe80:b:c [red]x[/red] :smile:"
    assert run("read", "cat.png", reply=text).stdout == f"{text}\n"
    assert json.loads(run("read", "cat.png", "--json", reply=text).stdout)["text"] == text


def test_names_that_nothing_can_have_fail_alone(run, folder):
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "space ").write_bytes((folder / "cat.png").read_bytes())
    result = run("describe", "loop.png", "x" * 300, "a\0b", "space ", "cat.png")
    assert result.exit_code == 1
    assert result.stdout == "space :\nA cat.\ncat.png:\nA cat.\n"


def test_what_is_no_folder_is_said(run):
    result = run("describe", "cat.png", "--out", "cat.png")
    assert result.exit_code == 2
    assert "is no folder" in result.stderr


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
        assert "a.png is not a PDF and has no pages" in " ".join(refused.stderr.split())
    assert run("read", "a.png", "paper.pdf", "--pages", "2").exit_code == 0
    assert run("ask", "v.mp4", "-q", "What?", "--pages", "2").exit_code == 2
    for name in ("misspelt.png", "a" * 300):
        missing = run("read", name, "--pages", "2")
        assert (missing.exit_code, name in missing.stderr) == (1, True)


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


def test_a_model_that_cannot_be_used_is_said_once(folder):
    (folder / "config.json").write_text("{}")
    result = CliRunner().invoke(module.app, ["read", ".", "--model", str(folder)])
    assert result.exit_code == 1
    assert result.stderr.count("no InternVL") == 1
    assert "cat.png" not in result.output
    assert "Traceback" not in result.output


def test_a_server_that_knows_no_such_key_is_asked_once(folder):
    server = FaultServer(error(401, {"error": {"message": "no such key", "code": 401}}))
    with server.running() as url:
        arguments = ["describe", "cat.png", "cup.png", "--base-url", url, "--model", "vl"]
        result = CliRunner().invoke(module.app, arguments)
    assert result.exit_code == 1
    assert "no such key" in result.stderr
    assert server.attempts == 1
    assert "cup.png" not in result.output


def test_a_package_that_the_model_needs_is_said_once(run, folder, monkeypatch):
    def missing(*_, **__):
        require("openai_is_not_here", extra="server")

    monkeypatch.setattr(jobs, "_NEEDED", frozenset({"openai_is_not_here"}))
    monkeypatch.setattr(ScriptedBackend, "stream", missing)
    result = run("describe", "cat.png", "cup.png")
    assert result.exit_code == 3
    assert result.stderr.count("openai_is_not_here") == 1


def test_private_addresses_are_not_fetched(run):
    result = run("describe", "http://127.0.0.1:9/cat.png")
    assert result.exit_code == 1
    assert "not a public address" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--base-url", "banana"], "--base-url: an address is like"),
        (["--base-url", "http://localhost:1/v1", "--dtype", "float16"], "loaded its model already"),
        (["--dtype", "floaty"], "--dtype: Input should be 'auto', 'bfloat16'"),
        (["--quantization", "3bit"], "--quantization: Input should be '8bit' or '4bit'"),
        (["--max-tokens", "0"], "--max-tokens"),
        (["--max-tiles", "none"], "--max-tiles"),
        (["--nonsense"], "--nonsense"),
        (["--out", "-"], "not written to standard output"),
        (["--pages", "2-1"], "'2-1' is no range"),
        (["--pages", "x"], "'x' is no page number"),
    ],
)
def test_wrong_options_are_a_line_and_exit_code_2(folder, arguments, words):
    result = CliRunner().invoke(module.app, ["describe", "cat.png", *arguments])
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.replace("│", " ").split())
    assert "Traceback" not in result.output


def test_options_reach_the_model(folder, monkeypatch):
    asked = {}

    def make(**settings):
        asked.update(settings)
        return ChatInternVL(
            model=str(checkpoint_folder("qwen2")), backend=ScriptedBackend(["Eine Katze."])
        )

    monkeypatch.setattr(chat_models, "ChatInternVL", make)
    given = {"max-tokens": "7", "max-tiles": "3", "dtype": "float16", "quantization": "4bit",
             "device": "cuda:1", "model": "nano", "language": "German"}  # fmt: skip
    options = [one for name, value in given.items() for one in (f"--{name}", value)]
    result = CliRunner().invoke(module.app, ["describe", "cat.png", "--json", *options])
    assert asked == {
        "model": "nano", "max_tokens": 7, "max_tiles": 3, "dtype": "float16",
        "quantization": "4bit", "device_map": "cuda:1", "temperature": 0,
    }  # fmt: skip
    assert "Answer in German." in json.loads(result.stdout)["question"]


def test_errors_are_a_line(folder, monkeypatch):
    def explode(*_, **__):
        raise AssertionError("a mistake of ours")

    monkeypatch.setattr("langchain_internvl.cli.commands.describe.run_jobs", explode)
    result = CliRunner().invoke(module.app, ["describe", "cat.png"])
    assert result.exit_code == 1
    assert result.stderr == (
        "AssertionError: a mistake of ours (INTERNVL_TRACEBACK=1 shows where)\n"
    )
    monkeypatch.setenv("INTERNVL_TRACEBACK", "1")
    assert isinstance(
        CliRunner().invoke(module.app, ["describe", "cat.png"]).exception, AssertionError
    )


def test_the_version():
    result = CliRunner().invoke(module.app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"langchain-internvl {__version__}\n")


def test_without_the_extra_it_says_so_even_for_help(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "typer", None)
    monkeypatch.setattr(sys, "argv", ["langchain-internvl", "--help"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 3
    assert "pip install 'langchain-internvl[cli]'" in capsys.readouterr().err


def test_help_imports_nothing_heavy():
    """What takes longest to import is not there when help is printed."""
    code = (
        "import sys\nfrom langchain_internvl.cli.app import app\n"
        "try:\n    app(['read', '--help'])\nexcept SystemExit: pass\n"
        "print(sorted({one.partition('.')[0] for one in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--max-tiles" in done.stdout
    # typer itself imports pydantic where it is there.
    for heavy in ("langchain_core", "numpy", "PIL", "torch", "transformers", "httpx"):
        assert f"'{heavy}'" not in done.stderr


def test_help_names_every_command(run):
    said = run("--help").stdout
    for name in ("describe", "read", "ground", "ask", "doctor", "mcp", "eval", "compare"):
        assert name in said
    assert run("ground", "cat.png").exit_code == 2  # without a phrase


def test_a_root_of_mcp_that_is_no_folder_is_refused(run, tmp_path):
    (tmp_path / "file").touch()
    for root in (tmp_path / "none-such", tmp_path / "file"):
        assert run("mcp", "--root", str(root)).exit_code == 2


def test_a_server_is_asked(folder):
    server = FaultServer(lines(*words("A cat.")), models=({"id": "vl", "owned_by": "vllm"},))
    with server.running() as url:
        arguments = ["describe", "cat.png", "--base-url", url, "--model", "vl"]
        result = CliRunner().invoke(module.app, arguments)
    assert (result.exit_code, result.stdout) == (0, "A cat.\n")
    assert server.asked[0]["model"] == "vl"


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
