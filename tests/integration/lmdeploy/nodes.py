"""API servers and a proxy of LMDeploy for tests; see `node_program.py`."""

import json
import os
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
    def is_up(self):
        try:
            return HTTP.get(f"{self.root}/v1/models", timeout=60).status_code in {200, 401}
        except httpx.HTTPError:
            return False

    def wait(self, seconds=PATIENCE):
        end = time.monotonic() + seconds
        while not self.is_up:
            if time.monotonic() > end:
                raise TimeoutError(f"no server after {seconds} s:\n{self.log.read_text()[-3000:]}")
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


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
