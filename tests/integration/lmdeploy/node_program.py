"""LMDeploy's API servers and its proxy as processes that start fast: forked from one that has
everything imported.

Reads commands from standard input, a JSON object a line: `{"run": "serve" | "proxy", "log": file,
"arguments": {...}}`, and answers each with the process's id. Ends with its input.
"""

import json
import os
import signal
import sys
import traceback

import cpu_engine
import torch
import transformers
import uvicorn
from lmdeploy.messages import TurbomindEngineConfig
from lmdeploy.serve.openai.api_server import serve


class Observed:
    """An ASGI app that tells the engine the id of each request, and us what became of it."""

    def __init__(self, app):
        self._app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["path"].startswith("/test/"):
            await self._tell(scope["path"], receive, send)
            return
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        request_id = headers.get("x-request-id")
        cpu_engine.REQUEST_ID.set(request_id)

        async def sending(message):
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                cpu_engine.log(request_id, "answered")

        await self._app(scope, receive, sending)

    async def _tell(self, path, receive, send):
        (front,) = cpu_engine.FRONTS
        if path == "/test/pace":
            vars(front.engine).update(json.loads((await receive())["body"]))
        body = json.dumps(cpu_engine.state_of(front)).encode()
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def run_server(arguments):
    options = TurbomindEngineConfig(**arguments.pop("engine_config", {}))
    run = uvicorn.run
    uvicorn.run = lambda app, **settings: run(Observed(app), **settings)
    serve(backend="turbomind", backend_config=options, server_name="127.0.0.1", **arguments)


def run_proxy(arguments):
    # Imported here: it starts a thread, and a process with threads shall not be forked.
    from lmdeploy.serve.proxy.proxy import proxy

    proxy(server_name="127.0.0.1", disable_cache_status=True, log_level="ERROR", **arguments)


def fork(command):
    pid = os.fork()
    if pid:
        return pid
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    file = os.open(command["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    status = 0
    try:
        os.environ.update(command.get("environment", {}))
        {"serve": run_server, "proxy": run_proxy}[command["run"]](command["arguments"])
    except BaseException:  # noqa: BLE001 - a fork must not go on with its parent's work
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def main():
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    cpu_engine.install()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the dead are not waited for
    print("ready", flush=True)
    for line in sys.stdin:
        print(fork(json.loads(line)), flush=True)


if __name__ == "__main__":
    main()
