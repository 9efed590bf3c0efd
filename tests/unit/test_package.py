"""What importing the package brings, and what is said when an extra is missing."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from patience import PATIENCE

import langchain_internvl
from langchain_internvl._optional import is_installed, require


def run(program):
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_a_folder_of_that_name_is_no_installed_module(tmp_path, monkeypatch):
    (tmp_path / "no_such_package").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert not is_installed("no_such_package")
    (tmp_path / "no_such_package" / "__init__.py").touch()
    importlib.invalidate_caches()
    assert is_installed("no_such_package")
    assert is_installed("PIL")
    assert not is_installed("no_such_module")
    assert not is_installed("no_such_module.part")
    assert not is_installed("PIL.no_such_part.part")


def test_importing_the_package_imports_no_torch():
    done = run(
        "import sys, langchain_internvl as package\n"
        "for name in package.__all__: getattr(package, name)\n"
        "package.ChatInternVL(model='/no/such/folder')\n"
        "package.ChatInternVL(model='x', backend='lmdeploy')\n"
        "package.ChatInternVL(model='x', base_url='http://127.0.0.1:9/v1')\n"
        "heavy = {'torch', 'transformers', 'tokenizers', 'safetensors', 'huggingface_hub',"
        " 'lmdeploy', 'openai', 'xgrammar'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_importing_the_chat_model_imports_nothing_that_takes_long():
    """benchmarks/import_time.py measures it; goal: 100 ms beyond LangChain's own chat model."""
    done = run(
        "import sys\n"
        "import langchain_core.language_models.chat_models\n"
        "before = set(sys.modules)\n"
        "import langchain_internvl\n"
        "langchain_internvl.ChatInternVL\n"
        "langchain_internvl.ChatInternVL.model_fields['temperature'].description[0]\n"
        "tops = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "late = {'numpy', 'PIL', 'httpx', 'httpcore', 'rich', 'jinja2', 'anyio', 'av', 'decord',"
        " 'pypdfium2', 'torch', 'transformers', 'tokenizers', 'safetensors', 'huggingface_hub',"
        " 'lmdeploy', 'openai', 'xgrammar', 'langchain', 'langgraph', 'mcp', 'typer'}\n"
        "print(sorted(late & tops), len(tops))"
    )
    assert done.stdout.startswith("[] "), done.stdout + done.stderr


def test_public_names():
    assert set(langchain_internvl.__all__) <= set(dir(langchain_internvl))
    for name in langchain_internvl.__all__:
        assert getattr(langchain_internvl, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = langchain_internvl.nothing


def test_a_missing_extra_is_named():
    with pytest.raises(ImportError, match=r"pip install 'langchain-internvl\[transformers\]'"):
        require("no_such_module", extra="transformers")


def test_without_torch_the_chat_model_says_what_to_install():
    done = run(
        "import sys; sys.modules['torch'] = None; sys.modules['transformers'] = None\n"
        "from langchain_internvl import ChatInternVL\n"
        "from golden import checkpoint_folder\n"
        "ChatInternVL(model=str(checkpoint_folder('qwen2'))).invoke('x')".replace(
            "from golden", "sys.path.insert(0, 'tests')\nfrom golden"
        )
    )
    assert "pip install 'langchain-internvl[transformers]'" in done.stderr


def test_names_of_test_files_are_unique():
    """pytest imports a folder without `__init__` by the bare name of its files."""
    root = Path(__file__).parents[1]
    names = [path.name for path in root.rglob("test_*.py")]
    assert len(names) == len(set(names)), sorted(n for n in names if names.count(n) > 1)
