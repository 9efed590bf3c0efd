"""A server of OpenAI's protocol that answers as it is told, faults included."""

import json
import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FaultServer:
    """Gives its answers one after the other, the last one for ever; keeps what it was asked."""

    def __init__(self, *answers, models=({"id": "vl", "owned_by": "lmdeploy"},)):
        self.answers = answers
        self.models = models
        self.asked = []
        self.headers = []
        self.left = threading.Event()
        self._lock = threading.Lock()

    @property
    def attempts(self):
        return len(self.asked)

    def take(self, body, headers):
        with self._lock:
            self.asked.append(body)
            self.headers.append(headers)
            return self.answers[min(len(self.asked), len(self.answers)) - 1]

    @contextmanager
    def running(self):
        with Host(self).running() as url:
            yield url


class Host:
    """Listens for a `FaultServer`, which may be another one for every test."""

    def __init__(self, server=None):
        self.server = server

    @contextmanager
    def running(self):
        host = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                if callable(host.server.models):
                    host.server.models(self)
                    return
                body = json.dumps({"object": "list", "data": list(host.server.models)}).encode()
                send(self, 200, body)

            def do_POST(self):
                owner = host.server
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                answer = owner.take(body, dict(self.headers))
                try:
                    answer(self)
                except (BrokenPipeError, ConnectionResetError):
                    owner.left.set()

            def log_message(self, *args):
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, request, client_address):
                """Clients that leave are a part of the tests."""

        server = Server(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def send(handler, status, body, content_type="application/json", **headers):
    handler.send_response(status)
    handler.send_header("content-type", content_type)
    handler.send_header("content-length", str(len(body)))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def error(status, message="no luck", **headers):
    """LMDeploy's flat error body."""
    body = {"message": message, "type": "server_error", "code": status, "object": "error"}
    return lambda handler: send(handler, status, json.dumps(body).encode(), **headers)


def body(payload):
    """A whole body with status 200, whatever was asked for."""
    return lambda handler: send(handler, 200, json.dumps(payload).encode())


def drop(handler):
    """Break the connection off."""
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


def lines(*texts, cut=False, hang=False):
    """A stream of lines; then its end, a cut connection, or silence."""

    def answer(handler):
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.send_header("transfer-encoding", "chunked")
        handler.end_headers()
        for text in texts:
            data = f"{text}\n\n".encode()
            handler.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            handler.wfile.flush()
        while hang:
            time.sleep(0.02)
            handler.wfile.write(b"3\r\n:\n\n\r\n")  # a comment, which says nothing
            handler.wfile.flush()
        if cut:
            drop(handler)
            return
        handler.wfile.write(b"0\r\n\r\n")

    return answer


def data(payload):
    return f"data: {json.dumps(payload)}"


def chunk(delta=None, finish_reason=None, **choice):
    return data(
        {"choices": [{"index": 0, "delta": delta or {}, "finish_reason": finish_reason, **choice}]}
    )


def words(*texts, reason="stop", usage=(7, 3)):
    """A stream of words, as any server sends it."""
    told = {"prompt_tokens": usage[0], "completion_tokens": usage[1],
            "prompt_tokens_details": {"cached_tokens": 4}}  # fmt: skip
    return (
        chunk({"role": "assistant", "content": ""}),
        *(chunk({"content": text}) for text in texts),
        chunk({}, reason),
        data({"choices": [], "usage": told}),
        "data: [DONE]",
    )


def ids(*token_ids, reason="length"):
    """A stream of ids, as LMDeploy sends it."""
    return (
        *(chunk({"content": "x"}, output_ids=[token_id]) for token_id in token_ids),
        chunk({"content": ""}, reason, output_ids=[]),
        "data: [DONE]",
    )


DONE = "data: [DONE]"
