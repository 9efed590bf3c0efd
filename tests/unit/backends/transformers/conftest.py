"""Engines of a tiny checkpoint."""

import pytest
import torch
from engine_support import FOLDER, make_backend, submit, threads, wait_until
from support import load_loop

from langchain_internvl.backends.base import Request
from langchain_internvl.backends.transformers.engine_thread import EngineThread


@pytest.fixture
def backend():
    backend = make_backend()
    yield backend
    backend.close()


@pytest.fixture
def engine_thread():
    engine_thread = EngineThread(lambda: load_loop(FOLDER).loop)
    submit(engine_thread, Request([1], max_tokens=1)).next()  # loaded
    assert wait_until(lambda: not threads())
    yield engine_thread
    engine_thread.close()


@pytest.fixture
def three_threads(monkeypatch):
    """Torch with three threads, and a user who has not chosen any number."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)
