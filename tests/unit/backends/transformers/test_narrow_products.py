"""Products of few rows with large matrices, which decode steps consist of."""

import pytest
import torch
from engine_support import solo, words
from support import decode
from torch import nn
from torch.nn.functional import linear

from langchain_internvl.backends.base import Request
from langchain_internvl.backends.transformers import narrow_products
from langchain_internvl.backends.transformers.decoding import DecodeLoop
from langchain_internvl.backends.transformers.narrow_products import NarrowProducts, narrow_product


@pytest.mark.parametrize("shape", [(3000, 256), (256, 3000), (700, 700)])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 12, 13, 40])
@pytest.mark.parametrize("has_bias", [True, False])
def test_products_are_those_of_linear(shape, count, has_bias):
    torch.manual_seed(0)
    weight, rows = torch.randn(shape), torch.randn(count, 1, shape[1])
    bias = torch.randn(shape[0]) if has_bias else None
    found, expected = narrow_product(rows, weight, bias), linear(rows, weight, bias)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-5)


def test_a_row_of_a_wide_product_does_not_depend_on_the_others():
    torch.manual_seed(0)
    weight, rows = torch.randn(6000, 128), torch.randn(11, 128)
    alone = torch.cat([narrow_product(row[None], weight) for row in rows])
    assert torch.equal(narrow_product(rows, weight), alone)


def products_of(monkeypatch):
    """The shapes of the matrices that are multiplied this way."""
    shapes = []

    def record(rows, weight, bias=None):
        shapes.append((rows.shape[0], *weight.shape))
        return narrow_product(rows, weight, bias)

    monkeypatch.setattr(narrow_products, "narrow_product", record)
    return shapes


needs_mkl = pytest.mark.skipif(
    not torch.backends.mkl.is_available(), reason="other libraries' kernels are not replaced"
)


def loop_with_small_layers(engine, monkeypatch):
    monkeypatch.setattr(narrow_products, "_LEAST_WEIGHTS", 1)
    return DecodeLoop(engine.model, engine.tokenizer.token_bytes)


@needs_mkl
def test_decode_steps_use_them_and_generate_does_not(loops, monkeypatch):
    engine = loops("qwen2")
    loop = loop_with_small_layers(engine, monkeypatch)
    head = engine.model.get_output_embeddings()
    shapes = products_of(monkeypatch)
    for n in range(3):
        loop.add(Request(words(engine, 20, n), max_tokens=3))
    shapes.clear()
    loop.step()
    assert shapes.count((3, *head.weight.shape)) == 1
    loop.clear()
    shapes.clear()
    engine.model.generate(
        input_ids=torch.tensor([[5, 6]]), max_new_tokens=2, eos_token_id=None, pad_token_id=0
    )
    assert shapes == []
    assert "forward" not in vars(head)


@needs_mkl
def test_they_change_no_token(tiny, loops, monkeypatch):
    engine = loops(tiny)
    loop = loop_with_small_layers(engine, monkeypatch)
    requests = [Request(words(engine, 5 + 37 * n, n), max_tokens=6 + 2 * n) for n in range(5)]
    expected = [solo(engine, request) for request in requests]
    assert [ids for ids, _ in decode(loop, *requests)] == expected
    assert [decode(loop, request)[0][0] for request in requests] == expected


def test_layers_of_other_kinds_are_left_alone():
    class Other(nn.Linear):
        """As quantised layers."""

    def large(kind=nn.Linear, dtype=torch.float32):
        return kind(1024, 1024, dtype=dtype)

    hooked = large()
    hooked.forward = hooked.forward  # as accelerate does
    assert not narrow_products._gains(hooked)
    assert not narrow_products._gains(large(Other))
    assert not narrow_products._gains(large(dtype=torch.bfloat16))
    assert not narrow_products._gains(nn.Linear(8, 8))
    assert narrow_products._gains(large()) == torch.backends.mkl.is_available()


def test_an_error_in_a_pass_leaves_the_layers_as_they_were(loops):
    model = loops("qwen2").model
    layers = NarrowProducts(model)
    with pytest.raises(ZeroDivisionError), layers():
        raise ZeroDivisionError
    assert "forward" not in vars(model.get_output_embeddings())
