"""The command, as a person types it."""

import json
import shutil
import subprocess
import sys

import pytest
from fault_server import FaultServer, error, lines, words
from golden import VIDEO, checkpoint_folder
from PIL import Image
from typer.testing import CliRunner

from langchain_internvl import ChatInternVL, __version__, chat_models
from langchain_internvl._optional import require
from langchain_internvl.backends.scripted import ScriptedBackend
from langchain_internvl.cli import app as module
from langchain_internvl.cli import jobs, main
from langchain_internvl.errors import CheckpointError

BOX = "<ref>cat</ref><box>[[100, 200, 300, 400]]</box>"


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


def test_what_is_read_is_printed_to_the_letter(run):
    text = "MAC 00:a:1b\tfe80:b:c [red]x[/red] :smile:"
    assert run("read", "cat.png", reply=text).stdout == f"{text}\n"
    assert json.loads(run("read", "cat.png", "--json", reply=text).stdout)["text"] == text


def test_what_is_no_folder_is_said(run):
    result = run("describe", "cat.png", "--out", "cat.png")
    assert result.exit_code == 2
    assert "is no folder" in result.stderr


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
        (["--out", ""], "the path is empty"),
        (["--pages", "2-1"], "'2-1' is no range"),
        (["--pages", "x"], "'x' is no page number"),
        (["--out", "/proc"], "no folder that can be written"),
        (["--model", ""], "it is empty or blank"),
        (["--device", " "], "'--device': it is empty or blank"),
        (["--question", ""], "'-q': it is empty or blank"),
        (["--language", "\t"], "'--language': it is empty or blank"),
        (["--region", ""], "is no box"),
        (["--region", "the left"], "'the left' is no box"),
        (["--region", "0,0,1200,500"], "in thousandths of the picture"),
        (
            ["--base-url", "http://localhost:1/v1", "--device", "cpu", "--dtype", "float16"],
            "--device, --dtype: a server has loaded its model already",
        ),
    ],
)
def test_wrong_options_are_a_line_and_exit_code_2(folder, arguments, words):
    result = CliRunner().invoke(module.app, ["describe", "cat.png", *arguments])
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.replace("│", " ").split())
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("ask", "-q", ""), "empty or blank"),
        (("ask", "-q", " \n"), "empty or blank"),
        (("ground", "-p", ""), "empty or blank"),
        (("ground", "-p", "   "), "empty or blank"),
        (("read", "--language", ""), "empty or blank"),
        (("read", "--region", "1,2"), "'1,2' is no box"),
        (("ground", "-p", "cat", "--region", "x"), "'x' is no box"),
        (("ask", "-q", "What?", "--start", "-1"), "--start: -1 is no second"),
        (("ask", "-q", "What?", "--start", "nan"), "--start: nan is no second"),
        (("ask", "-q", "What?", "--start", "inf"), "--start: inf is no second"),
        (("ask", "-q", "What?", "--end", "nan"), "--end: nan is no second"),
        (("ask", "-q", "What?", "--start", "5", "--end", "1"), "--start 5 is after --end 1"),
    ],
)
def test_what_no_input_can_have_is_said_once_before_any_is_read(run, arguments, words):
    """An unset variable of the shell is no question: models describe, or invent a box."""
    result = run(arguments[0], "v.mp4", "cat.png", "none.png", *arguments[1:], reply=BOX)
    assert (result.exit_code, result.stdout, result.models) == (2, "", [])
    assert words in " ".join(result.stderr.replace("│", " ").split())


def test_the_end_of_a_video_may_be_endless(run):
    result = run("ask", "v.mp4", "-q", "What?", "--num-frames", "2", "--start", "0", "--end", "inf")
    assert result.exit_code == 0, result.stderr


def test_errors_name_options_and_have_no_advice_for_agents(run, folder, monkeypatch):
    def wrong(*_, **__):
        raise CheckpointError("/a/device_map/b.x: When passing device_map as a string, ...")

    result = run("describe", "http://127.0.0.1:9/cat.png", "x" * 300)
    assert result.stderr.count("not a public address") == 1
    assert "File name too long" in result.stderr
    for advice in ("image:1", "a handle", "Use another"):
        assert advice not in result.stderr
    monkeypatch.setattr(ScriptedBackend, "stream", wrong)
    said = run("describe", "cat.png").stderr
    assert said == "/a/device_map/b.x: When passing --device as a string, ...\n"


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
    for root in (str(tmp_path / "none-such"), str(tmp_path / "file"), "", "x" * 300):
        assert run("mcp", "--root", str(tmp_path), "--root", root).exit_code == 2


def test_folders_of_mcp_are_what_clients_may_read(run, tmp_path, monkeypatch):
    served = []
    monkeypatch.setattr("langchain_internvl.tools.mcp_server.serve", served.extend)
    (tmp_path / "b").mkdir()
    assert run("mcp", "--root", str(tmp_path), "--root", "b").exit_code == 0
    assert {tool.media_policy.roots for tool in served} == {(str(tmp_path), "b")}


def test_empty_names_of_a_view_are_refused(run, folder):
    for arguments in (("nano", ""), ("", "view"), ("nano", "view", "--revision", "")):
        result = run("serve-view", *arguments)
        assert result.exit_code == 2
        assert "empty" in result.stderr
    assert not (folder / "view").exists()
    assert run("doctor", "--model", "").exit_code == 2


def test_a_server_is_asked(folder):
    server = FaultServer(lines(*words("A cat.")), models=({"id": "vl", "owned_by": "vllm"},))
    with server.running() as url:
        arguments = ["describe", "cat.png", "--base-url", url, "--model", "vl"]
        result = CliRunner().invoke(module.app, arguments)
    assert (result.exit_code, result.stdout) == (0, "A cat.\n")
    assert server.asked[0]["model"] == "vl"
