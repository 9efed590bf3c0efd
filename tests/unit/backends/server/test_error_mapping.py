"""What a server may do wrong: the exact error, and how often it was asked."""

import asyncio
import gzip
import json
import pickle
import threading
from time import monotonic

import httpx
import pytest
from engine_support import wait_until
from fault_server import DONE, FaultServer, Host, body, chunk, data, drop, error, lines, send, words
from patience import PATIENCE

from langchain_internvl.backends.base import NO_TOKEN, Request
from langchain_internvl.backends.bridge import ReplyDeadline
from langchain_internvl.backends.server import backend as backend_module
from langchain_internvl.backends.server.backend import ServerBackend, ServerOptions
from langchain_internvl.backends.server.client import ServerAddress
from langchain_internvl.backends.server.event_stream import MOST_LINE_BYTES
from langchain_internvl.backends.server.retries import Retries
from langchain_internvl.errors import (
    BackendError,
    BrokenReplyError,
    ContextOverflowError,
    EngineBusyError,
    ModelNotServedError,
    RequestError,
    RequestTimeoutError,
    ServerAccessError,
    ServerBusyError,
    ServerError,
    ServerUnavailableError,
)
from langchain_internvl.messages.conversation import Text, Turn

TURNS = (Turn("user", (Text("Hello"),)),)
RETRIES = 2
GOOD = lines(*words("Hel", "lo"))


def ask_sync(backend, request):
    return list(backend.stream(request))


def ask_async(backend, request):
    async def read():
        return [delta async for delta in backend.astream(request)]

    return asyncio.run(read())


@pytest.fixture(scope="module")
def hosted():
    """A backend, and the host that it asks."""
    host = Host()
    with host.running() as url:
        options = ServerOptions("vl", Retries(RETRIES, first=0.001))
        backend = ServerBackend(ServerAddress(url, "hush"), options)
        yield host, backend
        backend.close()


@pytest.fixture(params=[ask_sync, ask_async], ids=["thread", "task"])
def ask(request, hosted):
    """Asks a server for one reply by messages, and says what came."""
    host, backend = hosted

    def run(server, **settings):
        host.server = server
        return request.param(backend, Request((), turns=TURNS, **{"timeout": PATIENCE, **settings}))

    return run


def text_of(deltas):
    return "".join(delta.text for delta in deltas)


def test_other_line_separators_end_no_line(ask):
    said = "a\u2028b\u2029c\x85d"
    raw = json.dumps({"choices": [{"delta": {"content": said}}]}, ensure_ascii=False)
    assert text_of(ask(FaultServer(lines(f"data: {raw}\r", chunk({}, "stop"))))) == said


def test_a_chunk_of_several_data_lines(ask):
    """A proxy prints JSON over several lines, with other fields between them."""
    whole = json.dumps({"choices": [{"delta": {"content": "Hello"}}]}, indent=2).split("\n")
    sent = "\r\n".join(["event: message", "id: 7", *(f"data:{line}" for line in whole), ": x"])
    assert text_of(ask(FaultServer(lines(sent + "\r\n", chunk({}, "stop"), DONE)))) == "Hello"


def test_log_probabilities_that_are_none(ask):
    server = FaultServer(lines(chunk({"content": "x"}, logprobs={"content": [7]})))
    with pytest.raises(BrokenReplyError, match="chunk that is none"):
        ask(server, top_logprobs=1)
    assert server.attempts == 1


ERROR_10402 = json.dumps({"error_code": 10402, "text": "Failed to get response"})
ERROR_10400 = json.dumps({"error_code": 10400, "text": "no such model"})
CALL = chunk({"tool_calls": [{"index": 0, "id": "x", "function": {"name": "look"}}]})
HELLO = chunk({"content": "Hello"})
STREAM_ERROR = data({"error": {"message": "boom", "code": 500}})

TRIED_AGAIN = 1 + RETRIES


def endless(handler, status):
    """A body that goes on until the client leaves; it has to leave, or the test never ends."""
    handler.send_response(status)
    handler.end_headers()
    while True:
        handler.wfile.write(b"x" * (1 << 20))


FAULTS = {
    # name: what the server does, the exact error, how often it was asked
    "500": (error(500), ServerError, TRIED_AGAIN),
    "502": (error(502), ServerUnavailableError, TRIED_AGAIN),
    "503": (error(503), ServerUnavailableError, TRIED_AGAIN),
    "504": (error(504), ServerUnavailableError, TRIED_AGAIN),
    "429": (error(429), ServerBusyError, TRIED_AGAIN),
    "429 with a time": (error(429, retry_after="0"), ServerBusyError, TRIED_AGAIN),
    "429 with an hour": (error(429, retry_after="3600"), ServerBusyError, 1),
    "400": (error(400), RequestError, 1),
    "400, too long": (error(400, "Input length (70) must be smaller than the model context length"),
                      ContextOverflowError, 1),
    "422": (error(422), RequestError, 1),
    "401": (error(401), ServerAccessError, 1),
    "403": (error(403), ServerAccessError, 1),
    "404": (error(404), ServerUnavailableError, TRIED_AGAIN),
    "409": (error(409), ServerError, 1),
    "500 without JSON": (lambda handler: handler.wfile.write(
        b"HTTP/1.1 500 X\r\ncontent-length: 4\r\n\r\noops"), ServerError, TRIED_AGAIN),
    "no answer at all": (drop, ServerUnavailableError, TRIED_AGAIN),
    "cut before the first token": (lines(cut=True), ServerUnavailableError, TRIED_AGAIN),
    "cut after a role": (lines(chunk({"role": "assistant"}), cut=True), ServerUnavailableError,
                         TRIED_AGAIN),
    "cut after a token": (lines(HELLO, cut=True), BrokenReplyError, 1),
    "proxy: node failed, as a body": (body(json.loads(ERROR_10402)), ServerUnavailableError,
                                      TRIED_AGAIN),
    "proxy: node failed, as a line": (lines(ERROR_10402), ServerUnavailableError, TRIED_AGAIN),
    "proxy: node failed, as a text": (body(ERROR_10402), ServerUnavailableError, TRIED_AGAIN),
    "proxy: node failed after a token": (lines(HELLO, ERROR_10402), BrokenReplyError, 1),
    "proxy: no such model": (lines(ERROR_10400), ServerUnavailableError, TRIED_AGAIN),
    "proxy: its stream failed": (lines(HELLO, '{"error": true, "status": 500, "message": "x"}'),
                                 BrokenReplyError, 1),
    "error at the start of a stream": (lines(STREAM_ERROR, DONE), ServerError, TRIED_AGAIN),
    "error in the middle of a stream": (lines(HELLO, STREAM_ERROR, DONE), BrokenReplyError, 1),
    "bad request told in a stream": (lines(data({"error": {"message": "no", "code": 400}})),
                                     RequestError, 1),
    "no choices": (body({"id": "x", "object": "chat.completion"}), BrokenReplyError, 1),
    "no choices in a chunk": (lines(data({"id": "x"})), BrokenReplyError, 1),
    "an empty stream": (lines(), BrokenReplyError, 1),
    "a stream that only says it is done": (lines(DONE), BrokenReplyError, 1),
    "a stream without an end": (lines(HELLO), BrokenReplyError, 1),
    "an error by its name": (lines("event: error\ndata: no luck"), ServerError, TRIED_AGAIN),
    "garbage": (lines("data: {nonsense"), BrokenReplyError, 1),
    "HTML": (lines("<html>gateway</html>"), BrokenReplyError, 1),
    "a list": (lines("data: [1, 2]"), BrokenReplyError, 1),
    "cut in a call": (lines(CALL, cut=True), BrokenReplyError, 1),
    "error in a call": (lines(CALL, STREAM_ERROR), BrokenReplyError, 1),
    "cut in thoughts": (lines(chunk({"reasoning_content": "Hm"}), cut=True), BrokenReplyError, 1),
    "cut in other thoughts": (lines(chunk({"reasoning": "Hm"}), cut=True), BrokenReplyError, 1),
    "cut after ids": (lines(chunk({}, output_ids=[5]), cut=True), BrokenReplyError, 1),
    "a delta that is a text": (lines(data({"choices": [{"delta": "hi"}]})), BrokenReplyError, 1),
    "a reason that is none": (lines(chunk({}, ["stop"])), BrokenReplyError, 1),
    "content that is no text": (lines(chunk({"content": [7]}), DONE), BrokenReplyError, 1),
    "calls that are none": (lines(chunk({"tool_calls": 7})), BrokenReplyError, 1),
    "a call that is a text": (lines(chunk({"tool_calls": ["x"]})), BrokenReplyError, 1),
    "an odd index": (lines(chunk({"tool_calls": [{"index": "x"}]})), BrokenReplyError, 1),
    "an endless index": (lines(chunk({"tool_calls": [{"index": 1e999}]})), BrokenReplyError, 1),
    "a packed body that is none": (lambda handler: send(
        handler, 200, b"no gzip", content_encoding="gzip"), BrokenReplyError, 1),
    "status as digits": (lines(data({"error": {"message": "no", "code": "422"}})),
                         RequestError, 1),
    "too long, as OpenAI says it": (body({"error": {"message": "Too long.", "code":
        "context_length_exceeded", "type": "invalid_request_error"}}), ContextOverflowError, 1),
    "a proxy's code that is none": (lines('{"error_code": [1], "text": "x"}'), ServerError,
                                    TRIED_AGAIN),
    "a line without an end": (lines("data: " + "x" * (MOST_LINE_BYTES + 1)), BrokenReplyError, 1),
    "deep JSON": (lines("data: " + "[" * 100_000), BrokenReplyError, 1),
    "deep objects": (lines("data: " + '{"a":' * 5_000 + "1" + "}" * 5_000), BrokenReplyError, 1),
    "a deep error": (lambda handler: send(handler, 400, b"[" * 100_000), RequestError, 1),
    "endless usage": (lines(HELLO, chunk({}, "stop"), 'data: {"choices": [], "usage": '
                            '{"prompt_tokens": 1e400}}'), BrokenReplyError, 1),
    "negative usage": (lines(HELLO, chunk({}, "stop"), data({"choices": [], "usage": {
        "prompt_tokens": 5, "completion_tokens": -3}})), BrokenReplyError, 1),
    "given up": (lines(HELLO, chunk({}, "abort"), DONE), BrokenReplyError, 1),
    "an endless refusal": (lambda handler: endless(handler, 400), RequestError, 1),
    "a packed endless refusal": (lambda handler: send(
        handler, 400, gzip.compress(b"x" * (64 << 20)), content_encoding="gzip"), RequestError, 1),
    "usage in halves": (lines(HELLO, chunk({}, "stop"), data({"choices": [], "usage": {
        "prompt_tokens": 5.5, "completion_tokens": 2}})), BrokenReplyError, 1),
    "usage that is true": (lines(HELLO, chunk({}, "stop"), data({"choices": [], "usage": {
        "prompt_tokens": True, "completion_tokens": 2}})), BrokenReplyError, 1),
    "usage that is no number": (lines(HELLO, chunk({}, "stop"), 'data: {"choices": [], "usage": '
                                      '{"prompt_tokens": NaN}}'), BrokenReplyError, 1),
    "usage of 5,000 digits": (lines(HELLO, chunk({}, "stop"), 'data: {"choices": [], "usage": '
                                    '{"prompt_tokens": ' + "9" * 5_000 + "}}"),
                              BrokenReplyError, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_one_error_after_so_many_attempts(name, ask):
    answer, kind, attempts = FAULTS[name]
    server = FaultServer(answer)
    with pytest.raises(BackendError if issubclass(kind, BackendError) else kind) as caught:
        ask(server)
    assert type(caught.value) is kind
    assert server.attempts == attempts
    assert "hush" not in repr(caught.value)
    sent = _lower(server.headers[-1])["x-request-id"]
    assert getattr(caught.value, "request_id", sent) == sent


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault[2] > 1])
def test_what_may_pass_is_tried_again(name, ask):
    server = FaultServer(FAULTS[name][0], GOOD)
    deltas = ask(server)
    assert text_of(deltas) == "Hello"
    assert deltas[-1].finish_reason == "stop"
    assert server.attempts == 2
    assert server.asked[0] == server.asked[1]
    first, second = (headers["x-request-id"] for headers in map(_lower, server.headers))
    assert first == second


@pytest.mark.parametrize("client", [None, httpx.AsyncClient()], ids=["own", "user's"])
def test_endless_bodies_are_left(client, ask):
    refusal = FaultServer(lambda handler: endless(handler, 400))
    refusal.models = lambda handler: endless(handler, 200)
    with refusal.running() as url:
        address = ServerAddress(url, http_client=client)
        backend = ServerBackend(address, ServerOptions("vl", Retries(0)))
        with pytest.raises(BrokenReplyError, match="the server's answer is over 4 MiB"):
            backend.models()
        with pytest.raises(RequestError):
            ask_sync(backend, Request((), turns=TURNS))
        refusal.answers = (GOOD,)
        assert text_of(ask_sync(backend, Request((), turns=TURNS))) == "Hello"
        backend.close()
    assert client is None or not client.is_closed


def test_a_reply_has_a_longest_length(ask, monkeypatch):
    monkeypatch.setattr("langchain_internvl.backends.server.event_stream.MOST_REPLY_BYTES", 1000)
    with pytest.raises(BrokenReplyError, match="reply is over"):
        ask(FaultServer(lines(*[HELLO] * 1000)))


def _lower(headers):
    return {name.lower(): value for name, value in headers.items()}


@pytest.fixture
def from_arrival(hosted, monkeypatch):
    """Deadlines count from when the server is asked, however long a busy machine takes for that."""
    host, _ = hosted

    class FromArrival(ReplyDeadline):
        has_begun = False

        def __init__(self, seconds):
            super().__init__(PATIENCE)
            self.seconds = seconds

        def remaining(self):
            if not self.has_begun and threading.current_thread().name != "internvl-loop":
                assert wait_until(lambda: host.server.attempts)
                self._end, self.has_begun = monotonic() + self.seconds, True
            return super().remaining()

    monkeypatch.setattr(backend_module, "ReplyDeadline", FromArrival)


@pytest.mark.usefixtures("from_arrival")
def test_a_hanging_server_is_given_up_and_left(ask):
    server = FaultServer(lines(hang=True))
    with pytest.raises(RequestTimeoutError, match=r"timeout=0\.3 s"):
        ask(server, timeout=0.3)
    assert server.attempts == 1
    assert server.left.wait(PATIENCE)


@pytest.mark.usefixtures("from_arrival")
def test_a_server_that_hangs_after_a_token(ask):
    server = FaultServer(lines(HELLO, hang=True))
    with pytest.raises(RequestTimeoutError):
        ask(server, timeout=0.3)
    assert server.attempts == 1
    assert server.left.wait(PATIENCE)


def test_no_time_for_another_attempt(ask):
    """The error that came, not a timeout: that says more."""
    server = FaultServer(error(503, retry_after="30"))
    with pytest.raises(ServerUnavailableError, match="no luck"):
        ask(server, timeout=5)
    assert server.attempts == 1


def test_a_server_error_is_what_it_is_called():
    busy = ServerBusyError("x", status=429, request_id="r", retry_after=2.0)
    assert isinstance(busy, EngineBusyError)
    copied = pickle.loads(pickle.dumps(busy))
    assert (copied.status, copied.request_id, copied.retry_after) == (429, "r", 2.0)
    assert isinstance(ServerUnavailableError("x"), ConnectionError)
    assert isinstance(ServerAccessError("x"), PermissionError)


def test_waits_grow_and_have_bounds():
    retries = Retries(20, first=0.5, chance=lambda: 1.0)
    fault = ServerError("x", status=500)
    waits = [retries.wait_before(attempt, fault) for attempt in range(6)]
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]
    assert Retries(0).wait_before(0, fault) is None
    assert Retries(20).wait_before(3, RequestError("x")) is None
    assert Retries(20).wait_before(3, BrokenReplyError("x")) is None


def test_a_reply_has_its_usage_and_no_tokens(ask):
    deltas = ask(FaultServer(GOOD))
    assert {delta.token_id for delta in deltas} == {NO_TOKEN}
    usage = deltas[-1].usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) == (7, 3, 4)


def test_a_whole_reply_in_place_of_a_stream(ask):
    whole = {"choices": [{"message": {"content": "Hello"}, "finish_reason": "length"}]}
    deltas = ask(FaultServer(body(whole)))
    assert text_of(deltas) == "Hello"
    assert deltas[-1].finish_reason == "length"


def test_a_stop_text_is_cut_here_and_the_server_is_left(ask):
    server = FaultServer(lines(chunk({"content": "One two"}), chunk({"content": " thr"}),
                               chunk({"content": "ee four"}), hang=True))  # fmt: skip
    deltas = ask(server, stop=["three"])
    assert text_of(deltas) == "One two"
    assert deltas[-1].finish_reason == "stop"
    assert server.left.wait(PATIENCE)
    assert "stop" not in server.asked[0]


@pytest.mark.parametrize("answer", [error(404), lines(ERROR_10400)], ids=["404", "10400"])
def test_a_model_is_not_served_only_if_the_server_lists_others(answer, ask):
    other = FaultServer(answer, models=({"id": "other", "owned_by": "vllm"},))
    with pytest.raises(ModelNotServedError, match="It has: other"):
        ask(other)
    assert other.attempts == 1
    with pytest.raises(ServerUnavailableError, match="lists no model yet"):
        ask(FaultServer(answer, models=()))
