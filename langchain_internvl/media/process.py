"""Media that C libraries decode, in a process that can be killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from langchain_internvl.errors import (
    InternVLError,
    MediaError,
    MediaTooLargeError,
    RequestError,
)
from langchain_internvl.forks import renew_after_fork
from langchain_internvl.media.records import (
    FAULT,
    HEAD,
    LACK,
    LIMIT,
    PICTURE,
    REFUSAL,
    read_record,
)
from langchain_internvl.media.sources import PathSource

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from langchain_internvl.media.deadline import Deadline
    from langchain_internvl.media.policy import MediaPolicy
    from langchain_internvl.media.sources import Source

MAX_MEMORY = 4 << 30
"""Address space of a process, in bytes."""

_ENVIRONMENT = {
    "CONDA_PREFIX", "DYLD_LIBRARY_PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH",
    "PYTHONHOME", "PYTHONPATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR", "VIRTUAL_ENV",
}  # fmt: skip
"""What a process is told of the environment: nothing secret to a library that foreign files may
have taken over."""

# The modules of this process, and not those of the folder where it happens to be.
_PROGRAM = (
    "import sys; sys.path[:] = [path for path in sys.path if path] + {paths!r}; import runpy; "
    "runpy.run_module({module!r}, run_name='__main__', alter_sys=False)"
)


class _Slots:
    """How many processes there are at once: as many as processors."""

    def __init__(self) -> None:
        self.renew()
        renew_after_fork(self, _Slots.renew)

    def renew(self) -> None:
        """All are free: a forked process has none."""
        self._free = threading.BoundedSemaphore(os.cpu_count() or 1)

    @contextmanager
    def take(self, deadline: Deadline) -> Iterator[None]:
        """Wait for one.

        Raises:
            RequestTimeoutError: The deadline came first.
        """
        while not self._free.acquire(timeout=min(deadline.remaining() or 0.5, 0.5)):
            pass  # and look whether anybody waits still
        try:
            yield
        finally:
            self._free.release()


_SLOTS = _Slots()


class Decoding:
    """What a process says.

    Args:
        stream: Its standard output.
        name: What error messages call the medium.
        kind: What it should be, as "video".
        policy: Limits on pixels.
    """

    def __init__(self, stream: IO[bytes], name: str, kind: str, policy: MediaPolicy) -> None:
        self._stream = stream
        self._name = name
        self._kind = kind
        self._policy = policy
        self._pixels = 0

    def head(self) -> dict[str, Any]:
        """What is known of the whole."""
        head: dict[str, Any] = json.loads(self._read(HEAD, 1 << 20))
        return head

    def picture(self) -> NDArray[np.uint8]:
        """The next picture, uint8 [height, width, 3], RGB; it cannot be written to."""
        data = self._read(PICTURE, self._policy.max_pixels * 3 + 8)
        height, width = np.frombuffer(data[:8], "<u4").tolist()
        self._pixels += height * width
        if self._pixels > self._policy.max_total_pixels:
            limit = self._policy.max_total_pixels
            raise MediaTooLargeError(
                self._name, f"its pictures are over MediaPolicy.max_total_pixels={limit}"
            )
        return np.frombuffer(data, np.uint8, offset=8).reshape(height, width, 3)

    def _read(self, kind: bytes, most: int) -> bytes:
        found, data = read_record(self._stream, most)
        if found == kind:
            return data
        text = data.decode("utf-8", "replace").strip()
        if found == REFUSAL:
            raise RequestError(f"{self._name}: {text}")
        if found == LIMIT:
            raise MediaTooLargeError(self._name, text)
        if found == LACK:
            raise ImportError(f"the process that reads a {self._kind} lacks something: {text}")
        if found == FAULT:
            reason = text.partition("\n")[0][:200]
            raise MediaError(
                self._name, f"is no {self._kind} that can be read, or is damaged: {reason}"
            )
        raise ValueError(f"a record {found!r}")


@contextmanager
def decoding(  # noqa: PLR0917 - all of them are needed, and two call it
    module: str,
    task: Mapping[str, Any],
    source: Source,
    kind: str,
    policy: MediaPolicy,
    deadline: Deadline,
) -> Iterator[Decoding]:
    """Let a process decode a medium.

    Args:
        module: The module that it runs, of this folder.
        task: What it is told, beside the path of the file and the limits.
        source: Where the medium comes from.
        kind: What it should be, as "video".
        policy: Limits on bytes, pixels and seconds.
        deadline: When it is not wanted any more.

    Yields:
        What it says.

    Raises:
        MediaError: The medium is empty, damaged or of another kind, or takes too long.
        MediaTooLargeError: It is over a limit.
        RequestError: What is asked for is not in it.
        RequestTimeoutError: The deadline came first.
    """
    with _as_file(source, deadline.narrow(policy)) as path, _SLOTS.take(deadline):
        policy = deadline.narrow(policy)
        limits = {"path": path, "max_pixels": policy.max_pixels, "max_memory": MAX_MEMORY}
        process = _start(module, {**limits, **task}, source.name)
        alarm = _Alarm(process, policy.timeout)
        try:
            with process, alarm, deadline.stopping(process.kill):
                assert process.stdout is not None  # noqa: S101 - it is a pipe
                yield Decoding(process.stdout, source.name, kind, policy)
        except (EOFError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, InternVLError):
                raise
            if deadline.is_over:
                raise deadline.error() from None
            if alarm.went_off:
                late = f"not decoded within MediaPolicy.timeout={policy.timeout} s"
                raise MediaError(source.name, late) from None
            if isinstance(error, EOFError):
                crash = f"the decoder crashed on it (exit {process.returncode}); it is damaged"
                raise MediaError(source.name, crash) from None
            raise MediaError(
                source.name, f"the decoder went astray; the {kind} is damaged"
            ) from error


class _Alarm:
    """Kills a process after a while, and when it is left."""

    def __init__(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        self.went_off = False
        self._process = process
        self._timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), self._ring)
        self._timer.daemon = True

    def _ring(self) -> None:
        self.went_off = True
        self._process.kill()

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is EOFError:
            self._process.wait()  # it has closed its output, so it is at its end; with what code?
        self._timer.cancel()
        self._process.kill()


def _start(module: str, task: Mapping[str, Any], name: str) -> subprocess.Popen[bytes]:
    paths = [os.fspath(path) for path in sys.path if path]
    program = _PROGRAM.format(paths=paths, module=f"{__package__}.{module}")
    environment = {key: value for key, value in os.environ.items() if key in _ENVIRONMENT}
    # Instead of 10,240 looks for what is not there.
    environment["DECORD_EOF_RETRY_MAX"] = "128"
    try:
        return subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-c", program, json.dumps(task)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
    except (OSError, TypeError, ValueError) as error:
        raise MediaError(
            name,
            f"no process can be started to read it: sys.executable is {sys.executable!r} ({error})",
        ) from error


@contextmanager
def _as_file(source: Source, policy: MediaPolicy) -> Iterator[str]:
    """The path of a medium, which the process can read whatever the file's name is."""
    path = source.check(policy) if isinstance(source, PathSource) else None
    if path is not None and path.isprintable() and path.isascii():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="internvl-media-") as folder:
        file = Path(folder) / "medium"
        if path is not None:
            file.symlink_to(path)
        else:
            data = source.read(policy)
            if not data:
                raise MediaError(source.name, "is empty")
            file.write_bytes(data)
        yield str(file)
