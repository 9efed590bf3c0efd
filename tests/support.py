"""Helpers of several tests."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

from langchain_internvl.backends.base import Delta, Request
from langchain_internvl.backends.scripted import ScriptedBackend
from langchain_internvl.backends.transformers.decoding import DecodeLoop
from langchain_internvl.backends.transformers.loading import LoadOptions, load_model
from langchain_internvl.checkpoint import read_checkpoint
from langchain_internvl.prompting.tokenization import load_tokenizer
from langchain_internvl.template_choice import choose_template


def load_loop(folder, **options):
    """A decode loop of a checkpoint, with what its prompts are made with."""
    checkpoint = read_checkpoint(folder)
    tokenizer = load_tokenizer(folder)
    model = load_model(
        checkpoint, tokenizer.image_context_id, LoadOptions(**{"dtype": "float32", **options})
    )
    template = choose_template(checkpoint, tokenizer)
    return SimpleNamespace(
        checkpoint=checkpoint,
        tokenizer=tokenizer,
        template=template,
        model=model,
        stop_ids=frozenset([tokenizer.stop_id(template.stop)]),
        loop=DecodeLoop(model, tokenizer.token_bytes),
    )


def decode(loop, *requests):
    """The replies to requests that are decoded together, as (ids, text)."""
    begun = [loop.add(request) for request in requests]
    texts = {row: first.text for row, first in begun}
    while loop.sequences:
        for row, event in loop.step():
            assert isinstance(event, Delta), event
            texts[row] += event.text
    return [(row.reply, texts[row]) for row, _ in begun]


class RecordingBackend:
    """Passes requests on and keeps what was asked and answered."""

    def __init__(self, backend):
        self.backend = backend
        self.requests: list[Request] = []
        self.replies: list[list[int]] = []

    def stream(self, request):
        self.requests.append(request)
        reply = []
        self.replies.append(reply)
        for delta in self.backend.stream(request):
            reply.append(delta.token_id)
            yield delta

    def close(self):
        self.backend.close()


class FixedBackend(ScriptedBackend):
    """Says the same tokens to every request."""

    def __init__(self, *deltas):
        self.deltas = deltas or (Delta(1, "Hello"), Delta(2, " there", "stop"))
        super().__init__(lambda request: self.deltas)


@contextmanager
def http_server(answer):
    """A server on loopback; `answer` is called with the request handler.

    Yields:
        Its address.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            answer(self)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
