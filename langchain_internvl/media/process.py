"""Decodes media in a separate process, which is killed at a deadline and limited in memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from typing import IO, TYPE_CHECKING, Any

from langchain_internvl.errors import (
    InternVLError,
    MediaError,
    MediaTooLargeError,
    RequestError,
)
from langchain_internvl.forks import renew_after_fork, temporary_folder
from langchain_internvl.media.byte_sources import PathSource
from langchain_internvl.media.image_threads import available_cores
from langchain_internvl.media.records import (
    DATA,
    FAULT,
    HEAD,
    IMAGE,
    LACK,
    LIMIT,
    REFUSAL,
    read_record,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from langchain_internvl.media.byte_sources import Source
    from langchain_internvl.media.deadline import Deadline
    from langchain_internvl.media.policy import MediaPolicy

MAX_MEMORY = 4 << 30
"""Maximum address space of a process that decodes a video or a PDF, in bytes."""

_PIPE_BYTES = 1 << 20
"""Size of a process's output pipe, where the system grants it: pixels pass in larger pieces."""

_ENVIRONMENT = {
    "CONDA_PREFIX", "DYLD_LIBRARY_PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH",
    "PYTHONHOME", "PYTHONPATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR", "VIRTUAL_ENV",
}  # fmt: skip
"""Environment variables that are passed on; no secrets, because the files are untrusted."""

# The module path of this process, without the current folder.
_PROGRAM = (
    "import sys; sys.path[:] = [path for path in sys.path if path] + {paths!r}; import runpy; "
    "runpy.run_module({module!r}, run_name='__main__', alter_sys=False)"
)


class _Slots:
    """Limits the number of concurrently working processes to the number of processors."""

    def __init__(self) -> None:
        self.renew()
        renew_after_fork(self, _Slots.renew)

    def renew(self) -> None:
        """Free all slots: a forked process has no decoders."""
        self._free = threading.BoundedSemaphore(available_cores())

    @contextmanager
    def take(self, deadline: Deadline) -> Iterator[None]:
        """Hold a slot, once one is free.

        Raises:
            RequestTimeoutError: The deadline has passed.
        """
        while not self._free.acquire(timeout=min(deadline.remaining() or 0.5, 0.5)):
            pass  # the deadline is checked twice a second
        try:
            yield
        finally:
            self._free.release()


_SLOTS = _Slots()


class Decoding:
    """Results of a decoding process, in the order of its records.

    Args:
        stream: Standard output of the process.
        name: Name of the medium in error messages.
        kind: Kind of the medium in error messages, such as "video".
        policy: Limits on pixels.
        deadline: Deadline of the call.
        waiting: Returns the context in which a record is awaited.
        limits_total: Whether `max_total_pixels` applies.
    """

    def __init__(  # noqa: PLR0917 - one caller
        self,
        stream: IO[bytes],
        name: str,
        kind: str,
        policy: MediaPolicy,
        deadline: Deadline,
        waiting: Callable[[], AbstractContextManager[None]],
        limits_total: bool,  # noqa: FBT001
    ) -> None:
        self._stream = stream
        self._name = name
        self._kind = kind
        self._policy = policy
        self._deadline = deadline
        self._waiting = waiting
        self._limits_total = limits_total
        self._pixels = 0

    def head(self) -> dict[str, Any]:
        """Metadata of the whole medium: the first record, or one after the images."""
        head: dict[str, Any] = json.loads(self._read(HEAD, 1 << 20))
        return head

    def data(self) -> bytes:
        """The next encoded image: as PNG or TIFF, of at most 8 bytes per pixel."""
        return self._read(DATA, self._policy.max_pixels * 8 + (1 << 20))

    def image(self) -> NDArray[np.uint8]:
        """The next image, uint8 [height, width, 3], RGB, read-only."""
        import numpy as np  # noqa: PLC0415 - needed only here

        size, pixels = self.pixels()
        return np.frombuffer(pixels, np.uint8).reshape(size[1], size[0], 3)

    def pixels(self) -> tuple[tuple[int, int], memoryview]:
        """The next image as (width, height) and its RGB bytes, row by row."""
        data = self._read(IMAGE, self._policy.max_pixels * 3 + 8)
        height = int.from_bytes(data[:4], "little")
        width = int.from_bytes(data[4:8], "little")
        if len(data) != 8 + height * width * 3:
            raise ValueError("an image of another size than it says")
        self._pixels += height * width
        if self._limits_total and self._pixels > self._policy.max_total_pixels:
            limit = self._policy.max_total_pixels
            raise MediaTooLargeError(
                self._name,
                f"its images together are over MediaPolicy.max_total_pixels={limit}",
            )
        return (width, height), memoryview(data)[8:]

    def _read(self, kind: bytes, most: int) -> bytes:
        with self._waiting():
            found, data = read_record(self._stream, most)
        # The timer that ends the process is a thread, and late on a machine under load.
        if self._deadline.is_over:
            raise self._deadline.error()
        if found == kind:
            return data
        text = data.decode("utf-8", "replace").strip()
        if found == REFUSAL:
            raise RequestError(f"{self._name}: {text}")
        if found == LIMIT:
            raise MediaTooLargeError(self._name, text)
        if found == LACK:
            raise ImportError(
                f"reading a {self._kind} needs a module that {sys.executable} does not find: {text}"
            )
        if found == FAULT:
            reason = text.partition("\n")[0][:200]
            raise MediaError(
                self._name, f"is no {self._kind} that can be read, or is damaged: {reason}"
            )
        raise ValueError(f"a record {found!r}")


@contextmanager
def decoding(  # noqa: PLR0917 - all arguments are needed
    module: str,
    task: Mapping[str, Any],
    source: Source,
    kind: str,
    policy: MediaPolicy,
    deadline: Deadline,
    *,
    is_stream: bool = False,
    max_memory: int = MAX_MEMORY,
) -> Iterator[Decoding]:
    """Decode a medium in a separate process, which ends with this context.

    Args:
        module: Module of this folder that the process runs.
        task: Arguments of the module, in addition to the path of the file and the limits.
        source: Where the medium comes from.
        kind: Expected kind of the medium for error messages, such as "video".
        policy: Limits on bytes, pixels and seconds.
        deadline: Deadline of the call.
        is_stream: The caller works between records. Then the limit of seconds applies to each
            record, the process counts as working only while a record is waited for, and
            `max_total_pixels` does not apply.
        max_memory: Address space of the process, in bytes.

    Yields:
        The results.

    Raises:
        MediaError: The medium is empty, damaged or of another kind, or takes too long.
        MediaTooLargeError: The medium exceeds a limit.
        RequestError: The medium does not have what the task requests, such as a page.
        RequestTimeoutError: The deadline has passed.
    """
    with ExitStack() as stack:
        path = stack.enter_context(_as_file(source, deadline.narrow(policy)))
        if not is_stream:
            stack.enter_context(_SLOTS.take(deadline))
        policy = deadline.narrow(policy)
        limits = {"path": path, "max_pixels": policy.max_pixels, "max_memory": max_memory}
        process = _start(module, {**limits, **task}, source.name)
        alarm = _Alarm(process)

        @contextmanager
        def waiting() -> Iterator[None]:
            with _SLOTS.take(deadline), alarm.set(deadline.narrow(policy).timeout):
                yield

        try:
            with process, alarm, deadline.stopping(process.kill):
                assert process.stdout is not None  # noqa: S101 - it is a pipe
                if not is_stream:
                    stack.enter_context(alarm.set(policy.timeout))
                yield Decoding(
                    process.stdout,
                    source.name,
                    kind,
                    policy,
                    deadline,
                    waiting if is_stream else nullcontext,
                    not is_stream,
                )
        except (EOFError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, InternVLError):
                raise
            if deadline.is_over:
                raise deadline.error() from None
            if alarm.went_off:
                late = f"not decoded within MediaPolicy.timeout={policy.timeout} s"
                raise MediaError(source.name, late) from None
            if isinstance(error, EOFError):
                crash = (
                    f"the decoder crashed on it (exit {process.returncode}); "
                    f"the {kind} is probably damaged: repair or re-encode it"
                )
                raise MediaError(source.name, crash) from None
            raise MediaError(
                source.name,
                f"the decoder gave no valid result; the {kind} is probably damaged: repair or "
                "re-encode it",
            ) from error


class _Alarm:
    """Kills a process after a time limit, and at the end of its context."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.went_off = False
        self._process = process

    @contextmanager
    def set(self, seconds: float) -> Iterator[None]:
        """Kill the process unless this context ends within the given seconds."""
        timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), self._ring)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _ring(self) -> None:
        self.went_off = True
        self._process.kill()

    def __enter__(self) -> None:
        """Enter the context; no set-up is needed."""

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is EOFError:
            self._process.wait()  # its output is closed; wait for the exit code
        self._process.kill()


def _start(module: str, task: Mapping[str, Any], name: str) -> subprocess.Popen[bytes]:
    paths = [os.fspath(path) for path in sys.path if path]
    program = _PROGRAM.format(paths=paths, module=f"{__package__}.{module}")
    environment = {key: value for key, value in os.environ.items() if key in _ENVIRONMENT}
    environment["DECORD_EOF_RETRY_MAX"] = "128"  # instead of 10,240
    # Each thread of OpenBLAS reserves address space, which is limited.
    environment["OMP_NUM_THREADS"] = environment["OPENBLAS_NUM_THREADS"] = "1"
    try:
        process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
    except (OSError, TypeError, ValueError) as error:
        raise MediaError(
            name,
            f"no process can be started to read it: sys.executable is {sys.executable!r} ({error})",
        ) from error
    assert process.stdin is not None  # noqa: S101 - it is a pipe
    with suppress(AttributeError, ImportError, OSError):  # Linux only, and users have a quota
        import fcntl  # noqa: PLC0415 - not on Windows

        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)  # type: ignore[arg-type]
    # Not on the command line, which other users can read: a task may contain a password.
    # The pipe stays open: its end tells the process that this one was killed.
    try:
        process.stdin.write(json.dumps(task).encode() + b"\n")
        process.stdin.flush()
    except OSError:  # it has crashed already
        with suppress(OSError):
            process.stdin.close()
    return process


@contextmanager
def _as_file(source: Source, policy: MediaPolicy) -> Iterator[str]:
    """The path of a file with the medium's bytes; the path is printable ASCII."""
    path = source.check(policy) if isinstance(source, PathSource) else None
    if path is not None and path.isprintable() and path.isascii():
        yield path
        return
    with temporary_folder("internvl-media-") as folder:
        file = folder / "medium"
        if path is not None:
            file.symlink_to(path)
        else:
            data = source.read(policy)
            if not data:
                raise MediaError(source.name, "is empty")
            file.write_bytes(data)
        yield str(file)
