"""API servers and a proxy of LMDeploy for tests; see `node_program.py`."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
from patience import PATIENCE

PROGRAM = Path(__file__).with_name("node_program.py")
ROOT = Path(__file__).parents[3]
HTTP = httpx.Client()


@dataclass
class Node:
    """A process that listens."""

    pid: int
    port: int
    log: Path

    @property
    def root(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self):
        return f"{self.root}/v1"

    @property
    def state(self):
        return HTTP.get(f"{self.root}/test/state", timeout=PATIENCE).json()

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)

    @property
    def is_alive(self):
        """Whether the process runs; one that ended is gone, as `node_program.py` ignores it."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    @property
    def is_up(self):
        try:
            return HTTP.get(f"{self.root}/v1/models", timeout=60).status_code in {200, 401}
        except httpx.HTTPError:
            return False

    def wait(self, seconds=PATIENCE):
        end = time.monotonic() + seconds
        while not self.is_up:
            if not self.is_alive or time.monotonic() > end:
                why = f"no server after {seconds} s" if self.is_alive else "the server ended"
                raise RuntimeError(f"{why}:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.05)
        return self


class Nodes:
    """Starts them, and ends them all."""

    def __init__(self, folder):
        self._folder = folder
        self.events = folder / "events.jsonl"
        environment = {
            **os.environ,
            "PYTHONPATH": f"{PROGRAM.parent}:{ROOT}",
            "CPU_ENGINE_LOG": str(self.events),
        }
        self._program = subprocess.Popen(
            [sys.executable, str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / "program.log").open("w"),
            text=True,
            env=environment,
        )
        self._started = []
        if self._program.stdout.readline().strip() != "ready":
            raise RuntimeError((folder / "program.log").read_text()[-3000:])

    def serve(self, model_path, port=None, environment=None, **arguments):
        """Start an API server; it is not waited for."""
        arguments = {"model_path": str(model_path), **arguments}
        return self._run("serve", "server_port", port, arguments, environment)

    def proxy(self, port=None):
        return self._run("proxy", "server_port", port, {}, None)

    def _run(self, what, port_name, port, arguments, environment):
        port = port or free_port()
        log = self._folder / f"{what}-{port}.log"
        command = {
            "run": what,
            "log": str(log),
            "arguments": {**arguments, port_name: port},
            "environment": environment or {},
        }
        self._program.stdin.write(json.dumps(command) + "\n")
        self._program.stdin.flush()
        node = Node(int(self._program.stdout.readline()), port, log)
        self._started.append(node)
        return node

    def count(self, event):
        """How often the engines wrote down an event so far."""
        name = f'"event": "{event}"'
        return self.events.read_text("utf-8").count(name) if self.events.exists() else 0

    def read_events(self):
        """What the engines wrote down, also those of nodes that were killed."""
        if not self.events.exists():
            return []
        return [json.loads(line) for line in self.events.read_text("utf-8").splitlines()]

    def close(self):
        for node in self._started:
            try:
                node.kill()
            except ProcessLookupError:
                continue
        self._program.stdin.close()
        self._program.wait(PATIENCE)
        self._program.stdout.close()


_PORTS = iter(random.sample(range(20_000, 32_768), 5000))
"""Ports below those that Linux gives to connections (`ip_local_port_range`): none takes one while
no node listens there. Each is given out once."""


def free_port():
    for port in _PORTS:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no port is free")
