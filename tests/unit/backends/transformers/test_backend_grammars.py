"""What a request waits for before its row begins: its grammar."""

import asyncio
import threading
import time

import pytest
from engine_support import make_backend
from golden import checkpoint_folder
from patience import PATIENCE

from langchain_internvl.backends.base import Request
from langchain_internvl.backends.transformers.grammars import GrammarBook
from langchain_internvl.errors import RequestTimeoutError, SchemaError
from langchain_internvl.grammars.grammar import Grammar, json_grammar

FOLDER = checkpoint_folder("qwen2")


@pytest.fixture
def backend():
    backend = make_backend(FOLDER)
    yield backend
    backend.close()


def request_for(word, **settings):
    grammar = json_grammar({"enum": [word]})
    return Request([1, 2], max_tokens=50, grammar=grammar, stop_ids=frozenset({0}), **settings)


def said(backend, request):
    return "".join(delta.text for delta in backend.stream(request))


async def asaid(backend, request):
    return "".join([delta.text async for delta in backend.astream(request)])


async def late(backend, request, go_on):
    """A request that is late; a loop waits at its end for the grammar to be there."""
    with pytest.raises(RequestTimeoutError, match=r"timeout=0\.05"):
        await asaid(backend, request)
    go_on.set()


@pytest.fixture
def go_on(monkeypatch):
    """Set, it lets grammars be compiled; before, none is."""
    go_on, compile_now = threading.Event(), GrammarBook.compile

    def compile_late(book, request):
        go_on.wait(PATIENCE)
        compile_now(book, request)

    monkeypatch.setattr(GrammarBook, "compile", compile_late)
    yield go_on
    go_on.set()


def test_the_timeout_counts_compiling(backend, go_on):
    word = f"w{time.monotonic_ns()}"  # grammars are kept for all engines
    with pytest.raises(RequestTimeoutError, match=r"timeout=0\.05"):
        said(backend, request_for(word, timeout=0.05))
    go_on.set()
    for timeout in (PATIENCE, None, PATIENCE):
        assert said(backend, request_for(word, timeout=timeout)) == f'"{word}"'


def test_the_timeout_of_tasks_counts_compiling(backend, go_on):
    word = f"w{time.monotonic_ns()}"
    asyncio.run(late(backend, request_for(word, timeout=0.05), go_on))
    for timeout in (PATIENCE, None, PATIENCE):
        assert asyncio.run(asaid(backend, request_for(word, timeout=timeout))) == f'"{word}"'


@pytest.mark.parametrize("timeout", [None, PATIENCE])
def test_grammars_that_cannot_be_made_raise(backend, timeout):
    broken = '{"type": "grammar", "grammar": "root ::= nothing"}'
    for ask in (said, lambda *asked: asyncio.run(asaid(*asked))):
        with pytest.raises(SchemaError, match="cannot be made"):
            ask(backend, Request([1, 2], grammar=Grammar(broken), timeout=timeout))
