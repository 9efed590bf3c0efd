"""A folder of scans, and the command that reads it."""

import pytest
from drawn_pages import draw_page, encode, scripted
from typer.testing import CliRunner

from langchain_internvl import chat_models
from langchain_internvl.cli.app import app


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scans/old").mkdir(parents=True)
    (tmp_path / "scans/a.png").write_bytes(encode(draw_page("one", ground="yellow")))
    (tmp_path / "scans/old/a.png").write_bytes(encode(draw_page("two", ground="pink")))
    first, second = (
        draw_page("x", ground="red", size=(90, 80)),
        draw_page(ground="lime", size=(90, 80)),
    )
    (tmp_path / "scans/b.tiff").write_bytes(
        encode(first, "TIFF", save_all=True, append_images=[second])
    )
    return tmp_path


@pytest.fixture
def ocr(folder, monkeypatch):
    """Runs `langchain-internvl ocr` with a scripted model; gives its result and requests."""
    make = chat_models.ChatInternVL

    def run(*arguments, reply=lambda request: "Grüße aus Köln", given=b""):
        llm, backend = scripted(reply)
        monkeypatch.setattr(
            chat_models, "ChatInternVL", lambda **given: make(model=llm.model, backend=backend)
        )
        result = CliRunner().invoke(app, ["ocr", *arguments], input=given)
        monkeypatch.setattr(chat_models, "ChatInternVL", make)
        return result, backend.requests

    return run
