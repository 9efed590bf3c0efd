"""The Python of the README and of every page of the documentation runs as it stands.

A tiny checkpoint stands for the one of gigabytes; nothing is cut out.
"""

import re
import runpy
import shutil

import pytest
from golden import PHOTOS, VIDEO, checkpoint_folder
from readme import IN_LMDEPLOY, README, ROOT, pages, programs, run_page

from langchain_internvl.messages import blocks

LARGE = 'model="OpenGVLab/InternVL2-8B"'
NANO_SAYS = "From left to right: a red circle, a blue square."
PRINTED = {
    "README.md": NANO_SAYS,
    "docs/index.md": NANO_SAYS,
    "docs/guides/bridges.md": NANO_SAYS,
    "docs/guides/evaluation.md": "1.000 [",
    "docs/guides/video.md": "A red circle moves right.",
}
"""What pages with nano say that they print."""
RUNS = [
    (page, name)
    for page, text in pages().items()
    if programs(text) and page not in IN_LMDEPLOY
    # A page with nano alone is the same for every checkpoint.
    for name in (("internlm2", "qwen2") if LARGE in "".join(programs(text)) else ("qwen2",))
]


@pytest.fixture
def _in_a_clone(tmp_path, monkeypatch):
    """What the pages name, as in a clone; what they write does not end up in the repository."""
    shutil.copytree(ROOT / "cookbook", tmp_path / "cookbook")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("_in_a_clone")
@pytest.mark.parametrize(("page", "name"), RUNS)
def test_a_page_runs_uncut_in_one_namespace(page, name, capsys):
    model = f"model={str(checkpoint_folder(name))!r}"
    run_page(
        page,
        (LARGE, model),
        # Random weights never end a reply.
        ("max_tokens=1024", "max_tokens=6"),
        (f"{model}, temperature=0)", f"{model}, temperature=0, max_tokens=6)"),
    )
    assert PRINTED.get(page, "") in capsys.readouterr().out


def test_what_pages_link_and_name_exists():
    for page, text in pages().items():
        prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose):
            assert "://" in target or ((ROOT / page).parent / target).exists(), f"{page}: {target}"
        for file in re.findall(r'"(cookbook/[^"]+)"', text):
            assert (ROOT / file).is_file(), f"{page}: {file}"


def test_the_site_shows_code_as_it_is_written():
    """Python-Markdown keeps the backslash of an escaped pipe within code; GitHub removes it."""
    for page, text in pages().items():
        assert page == "README.md" or re.findall(r"`[^`\n]*\\\|[^`\n]*`", text) == [], page


def test_the_first_screen_shows_an_image_and_its_answer():
    first_screen = "\n".join(README.splitlines()[:40])
    assert "(cookbook/shapes.png)" in first_screen
    assert f"# {NANO_SAYS}" in first_screen
    assert first_screen.index('model="nano"') < first_screen.index("OpenGVLab/InternVL2-8B")


def test_the_readme_is_read_in_five_minutes():
    assert len(README.splitlines()) <= 220


def test_every_section_of_the_quick_start_has_code():
    sections = pages()["docs/quickstart.md"].split("\n## ")[1:]
    assert len(sections) >= 11
    for section in sections:
        assert "```text" in section, section.splitlines()[0]
        assert "```python" in section, section.splitlines()[0]


def test_every_target_of_make_is_explained():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE).group(1).split()
    development = (ROOT / "DEVELOPMENT.md").read_text("utf-8")
    for target in targets:
        assert re.search(rf"^{target}:.* ## ", makefile, re.MULTILINE), target
        assert f"`make {target}`" in development, target


def test_the_guide_to_images_has_the_whole_table_of_blocks():
    guide = pages()["docs/guides/images.md"]
    for word in re.findall(r"`([a-z_-]+)`", blocks.__doc__):
        assert f"`{word}`" in guide, word


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


def test_the_readme_names_every_extra():
    lines = (ROOT / "pyproject.toml").read_text("utf-8").partition("optional-dependencies]")[2]
    extras = re.findall(r"^([a-z-]+) = \[", lines.partition("[project.")[0], re.MULTILINE)
    assert len(extras) > 10
    assert [extra for extra in extras if f"`{extra}`" not in README] == []
