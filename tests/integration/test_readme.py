"""The README's Python runs as it stands, on a tiny checkpoint and real photographs."""

import re
import runpy
import shutil

import pytest
from golden import PHOTOS, VIDEO, checkpoint_folder
from readme import LMDEPLOY, README, ROOT, programs

from langchain_internvl.messages import blocks

# What needs LMDeploy is run in its environment, by tests/integration/lmdeploy.
BLOCKS = programs(README.replace(LMDEPLOY, ""))

NANO_SAYS = "From left to right: a red circle, a blue square."


@pytest.fixture
def photographs(tmp_path, monkeypatch):
    shutil.copy(PHOTOS / "chelsea.png", tmp_path / "cat.png")
    shutil.copy(PHOTOS / "coffee.png", tmp_path)
    shutil.copy(VIDEO, tmp_path / "red-panda.mp4")
    (tmp_path / "cookbook").mkdir()
    shutil.copy(ROOT / "cookbook/shapes.png", tmp_path / "cookbook")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", ["internlm2", "qwen2"])
def test_readme(name, photographs, capsys):
    """Block after block, each using what came before."""
    namespace = {}
    model = repr(str(checkpoint_folder(name)))
    for number, block in enumerate(BLOCKS, 1):
        program = block.replace('"OpenGVLab/InternVL2-8B"', model)
        program = program.replace("max_tokens=1024", "max_tokens=6").replace(
            "temperature=0)", "temperature=0, max_tokens=6)"
        )
        exec(compile(program, f"README block {number}", "exec"), namespace)
    printed = capsys.readouterr().out
    assert namespace["llm"].render(namespace["messages"]) in printed
    assert "<|im_end|>?" in printed
    assert NANO_SAYS in printed


def test_the_first_screen_shows_a_picture_and_its_answer():
    first_screen = "\n".join(README.splitlines()[:40])
    assert "(cookbook/shapes.png)" in first_screen
    assert f"# {NANO_SAYS}" in first_screen
    assert first_screen.index('model="nano"') < first_screen.index("OpenGVLab/InternVL2-8B")


def test_every_section_of_the_quick_start_has_code():
    quick_start = README.split("## The quick start, in LangChain")[1].split("\n## ")[0]
    sections = quick_start.split("\n### ")[1:]
    assert len(sections) >= 11
    for section in sections:
        assert "```text" in section, section.splitlines()[0]
        assert "```python" in section, section.splitlines()[0]


def test_the_readme_names_what_make_has():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in ("demo", "test", "lint", "format", "typing", "bench", "help"):
        assert f"\n{target}:" in makefile
        assert f"`{target}`" in README or f"make {target}" in README


def test_the_readme_has_the_whole_table_of_blocks():
    for word in re.findall(r"`([a-z_-]+)`", blocks.__doc__):
        assert f"`{word}`" in README, word


def test_the_demo_says_what_is_true(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["demo.py"])
    runpy.run_path(str(ROOT / "cookbook/demo.py"), run_name="__main__")
    printed = capsys.readouterr().out
    for line in (
        "InternVL: From left to right: a red circle, a blue square.",
        "InternVL: Red.",
        "InternVL: Hello world\nInvoice 2041",
        "InternVL: A red circle moves right.",
    ):
        assert line in printed
    box = re.search(r"<ref>blue square</ref><box>\[\[(.*)\]\]</box>", printed).group(1)
    truth = [1000 * one / 448 for one in (270, 230, 381, 341)]
    for said, true in zip(map(int, box.split(", ")), truth, strict=True):
        assert abs(said - true) < 60
    assert printed.count("tokens in") == 5


def test_the_demo_takes_files_and_a_model(capsys, monkeypatch):
    files = [str(PHOTOS / "chelsea.png"), str(VIDEO)]
    model = str(checkpoint_folder("internlm2"))
    monkeypatch.setattr("sys.argv", ["demo.py", "--model", model, *files])
    runpy.run_path(str(ROOT / "cookbook/demo.py"), run_name="__main__")
    assert capsys.readouterr().out.count("tokens in") == 2
