"""Memory of a device: the budget of the KV cache, and errors that say it is full."""

from types import SimpleNamespace

import pytest
import torch

from langchain_internvl.backends.transformers.memory import free_for_cache, is_out_of_memory


def test_the_next_engine_may_have_what_the_allocator_holds(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1000, 5000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 3000)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 2000)
    layer = torch.nn.Linear(1, 1)
    layer._hf_hook = SimpleNamespace(execution_device="cuda:0")
    text = SimpleNamespace(layers=[layer])
    assert free_for_cache(SimpleNamespace(model=SimpleNamespace(language_model=text))) == 1600


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
