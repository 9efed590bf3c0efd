"""Memory of a device: the budget of the KV cache, and errors that say it is full."""

from types import SimpleNamespace

import pytest
import torch
from engine_support import solo, words
from support import decode

from langchain_internvl.backends.base import Request
from langchain_internvl.backends.transformers import memory, slots
from langchain_internvl.backends.transformers.decoding import DecodeLoop
from langchain_internvl.backends.transformers.limits import Limits
from langchain_internvl.backends.transformers.memory import free_on, is_out_of_memory, layer_device


def test_the_next_engine_may_have_what_the_allocator_holds(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1000, 5000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 3000)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 2000)
    layer = torch.nn.Linear(1, 1)
    layer._hf_hook = SimpleNamespace(execution_device="cuda:0")
    assert free_on([layer_device(layer)]) == 1600


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory",
    ],
)
def test_errors_that_say_memory_is_full(message):
    assert is_out_of_memory(RuntimeError(message))
    assert not is_out_of_memory(ValueError(message))
    assert not is_out_of_memory(RuntimeError("CUDA error: an illegal memory access"))


CPU, GPU = torch.device("cpu"), torch.device("cuda:0")


def test_what_others_have_allocated_on_a_gpu_is_not_free(monkeypatch):
    """The device with the least memory for each layer sets the result."""
    free = {0: 3000, 1: 500}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free[device.index], 5000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 0)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 0)
    devices = [GPU, GPU, GPU, torch.device("cuda:1")]
    assert free_on(devices) == int(500 * 0.8 * 4)
    free[1] = 5000
    assert free_on(devices) == int(3000 * 0.8 * 4 / 3)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 4000 * 1024),
        ({"memory.max": "max", "memory.current": "5"}, 4000 * 1024),
        ({"memory.max": "3000000", "memory.current": "2000000"}, 1_000_000),
        ({"memory.max": "3000000", "memory.current": "2000000",
          "memory.stat": "anon 7\ninactive_file 500000\n"}, 1_500_000),
        ({"memory.max": "3000000", "memory.current": "4000000"}, 0),
    ],
)  # fmt: skip
def test_what_others_have_allocated_on_the_cpu_is_not_free(files, expected, tmp_path, monkeypatch):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9000 kB\nMemFree: 100 kB\nMemAvailable: 4000 kB\n")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    monkeypatch.setattr(memory, "_MEMINFO", meminfo)
    assert free_on([CPU]) == expected // 2


def test_systems_that_do_not_report_available_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "none")
    monkeypatch.setattr("os.sysconf", lambda name: {"SC_PAGE_SIZE": 4, "SC_PHYS_PAGES": 50}[name])
    assert free_on([CPU]) == 100
    monkeypatch.delattr("os.sysconf")
    assert free_on([CPU]) == 8 << 30


@pytest.mark.parametrize("error", [AttributeError, OSError, TypeError])
def test_allocators_without_a_trim_function_are_left_alone(error, monkeypatch):
    def refuse(_):
        raise error

    monkeypatch.setattr("ctypes.CDLL", refuse)
    assert memory.return_unused() is False


def small_loop(engine, monkeypatch, free):
    """A loop whose device has so many tokens of memory free, in addition to its slots."""
    room = [free]
    loop = DecodeLoop(engine.model, engine.tokenizer.token_bytes)
    token = loop._slots.shape.token_bytes
    loop._slots._free = lambda: room[0] * token
    return loop, room


def test_another_engine_that_fills_the_device_makes_requests_wait(loops, monkeypatch):
    engine = loops("qwen2")
    loop, room = small_loop(engine, monkeypatch, 1000)
    running, _ = loop.add(Request(words(engine, 50), max_tokens=20))
    request = Request(words(engine, 60, 1), max_tokens=40)
    assert loop.can_admit(request)
    room[0] = 99  # one token is missing
    assert not loop.can_admit(request)
    loop.remove(running)  # whose keys are kept, and freed for the request
    assert loop.can_admit(request)
    sequence, _ = loop.add(request)
    assert loop.prefixes.nbytes == 0
    loop.remove(sequence)


def test_a_request_is_tried_when_waiting_would_free_nothing(loops, monkeypatch):
    engine = loops("qwen2")
    loop, _ = small_loop(engine, monkeypatch, 0)
    request = Request(words(engine, 60), max_tokens=4)
    assert loop.can_admit(request)
    assert decode(loop, request)[0][0] == solo(engine, request)


def test_a_stated_budget_is_taken_as_it_is(loops):
    engine = loops("qwen2")
    loop = DecodeLoop(engine.model, engine.tokenizer.token_bytes, Limits(max_kv_bytes=1 << 20))
    assert loop._slots.max_bytes == 1 << 20
    assert loop._slots._free is None


def test_freed_slots_are_returned_to_the_system_now_and_then(loops, monkeypatch):
    engine = loops("qwen2")
    trims = []
    monkeypatch.setattr(slots, "return_unused", lambda: trims.append(True))
    loop = DecodeLoop(engine.model, engine.tokenizer.token_bytes, Limits(prefix_cache=False))
    request = Request([1, 2], max_tokens=1_000)
    size = 1_002 * loop._slots.shape.token_bytes
    monkeypatch.setattr(slots, "_TRIM_AFTER", 3 * size)
    for count in range(1, 8):
        loop.remove(loop.begin(request))
        assert len(trims) == count // 3
