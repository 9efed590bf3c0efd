"""`doctor`: what is installed, what works, and what to install."""

import json
import re

import pytest
from golden import checkpoint_folder
from readme import ROOT
from typer.testing import CliRunner

from langchain_internvl.cli import doctor
from langchain_internvl.cli.app import app

REQUIRED = ["mcp>=1.10,<3; extra == 'mcp'", "pillow>=11,<14", "torch>=2.7; extra == 'transformers'"]


def run(*arguments):
    return CliRunner().invoke(app, ["doctor", *arguments])


def test_it_says_what_there_is():
    result = run("--model", str(checkpoint_folder("qwen2")))
    assert result.exit_code == 0
    for word in ("torch", "attention", "SDPA", "videos", "original format"):
        assert word in result.stdout
    missing = run("--model", "none-such")
    assert missing.exit_code == 1


@pytest.mark.parametrize("stated", ["bfloat16", None])
def test_it_says_the_dtype_of_a_model(stated, tmp_path, monkeypatch):
    """Weights are loaded as they are stored, where the config states none."""
    config = json.loads((checkpoint_folder("qwen2") / "config.json").read_text("utf-8"))
    for section in (config, config["llm_config"]):
        section.pop("dtype", None)
        section["torch_dtype"] = stated
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    monkeypatch.chdir(tmp_path)  # a long path would break the line
    words = run("--model", ".").stdout.split()
    assert f"original format, qwen2, {stated or 'dtype as stored'}, up to" in " ".join(words)


def test_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda package: None)
    monkeypatch.setattr(doctor, "can_read", lambda: False)
    result = run()
    assert result.exit_code == 1
    for extra in ("transformers", "video", "documents", "quantization", "flash-attn", "mcp"):
        assert f"pip install 'langchain-internvl[{extra}]'" in result.stdout
    assert result.stdout.count("In a clone") == 1


def test_it_knows_every_extra():
    lines = (ROOT / "pyproject.toml").read_text("utf-8").partition("optional-dependencies]")[2]
    lists = re.findall(
        r"^([a-z-]+) = \[(.*?)\]( #[^\n]*)?$",
        lines.partition("[project.")[0],
        re.MULTILINE | re.DOTALL,
    )
    assert len(lists) > 10
    unknown = [
        extra
        for extra, packages, _ in lists
        if not doctor._PACKAGES.keys() & re.findall(r'"([a-z0-9-]+)', packages)
    ]
    assert unknown == ["cli", "all"]  # without cli there is no doctor


@pytest.mark.parametrize(
    ("package", "version", "advice"),
    [
        ("mcp", "3.0.1", "For mcp: pip install 'langchain-internvl[mcp]' 'mcp<3,>=1.10'"),
        ("mcp", "1.9", "For mcp: pip install 'langchain-internvl[mcp]' 'mcp<3,>=1.10'"),
        ("pillow", "9.0", "For pillow: pip install 'langchain-internvl' 'pillow<14,>=11'"),
        ("torch", "2.6", "'langchain-internvl[transformers]' 'torch>=2.7'"),
        ("mcp", "1.30", None),
        ("torch", "2.13.0+cpu", None),
    ],
)
def test_it_looks_at_versions(monkeypatch, package, version, advice):
    real = doctor._version
    monkeypatch.setattr(doctor, "requires", lambda _: REQUIRED)
    monkeypatch.setattr(doctor, "_version", lambda one: version if one == package else real(one))
    result = run()
    said = " ".join(result.stdout.split())
    if advice is None:
        assert result.exit_code == 0
        assert "does not work" not in said
    else:
        assert result.exit_code == 1
        assert f"{package} {version} does not work here" in said
        assert advice in said
