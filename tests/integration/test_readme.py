"""The README's Python runs as it stands, on a tiny checkpoint and real photographs."""

import re
import runpy
import shutil

import pytest
from golden import PHOTOS, VIDEO, checkpoint_folder
from readme import LMDEPLOY, README, ROOT, programs

from langchain_internvl import blocks

# What needs LMDeploy is run in its environment, by tests/integration/lmdeploy.
BLOCKS = programs(README.replace(LMDEPLOY, ""))


@pytest.fixture
def photographs(tmp_path, monkeypatch):
    shutil.copy(PHOTOS / "chelsea.png", tmp_path / "cat.png")
    shutil.copy(PHOTOS / "coffee.png", tmp_path)
    shutil.copy(VIDEO, tmp_path / "red-panda.mp4")
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


def test_the_demo_runs(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["demo.py"])
    runpy.run_path(str(ROOT / "cookbook/demo.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert "WORDS MEAN NOTHING" in printed
    assert printed.count("tokens in") == 4
