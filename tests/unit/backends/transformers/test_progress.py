"""Bars of weight loading: only for large models, at a terminal."""

import io
import sys

import pytest
from transformers.utils import logging

from langchain_internvl.backends.transformers import progress


def bar_of(folder, monkeypatch, *, is_terminal):
    """What a bar of transformers writes while weights of a folder load."""
    written = io.StringIO()
    monkeypatch.setattr(written, "isatty", lambda: is_terminal, raising=False)
    monkeypatch.setattr(sys, "stderr", written)
    with progress.watched(folder, lambda: False):
        for _ in logging.tqdm(range(3), file=written):
            pass
    return written.getvalue()


@pytest.mark.parametrize(
    ("size", "is_terminal", "is_shown"),
    [(10, True, False), (2**30, True, True), (2**30, False, False)],
)
def test_bars_are_for_large_models_at_terminals(tmp_path, monkeypatch, size, is_terminal, is_shown):
    monkeypatch.setattr(logging, "_tqdm_active", True)
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(size)
    assert bool(bar_of(tmp_path, monkeypatch, is_terminal=is_terminal)) is is_shown
    after = io.StringIO()
    for _ in logging.tqdm(range(3), file=after):
        pass
    assert "3/3" in after.getvalue()  # others have their bars again
