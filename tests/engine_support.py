"""Engines of a tiny checkpoint, for tests of many callers."""

import random
import threading
import time
from contextlib import contextmanager

from golden import checkpoint_folder
from patience import PATIENCE
from support import decode
from torch.utils._python_dispatch import TorchDispatchMode

from langchain_internvl.backends.base import Request
from langchain_internvl.backends.transformers.backend import TransformersBackend
from langchain_internvl.backends.transformers.limits import Limits
from langchain_internvl.backends.transformers.loading import LoadOptions
from langchain_internvl.backends.transformers.request_handle import ThreadRequestHandle
from langchain_internvl.checkpoint import read_checkpoint
from langchain_internvl.prompting.tokenization import load_tokenizer

FOLDER = checkpoint_folder("qwen2")

ENDLESS = 1_000_000
"""`max_tokens` of a reply that is longer than any test: so many tokens take more than `PATIENCE`.
A request without stop tokens and stop strings cannot end earlier."""


def make_backend(folder=FOLDER, dtype="float32", **limits):
    return TransformersBackend(
        read_checkpoint(folder), load_tokenizer(folder), LoadOptions(dtype=dtype),
        Limits(**limits),
    )  # fmt: skip


def ids(backend, *prompt, **settings):
    return [delta.token_id for delta in backend.stream(Request(prompt, **settings))]


def wait_until(condition, seconds=PATIENCE):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.002)
    return False


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "internvl"]


@contextmanager
def together(engine_thread, count):
    """No step begins before so many requests are there, however late their callers come.

    Yields:
        For each step the number of its sequences, and the most bytes of their keys and values.
    """
    loop, seen = engine_thread._loop, []
    step = loop.step

    def arrived():
        return len(engine_thread._inbox) + len(engine_thread._handles)

    def held_step():
        if not seen:
            assert wait_until(lambda: arrived() >= count)
        rows, before = len(loop.sequences), loop.kv_bytes
        events = step()
        seen.append((rows, max(before, loop.kv_bytes)))
        return events

    loop.step = held_step
    try:
        yield seen
    finally:
        del loop.step


def submit(engine_thread, request):
    handle = ThreadRequestHandle(request)
    engine_thread.submit(handle)
    return handle


def read_all(handle):
    while handle.next().finish_reason is None:
        pass


def words(engine, count, seed=0):
    """A prompt of so many random tokens."""
    chance = random.Random(seed)
    return [chance.randrange(300, 900) for _ in range(count)]


def solo(engine, request):
    ((ids, _),) = decode(engine.loop, request)
    return ids


class Reads(TorchDispatchMode):
    """Counts what reads numbers from the device."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func)
        self.count += "_local_scalar_dense" in name or ("_to_copy" in name and "cpu" in str(kwargs))
        return func(*args, **(kwargs or {}))
