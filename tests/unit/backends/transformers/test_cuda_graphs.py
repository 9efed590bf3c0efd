"""Graphs of an engine with its threads, and the calls of torch that capture CUDA graphs."""

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace

import torch
from engine_support import FOLDER, solo, submit, words
from graph_tape import Tape, TapeRecorder
from patience import PATIENCE
from support import decode, load_loop

from langchain_internvl.backends.base import Request
from langchain_internvl.backends.transformers.decoding import DecodeLoop
from langchain_internvl.backends.transformers.engine_thread import EngineThread
from langchain_internvl.backends.transformers.graphs import CudaRecorder


def loop_of(engine, slots, recorder):
    return DecodeLoop(
        engine.model, engine.tokenizer.token_bytes, shared_slots=slots, recorder=recorder
    )


def test_requests_of_many_threads_and_the_end_of_an_engine(loops):
    engine = loops("qwen2")
    requests = [Request(words(engine, 20 + 5 * n, n), max_tokens=30) for n in range(9)]
    alone = [solo(engine, request) for request in requests]
    models = []

    def load():
        own = load_loop(FOLDER)
        models.append(weakref.ref(own.model))
        return loop_of(own, 4, TapeRecorder())

    thread = EngineThread(load)

    def ask(n):
        handle = submit(thread, requests[n])
        found = [handle.next() for _ in range(10 if n % 3 == 2 else 30)]
        handle.leave()
        return [one.token_id for one in found]

    with ThreadPoolExecutor(9) as pool:
        replies = list(pool.map(ask, range(9)))
    for n, (reply, expected) in enumerate(zip(replies, alone, strict=True)):
        assert reply == expected[: 10 if n % 3 == 2 else 30]
    assert thread.stats.graph_steps > 10
    thread.close()
    gc.collect()
    assert models[0]() is None


class FakeCuda:
    """The functions of `torch.cuda` that capture graphs, on the CPU."""

    def __init__(self, monkeypatch):
        self.streams, self.pools, self.failure = ["default"], [], None
        self.live = 0
        for name in ("CUDAGraph", "Stream", "current_stream", "device", "graph",
                     "graph_pool_handle", "stream"):  # fmt: skip
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))
        monkeypatch.setattr(torch.Tensor, "record_stream", lambda *_: None)

    class CUDAGraph:
        def __init__(self):
            self.tape = Tape()

        def replay(self):
            self.tape.play()

    @staticmethod
    def Stream(device):  # noqa: N802 - torch's name
        return SimpleNamespace(device=device, wait_stream=lambda other: None)

    def current_stream(self):
        return SimpleNamespace(wait_stream=lambda other: None)

    def graph_pool_handle(self):
        self.pools.append(len(self.pools))
        return self.pools[-1]

    @contextmanager
    def device(self, device):
        yield

    @contextmanager
    def stream(self, stream):
        self.streams.append(stream)
        try:
            yield
        finally:
            self.streams.pop()

    @contextmanager
    def graph(self, graph, pool, stream, *, capture_error_mode):
        assert (pool, stream) == (self.pools[-1], self.streams[-1])
        assert capture_error_mode == "thread_local"
        if self.failure is not None:
            raise self.failure
        with graph.tape:
            yield
        graph.tape.poison()


def test_cuda_graphs_are_made_by_torchs_functions(loops, monkeypatch):
    """The calls only; whether a GPU accepts the capture is checked by `benchmarks/gpu.py`."""
    engine, cuda = loops("qwen2"), FakeCuda(monkeypatch)
    loop = loop_of(engine, 2, CudaRecorder(torch.device("cuda", 1)))
    requests = [Request(words(engine, 20 + n, n), max_tokens=20 + 10 * n) for n in range(3)]
    expected = [solo(engine, request) for request in requests]
    assert [ids for ids, _ in decode(loop, *requests)] == expected
    assert loop.graphs.replays > 10
    assert cuda.streams == ["default"]
    assert len(cuda.pools) < len(loop.graphs._graphs) + 3
    pools = len(cuda.pools)
    loop.clear_caches()
    decode(loop, requests[2])
    assert len(cuda.pools) == pools + 1  # torch has freed the pool of graphs that are gone
    cuda.failure = RuntimeError("CUDA error: operation failed due to a previous error")
    loop.clear_caches()
    assert [ids for ids, _ in decode(loop, *requests)] == expected
    assert cuda.streams == ["default"]
    assert not loop.graphs._graphs


def test_two_engines_do_not_capture_at_once(monkeypatch):
    FakeCuda(monkeypatch)
    entered, done = threading.Event(), []

    def capture(run):
        CudaRecorder(torch.device("cuda", 0)).capture(run)
        done.append(run)

    def other():
        entered.set()
        return torch.zeros(1)

    thread = threading.Thread(target=capture, args=[other])

    def first():
        thread.start()
        assert not entered.wait(0.3)
        return torch.zeros(1)

    capture(first)
    thread.join(PATIENCE)
    assert entered.is_set()
    assert len(done) == 2
