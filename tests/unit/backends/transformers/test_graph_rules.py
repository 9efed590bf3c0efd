"""Which models' decode steps are captured, and what users are told otherwise."""

import warnings
from types import SimpleNamespace

import pytest
import torch
from engine_support import make_backend
from graph_tape import TapeRecorder
from transformers import GptOssConfig, Qwen3MoeConfig

from langchain_internvl.backends.base import Request
from langchain_internvl.backends.transformers import graph_rules
from langchain_internvl.backends.transformers.decoding import DecodeLoop
from langchain_internvl.backends.transformers.graph_rules import make_graphs
from langchain_internvl.backends.transformers.limits import Limits
from langchain_internvl.errors import RequestError


def refusal(model):
    """The reason why a model has no graphs, also on a device that has them."""
    with pytest.warns(UserWarning, match="cuda_graphs has no effect") as told:
        assert make_graphs(model, TapeRecorder(), wanted=True) is None
    assert make_graphs(model, TapeRecorder()) is None
    return str(told[0].message).partition("model: ")[2]


@pytest.mark.parametrize("name", ["internlm2", "qwen2", "llama"])
def test_plain_models_are_captured_where_a_recorder_is(name, loops):
    model = loops(name).model
    assert make_graphs(model, TapeRecorder()) is not None
    assert make_graphs(model, TapeRecorder(), wanted=True) is not None
    assert make_graphs(model, TapeRecorder(), wanted=False) is None


def test_on_a_cpu_there_are_none(loops):
    model = loops("qwen2").model
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert make_graphs(model) is None
        assert make_graphs(model, wanted=False) is None
    with pytest.warns(UserWarning, match="no effect on this model: it is on the device 'cpu'"):
        assert make_graphs(model, wanted=True) is None


def test_longrope_is_not_captured(loops):
    assert refusal(loops("phi3").model) == "its RoPE is longrope"


def test_models_with_hooks_are_not_captured(loops):
    model = loops("qwen2").model
    layer = model.model.language_model.layers[0]
    layer._hf_hook = SimpleNamespace(execution_device="cpu")
    try:
        assert refusal(model) == "accelerate moves its weights or inputs"
    finally:
        del layer._hf_hook


def test_models_on_several_devices_are_not_captured(loops):
    model = loops("qwen2").model
    norm = model.model.language_model.norm
    norm.offloaded = torch.nn.Parameter(torch.zeros(2, device="meta"))
    try:
        assert refusal(model) == "its weights are on several devices"
    finally:
        del norm.offloaded


def test_quantised_weights_are_not_captured(loops):
    model = loops("qwen2").model
    model.config.quantization_config = {"quant_method": "bitsandbytes"}
    try:
        assert refusal(model) == "its weights are quantised"
    finally:
        del model.config.quantization_config


@pytest.mark.parametrize("config", [Qwen3MoeConfig(), GptOssConfig()])
def test_mixtures_of_experts_are_not_captured(config, loops, monkeypatch):
    model = loops("qwen2").model
    monkeypatch.setattr(model.config, "get_text_config", lambda: config)
    assert refusal(model) == "it is a mixture of experts"


def test_a_model_on_a_cuda_device_gets_cuda_graphs(monkeypatch):
    made = []
    monkeypatch.setattr(graph_rules, "CudaRecorder", lambda device: made.append(device) or "cuda")
    weight = SimpleNamespace(device=torch.device("cuda", 1))
    text = SimpleNamespace(model_type="qwen2", rope_parameters={"rope_type": "default"})
    model = SimpleNamespace(
        config=SimpleNamespace(get_text_config=lambda: text),
        modules=lambda: iter([]),
        parameters=lambda: iter([weight]),
    )
    assert make_graphs(model) is not None
    assert make_graphs(model, wanted=True) is not None
    assert make_graphs(model, wanted=False) is None
    assert made == [torch.device("cuda", 1)] * 2


@pytest.mark.parametrize("value", [0, 1, "auto", [], 1.0])
def test_the_option_is_true_false_or_none(value):
    with pytest.raises(RequestError, match="cuda_graphs is True, False or None, not"):
        Limits.from_options({"cuda_graphs": value})


@pytest.mark.parametrize("value", [True, False, None])
def test_the_option_reaches_the_loop(value, loops):
    engine = loops("qwen2")
    limits = Limits.from_options({"cuda_graphs": value})
    loop = DecodeLoop(engine.model, {}, limits, recorder=TapeRecorder())
    assert (loop.graphs is None) == (value is False)


def test_the_engine_warns_of_an_option_without_effect_and_counts_no_replays():
    backend = make_backend(cuda_graphs=True)
    try:
        with pytest.warns(UserWarning, match="cuda_graphs has no effect on this model"):
            list(backend.stream(Request([1, 2], max_tokens=6)))
        assert backend.stats.graph_steps == 0
    finally:
        backend.close()
