"""Connections to servers: none, one that is redirected, and one that is closed."""

import socket
import threading

import pytest
from fault_server import FaultServer, chunk, lines, send, words
from patience import PATIENCE

from langchain_internvl.backends.base import Request
from langchain_internvl.backends.server import backend as backend_module
from langchain_internvl.backends.server.backend import ServerBackend, ServerOptions
from langchain_internvl.backends.server.client import ServerAddress
from langchain_internvl.backends.server.retries import Retries
from langchain_internvl.errors import (
    BackendError,
    BrokenReplyError,
    ServerError,
    ServerUnavailableError,
)
from langchain_internvl.messages.conversation import Text, Turn

TURNS = (Turn("user", (Text("Hello"),)),)


def test_a_client_that_cannot_be_made_leaves_no_thread(monkeypatch):
    def fail(_address):
        raise ValueError("no such address")

    monkeypatch.setattr(backend_module, "Client", fail)
    before = set(threading.enumerate())
    backend = ServerBackend(ServerAddress("http://x/v1"), ServerOptions("vl"))
    with pytest.raises(ValueError, match="no such address"):
        next(backend.stream(Request((), turns=TURNS)))
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_takes_nothing_to_another_host(status):
    """The conversation and `default_headers` are for the host that was given."""
    other = FaultServer(lines(*words("Hel", "lo")))
    with other.running() as elsewhere:
        away = FaultServer(lambda handler: send(
            handler, status, b"", location=f"{elsewhere}/chat/completions"))  # fmt: skip
        with away.running() as url:
            backend = ServerBackend(ServerAddress(url), ServerOptions("vl", Retries(0)))
            with pytest.raises(ServerError, match="give the address that it redirects to"):
                list(backend.stream(Request((), turns=TURNS)))
            backend.close()
    assert not other.asked


def test_nobody_listens():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/v1"
    backend = ServerBackend(ServerAddress(url), ServerOptions("vl", Retries(1, first=0.001)))
    with pytest.raises(ServerUnavailableError, match="cannot be reached") as caught:
        list(backend.stream(Request((), turns=TURNS)))
    assert caught.value.request_id
    backend.close()


def test_a_closed_backend_says_so():
    server = FaultServer(lines(chunk({"content": "Hello"}), hang=True))
    with server.running() as url:
        backend = ServerBackend(ServerAddress(url), ServerOptions("vl"))
        deltas = backend.stream(Request((), turns=TURNS))
        next(deltas)
        backend.close()
        backend.close()
        with pytest.raises(BackendError, match="closed"):
            next(deltas)
        with pytest.raises(BackendError, match="closed"):
            list(backend.stream(Request((), turns=TURNS)))
    assert server.left.wait(PATIENCE)


def test_a_web_page_is_no_reply():
    """Servers that have a page for people answer with it at addresses without /v1."""
    page = FaultServer(lambda handler: send(
        handler, 200, b"<html></html>", content_type="text/html; charset=utf-8"))  # fmt: skip
    with page.running() as url:
        backend = ServerBackend(ServerAddress(url), ServerOptions("vl", Retries(2, first=0.001)))
        with pytest.raises(BrokenReplyError, match=r"web page; .* ends in /v1") as caught:
            list(backend.stream(Request((), turns=TURNS)))
        backend.close()
    assert page.attempts == 1
    assert caught.value.request_id
