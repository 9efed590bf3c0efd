"""Shared fixtures. No test reaches the internet; the few that talk HTTP do so on loopback."""

import os
from contextlib import suppress

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["LANGSMITH_TRACING"] = "false"

import pytest
from engine_support import make_backend
from golden import TINY, checkpoint_folder
from pytest_socket import socket_allow_hosts
from support import load_loop

from langchain_internvl import ChatInternVL
from langchain_internvl.prompting.tokenization import load_tokenizer

with suppress(ImportError):  # LMDeploy's environment does without hypothesis
    import hypothesis

    # No example is under a time limit: a busy machine makes no test fail.
    hypothesis.settings.register_profile(
        "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.load_profile("patient")


def pytest_runtest_setup():
    socket_allow_hosts(["127.0.0.1", "::1"], allow_unix_socket=True)


@pytest.fixture(scope="session", params=TINY)
def tiny(request):
    """Each of the tiny original checkpoints, by the name of its language model."""
    return request.param


@pytest.fixture(scope="session")
def tokenizers():
    """Tokenizers of the tiny checkpoints, loaded once."""
    kept = {}

    def get(name):
        if name not in kept:
            kept[name] = load_tokenizer(checkpoint_folder(name))
        return kept[name]

    return get


@pytest.fixture(scope="session")
def loops():
    """Decode loops of the tiny checkpoints in float32, loaded once."""
    kept = {}

    def get(name):
        if name not in kept:
            kept[name] = load_loop(checkpoint_folder(name))
        return kept[name]

    return get


@pytest.fixture(scope="session")
def models():
    """Greedy chat models of the tiny checkpoints in float32, loaded once."""
    kept = {}

    def get(name, **settings):
        if name not in kept:
            kept[name] = ChatInternVL(
                model=str(checkpoint_folder(name)), dtype="float32", temperature=0, max_tokens=24
            )
        # Copies share what is loaded.
        return kept[name].model_copy(update=settings)

    yield get
    for model in kept.values():
        model.close()


@pytest.fixture
def engine(request):
    """An engine of a tiny checkpoint; the parameter, if any, holds its limits."""
    backend = make_backend(**getattr(request, "param", {}))
    yield backend
    backend.close()
