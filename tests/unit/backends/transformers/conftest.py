"""Engines of a tiny checkpoint."""

import pytest
from engine_support import FOLDER, submit, threads, wait_until
from support import load_loop

from langchain_internvl.backends.base import Request
from langchain_internvl.backends.transformers.backend import TransformersBackend
from langchain_internvl.backends.transformers.engine_thread import EngineThread
from langchain_internvl.backends.transformers.loading import LoadOptions
from langchain_internvl.checkpoint import read_checkpoint
from langchain_internvl.prompting.tokenization import load_tokenizer


@pytest.fixture
def backend():
    backend = TransformersBackend(
        read_checkpoint(FOLDER), load_tokenizer(FOLDER), LoadOptions(dtype="float32")
    )
    yield backend
    backend.close()


@pytest.fixture
def engine_thread():
    engine_thread = EngineThread(lambda: load_loop(FOLDER).loop)
    submit(engine_thread, Request([1], max_tokens=1)).next()  # loaded
    assert wait_until(lambda: not threads())
    yield engine_thread
    engine_thread.close()
