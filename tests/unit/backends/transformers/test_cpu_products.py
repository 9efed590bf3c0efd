"""Linear layers whose float32 products oneDNN computes."""

import copy
import pickle
from contextlib import nullcontext

import pytest
import torch
from engine_support import solo, words
from support import decode
from torch import nn
from torch.nn.functional import linear
from torch.utils._python_dispatch import TorchDispatchMode

from langchain_internvl.backends.base import Request
from langchain_internvl.backends.transformers import cpu_products
from langchain_internvl.backends.transformers.cpu_products import (
    CPULinear,
    is_faster,
    use_cpu_products,
)
from langchain_internvl.backends.transformers.decoding import DecodeLoop

needs_gain = pytest.mark.skipif(not is_faster(), reason="this processor does not gain")


class Products(TorchDispatchMode):
    """Counts the products that oneDNN computes."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += "_linear_pointwise" in str(func)
        return func(*args, **(kwargs or {}))


def count_products(run):
    with Products() as products:
        run()
    return products.count


def layer(out=900, size=700, *, bias=True, **options):
    torch.manual_seed(0)
    made = nn.Linear(size, out, bias=bias, **options)
    use_cpu_products(made)
    return made


@pytest.fixture
def all_sizes(monkeypatch):
    """Products of any size are computed by oneDNN."""
    monkeypatch.setattr(cpu_products, "_LEAST_WORK", 1)


@needs_gain
@pytest.mark.parametrize("shape", [(3000, 256), (256, 3000), (700, 700), (5, 3)])
@pytest.mark.parametrize("count", [1, 2, 3, 8, 40, 300])
@pytest.mark.parametrize("has_bias", [True, False])
def test_products_are_those_of_linear(shape, count, has_bias, all_sizes):
    made = layer(*shape, bias=has_bias)
    rows = torch.randn(count, 1, shape[1])
    expected = linear(rows, made.weight, made.bias)
    with torch.inference_mode():
        assert count_products(lambda: made(rows)) == len(cpu_products._blocks(count))
        found = made(rows)
        other = made(rows.transpose(0, 1))
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(other.transpose(0, 1), expected, atol=1e-4, rtol=1e-5)


@needs_gain
def test_numbers_of_rows_are_few_because_onednn_keeps_memory_for_each(monkeypatch):
    made, met = layer(1200, 500), set()
    compute = cpu_products._onednn

    def record(rows, weight, bias):
        met.add(len(rows))
        return compute(rows, weight, bias)

    monkeypatch.setattr(cpu_products, "_onednn", record)
    rows = torch.randn(700, 500)
    with torch.inference_mode():
        expected = linear(rows, made.weight, made.bias)
        for count in (*range(1, 40), *range(40, 700, 7)):
            torch.testing.assert_close(made(rows[:count]), expected[:count], atol=1e-4, rtol=1e-5)
    assert met == {1, 4, 8, 16, 32, 64, 256}


@needs_gain
def test_a_row_does_not_depend_on_the_others():
    made, rows = layer(6000, 128), torch.randn(11, 128)
    with torch.inference_mode():
        pairs = torch.cat([made(rows[n : n + 2]) for n in range(0, 10, 2)])
        assert torch.equal(made(rows)[:10], pairs)


@needs_gain
def test_a_row_that_is_left_over_by_a_block_is_rounded_as_the_others():
    made, rows = layer(6000, 128), torch.randn(65, 128)
    with torch.inference_mode():
        assert torch.equal(made(rows)[64], made(rows[63:])[1])


def test_small_and_empty_products_are_torchs_own():
    made = layer(64, 32)
    with torch.inference_mode():
        assert count_products(lambda: made(torch.randn(8, 32))) == 0
        assert made(torch.randn(0, 32)).shape == (0, 64)
        assert torch.equal(made(rows := torch.randn(3, 32)), linear(rows, made.weight, made.bias))


@pytest.mark.parametrize("part", ["rows", "weight", "bias"])
def test_gradients_are_those_of_a_linear_layer(part):
    made, plain = layer(), nn.Linear(700, 900)
    plain.load_state_dict(made.state_dict())
    rows = torch.randn(4, 700, requires_grad=part == "rows")
    gradients = []
    for one in (made, plain):
        rows.grad = None
        for name, parameter in one.named_parameters():
            parameter.requires_grad_(name == part)
        one(rows).sum().backward()
        gradients.append(rows.grad if part == "rows" else getattr(one, part).grad)
    assert torch.equal(*gradients)


@pytest.mark.parametrize(
    ("dtype", "context"),
    [
        (torch.bfloat16, nullcontext()),
        (torch.float64, nullcontext()),
        (torch.float32, torch.autocast("cpu", dtype=torch.bfloat16)),
    ],
)
def test_other_precisions_are_torchs_own(dtype, context):
    made = layer().to(dtype)
    rows = torch.randn(4, 700, dtype=dtype)
    with torch.inference_mode(), context:
        found, expected = made(rows), linear(rows, made.weight, made.bias)
        assert count_products(lambda: made(rows)) == 0
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)


def test_layers_of_other_kinds_are_left_alone():
    class Other(nn.Linear):
        """As quantised layers."""

    class Packed(torch.Tensor):
        """As quantised weights."""

    hooked, packed = nn.Linear(8, 8), nn.Linear(8, 8)
    hooked.forward = hooked.forward  # as accelerate does
    packed.weight = nn.Parameter(torch.randn(8, 8).as_subclass(Packed))
    others = [
        Other(8, 8),
        hooked,
        packed,
        nn.Linear(8, 8, dtype=torch.bfloat16),
        nn.Linear(8, 8, device="meta"),
    ]
    kinds = [type(one) for one in others]
    assert use_cpu_products(nn.ModuleList(others)) == 0
    assert [type(one) for one in others] == kinds


@needs_gain
def test_layers_are_copied_and_pickled_with_their_weights():
    made = layer()
    for other in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert type(other) is CPULinear
        assert torch.equal(other.weight, made.weight)
    assert isinstance(made, nn.Linear)
    assert list(made.state_dict()) == ["weight", "bias"]


@pytest.mark.parametrize(
    "fault",
    [
        lambda *_: (_ for _ in ()).throw(RuntimeError("other arguments")),
        lambda rows, weight, bias, *_: linear(rows, weight, bias) * 1.01,
        lambda rows, weight, *_: linear(rows, weight),  # forgets the bias
    ],
)
def test_a_product_that_is_not_right_is_not_used(fault, monkeypatch):
    monkeypatch.setattr(cpu_products, "_onednn", fault)
    assert not is_faster.__wrapped__()
    monkeypatch.setattr(cpu_products, "is_faster", is_faster.__wrapped__)
    assert type(layer()) is nn.Linear


def test_processors_without_these_instructions_keep_torchs_layers(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert not is_faster.__wrapped__()


@needs_gain
def test_vision_tower_prompts_and_decode_steps_use_them(loops, all_sizes):
    engine = loops("qwen2")
    head = engine.model.get_output_embeddings()
    tower = next(iter(engine.model.model.vision_tower.encoder.layer)).attention
    assert {type(one) for one in (head, tower.q_proj, tower.projection_layer)} == {CPULinear}
    plain = [name for name, one in engine.model.named_modules() if type(one) is nn.Linear]
    assert plain == []
    loop = DecodeLoop(engine.model, engine.tokenizer.token_bytes)
    for n in range(3):
        loop.add(Request(words(engine, 20, n), max_tokens=3))
    layers = engine.model.config.text_config.num_hidden_layers
    assert count_products(loop.step) == 7 * layers + 1


@needs_gain
def test_they_change_no_token(tiny, loops, all_sizes, monkeypatch):
    engine = loops(tiny)
    loop = DecodeLoop(engine.model, engine.tokenizer.token_bytes)
    requests = [Request(words(engine, 5 + 37 * n, n), max_tokens=6 + 2 * n) for n in range(5)]
    together = [ids for ids, _ in decode(loop, *requests)]
    assert [decode(loop, request)[0][0] for request in requests] == together
    monkeypatch.setattr(cpu_products, "_LEAST_WORK", float("inf"))
    assert [solo(engine, request) for request in requests] == together
