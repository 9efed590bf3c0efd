"""A folder with media, and the command in it."""

import shutil

import pytest
from golden import PHOTOS, VIDEO, checkpoint_folder
from typer.testing import CliRunner

from langchain_internvl import ChatInternVL, chat_models
from langchain_internvl.backends.scripted import ScriptedBackend
from langchain_internvl.cli import app as module


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
