"""Loading the model, closing the engine, and the end of the program."""

import gc
import itertools
import signal
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from engine_support import ENDLESS, FOLDER, ids, submit, threads, wait_until
from golden import checkpoint_folder
from patience import PATIENCE
from safetensors import safe_open
from transformers import core_model_loading

from langchain_internvl.backends.base import Request
from langchain_internvl.backends.transformers.backend import TransformersBackend
from langchain_internvl.backends.transformers.loading import LoadOptions, load_model
from langchain_internvl.checkpoint import read_checkpoint
from langchain_internvl.errors import (
    BackendError,
    CheckpointError,
    RequestTimeoutError,
)
from langchain_internvl.prompting.tokenization import load_tokenizer

LOAD_MODEL = "langchain_internvl.backends.transformers.backend.load_model"


def test_the_timeout_counts_loading(backend, monkeypatch):
    go_on = threading.Event()

    def load(*args):
        go_on.wait(PATIENCE)
        return load_model(*args)

    monkeypatch.setattr(LOAD_MODEL, load)
    with pytest.raises(RequestTimeoutError):
        ids(backend, 1, 2, timeout=0.05)
    go_on.set()
    assert len(ids(backend, 1, 2, max_tokens=3)) == 3


@pytest.mark.parametrize("error", [CheckpointError("gap"), ImportError("gap"), KeyError("gap")])
def test_a_model_that_cannot_be_loaded_is_told_to_all_and_tried_again(backend, error, monkeypatch):
    started, go_on = threading.Event(), threading.Event()

    def load(*_):
        started.set()
        go_on.wait(PATIENCE)
        raise error

    monkeypatch.setattr(LOAD_MODEL, load)
    kind = BackendError if isinstance(error, KeyError) else type(error)
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(ids, backend, 1, 2, max_tokens=3) for _ in range(3)]
        assert started.wait(PATIENCE)
        assert wait_until(lambda: len(backend._worker._inbox) == 3)
        go_on.set()
        for one in waiting:
            with pytest.raises(kind, match="gap"):
                one.result()
    monkeypatch.undo()
    assert len(ids(backend, 1, 2, max_tokens=3)) == 3


def test_closing_frees_the_model(engine_thread):
    loop = weakref.ref(engine_thread._loop)
    engine_thread.close()
    gc.collect()
    assert loop() is None


OFFLOADED = {"model.vision_tower": "cpu", "model.multi_modal_projector": "cpu",
             "model.language_model": "disk", "lm_head": "cpu"}  # fmt: skip


def test_closing_frees_weights_under_hooks_of_accelerate(monkeypatch, tmp_path):
    """The hooks are cycles, and to remove them properly would load what is on the disk."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    emptied = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(True))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    folder = checkpoint_folder("internlm2")  # whose tensors are converted, and written anew
    backend = TransformersBackend(
        read_checkpoint(folder),
        load_tokenizer(folder),
        LoadOptions(dtype="float32", device_map=OFFLOADED),
    )
    ids(backend, *range(300, 340), max_tokens=2)  # which are kept
    model = backend._worker._loop._model
    modules = [weakref.ref(one) for one in model.modules()]
    hooked = [one for one in model.modules() if hasattr(one, "_hf_hook")]
    weights = [weakref.ref(one) for one in model.parameters() if one.device.type == "cpu"]
    brought = []
    for one in hooked:
        monkeypatch.setattr(
            type(one._hf_hook), "detach_hook", lambda *_: brought.append(True), raising=False
        )
    assert hooked
    assert weights
    assert list(tmp_path.iterdir())
    del model, hooked, one
    gc.disable()  # what is free afterwards was freed by `close`
    try:
        backend.close()
        assert [one for one in weights if one() is not None] == []
        assert [one for one in modules if one() is not None] == []
    finally:
        gc.enable()
    assert brought == []
    assert emptied
    assert list(tmp_path.iterdir()) == []


def test_closing_ends_an_image_that_nobody_waits_for(backend, monkeypatch):
    ids(backend, 1, max_tokens=1)
    started, go_on = threading.Event(), threading.Event()
    images = backend._worker._loop.images

    def encode(*_):
        started.set()
        go_on.wait(PATIENCE)
        raise RuntimeError

    monkeypatch.setattr(images, "_encode", encode)
    size = backend._checkpoint.tiles.tile_size
    context = [backend._tokenizer.image_context_id] * backend._checkpoint.tokens_per_tile
    tile = np.zeros((1, size, size, 3), np.uint8)
    handle = submit(backend._worker, Request([*context, 1], [tile], max_tokens=1))
    assert started.wait(PATIENCE)
    handle.leave()
    assert wait_until(lambda: not threads())
    threading.Timer(0.05, go_on.set).start()
    backend.close()
    assert not [one for one in threading.enumerate() if one.name == "internvl-image"]


def test_closing_does_not_wait_for_weights(backend, monkeypatch):
    """The load ends before its next tensor."""
    started, go_on, ended = threading.Event(), threading.Event(), threading.Event()
    tensors = len(safe_open(FOLDER / "model.safetensors", "pt").keys())
    read, placed = [], []
    place = core_model_loading.set_param_for_module

    queue = itertools.count()

    def materialize(tensor, device=None, dtype=None):
        index = next(queue)
        started.set()
        go_on.wait(PATIENCE)
        if index >= tensors // 2:  # the pool may run far ahead of the thread that loads
            ended.wait(PATIENCE)
        read.append(tensor)
        return tensor[...].to(device=device, dtype=dtype)

    def count(*args, **kwargs):
        placed.append(args)
        if len(placed) > 1:
            ended.set()  # a load that goes on fails the test at once
        return place(*args, **kwargs)

    def load(*args):
        try:
            return load_model(*args)
        finally:
            ended.set()

    monkeypatch.setattr(core_model_loading, "_materialize_copy", materialize)
    monkeypatch.setattr(core_model_loading, "set_param_for_module", count)
    monkeypatch.setattr(LOAD_MODEL, load)
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(ids, backend, 1, 2, max_tokens=3)
        assert started.wait(PATIENCE)
        closing = pool.submit(backend.close)
        assert wait_until(lambda: backend._worker._closed is not None)
        go_on.set()
        closing.result(PATIENCE)
        with pytest.raises(BackendError, match="closed"):
            waiting.result()
    assert backend._worker._loop is None
    assert len(placed) <= 1
    assert len(read) < tensors


INTERRUPTED = """
import itertools, signal, sys, threading, time
from langchain_internvl.backends.transformers import backend, engine_thread

engine_thread._LOAD_END = {patience}  # the load takes as long as a busy machine needs
interrupted, ended = threading.Event(), threading.Event()

def interrupt(number, frame):
    interrupted.set()
    raise KeyboardInterrupt

signal.signal(signal.SIGINT, interrupt)  # ignored by default in programs of a background job
from transformers import core_model_loading

real, numbers = core_model_loading._materialize_copy, itertools.count(1)
spawn, queued = core_model_loading.spawn_materialize, 0

def slowly(*args, **kwargs):
    global queued
    queued += 1
    if queued > 40:  # the signal comes while tensors are still being queued
        interrupted.wait({patience})
    return spawn(*args, **kwargs)

def materialize(*args, **kwargs):
    own = next(numbers)
    print(own, flush=True)
    # However busy the machine is: no second tensor before the signal, and none before the exit.
    while not engine_thread._ENDING:
        time.sleep(0.01)
    if own > {most}:  # the pool may run far ahead of the thread that loads
        ended.wait({patience})
    return real(*args, **kwargs)

place, placed = core_model_loading.set_param_for_module, 0

def count(*args, **kwargs):
    global placed
    placed += 1
    if placed > 1:
        ended.set()  # a load that goes on reads every tensor
    return place(*args, **kwargs)

load_model = backend.load_model

def load(*args):
    try:
        return load_model(*args)
    finally:
        ended.set()

backend.load_model = load
core_model_loading.set_param_for_module = count
core_model_loading._materialize_copy = materialize
core_model_loading.spawn_materialize = slowly
from langchain_internvl import ChatInternVL
ChatInternVL(model=sys.argv[1], max_tokens=2).invoke("Hello!")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_while_weights_load_ends_the_program_before_they_are_loaded():
    tensors = len(safe_open(FOLDER / "model.safetensors", "pt").keys())
    source = INTERRUPTED.format(patience=PATIENCE, most=tensors // 4)
    program = subprocess.Popen(
        [sys.executable, "-c", source, str(FOLDER)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert program.stdout.readline() == "1\n"
        program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=PATIENCE)
    finally:
        program.kill()
    assert "KeyboardInterrupt" in err
    assert program.returncode != 0
    assert len(out.split()) < tensors / 2


def test_closing_ends_what_runs_and_refuses_what_comes(backend):
    stream = backend.stream(Request([1, 2], max_tokens=ENDLESS))
    next(stream)
    backend.close()
    assert not threads()
    with pytest.raises(BackendError, match="closed"):
        list(stream)
    with pytest.raises(BackendError, match="closed"):
        ids(backend, 1, 2)
    backend.close()


def test_everyone_gets_an_error_of_their_own(backend, monkeypatch):
    go_on = threading.Event()

    def load(*_):
        go_on.wait(PATIENCE)
        raise CheckpointError("gap")

    monkeypatch.setattr(LOAD_MODEL, load)
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(ids, backend, 1, 2) for _ in range(3)]
        assert wait_until(lambda: len(backend._worker._inbox) == 3)
        go_on.set()
        errors = {id(one.exception()) for one in waiting}
    assert len(errors) == 3


def test_loading_leaves_no_thread(backend):
    before = set(threading.enumerate())
    ids(backend, 1, 2, max_tokens=1)
    backend.close()
    assert set(threading.enumerate()) <= before


def test_warming_up_loads_the_model_and_leaves_nothing(backend):
    backend.warm_up()
    stats = backend.stats
    assert (stats.decode_steps, stats.feature_misses) == (1, 1)
    assert (stats.kv_bytes, stats.prefix_bytes, stats.feature_bytes) == (0, 0, 0)


@pytest.mark.slow
def test_a_program_may_end_at_any_time():
    """Also while a reply is being made, or in the moment after the last word of one."""
    program = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from golden import checkpoint_folder\n"
        "from support import load_loop\n"
        "from langchain_internvl.backends.base import Request\n"
        "from langchain_internvl.backends.transformers.request_handle import ThreadRequestHandle\n"
        "from langchain_internvl.backends.transformers.engine_thread import EngineThread\n"
        "engine_thread = EngineThread(lambda: load_loop(checkpoint_folder('qwen2')).loop)\n"
        "handle = ThreadRequestHandle(Request([1, 2], max_tokens=10**6))\n"
        "engine_thread.submit(handle)\n"
        "[handle.next() for _ in range(5)]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
