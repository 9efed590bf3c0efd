"""Attention over slots, against transformers' own of one tensor."""

from types import SimpleNamespace

import pytest
import torch
from transformers.models.gpt_oss.modeling_gpt_oss import eager_attention_forward

from langchain_internvl.backends.transformers.attention import AttentionKind
from langchain_internvl.backends.transformers.kv_passes import DecodePass, PromptPass
from langchain_internvl.backends.transformers.slots import KVShape, SlotCache, capacity_class
from langchain_internvl.errors import EngineMemoryError

HEADS, GROUPS, SIZE = 6, 2, 8
SHAPE = KVShape((torch.device("cpu"),), GROUPS, SIZE, torch.float32)


def random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def expected(query, key, value, window, sinks):
    """One sequence through transformers' eager attention, as it is in gpt-oss."""
    count, total = query.shape[2], key.shape[2]
    places = torch.arange(total)
    row = places[total - count :, None]
    seen = places <= row
    if window:
        seen &= places > row - window
    mask = torch.zeros(count, total).masked_fill(~seen, torch.finfo(torch.float32).min)
    module = SimpleNamespace(
        num_key_value_groups=HEADS // GROUPS,
        training=False,
        sinks=torch.full((HEADS,), float("-inf")) if sinks is None else sinks,
    )
    result, _ = eager_attention_forward(
        module, query, key, value, mask[None, None], scaling=SIZE**-0.5
    )
    return result.transpose(1, 2)


@pytest.mark.parametrize("sinks", [None, torch.linspace(-1, 2, HEADS)])
@pytest.mark.parametrize("window", [None, 3, 64])
@pytest.mark.parametrize("shared", [1, 4])
def test_attention_of_prompts_in_chunks_and_of_steps(shared, window, sinks):
    kind = AttentionKind(SIZE**-0.5, window, sinks)
    cache = SlotCache(SHAPE, 1 << 20, shared)
    lengths = [5, 12, 1]
    slots, parts = [], []
    for length in lengths:
        slot = cache.allocate(20)
        query = random(1, HEADS, length + 1, SIZE)
        key, value = random(1, GROUPS, length + 1, SIZE), random(1, GROUPS, length + 1, SIZE) + 1
        for start in range(0, length, 4):
            chunk = slice(start, min(start + 4, length))
            result = PromptPass(slot, start).attend(
                0, query[:, :, chunk], key[:, :, chunk], value[:, :, chunk], kind
            )
            until = chunk.stop
            reference = expected(
                query[:, :, chunk], key[:, :, :until], value[:, :, :until], window, sinks
            )
            assert torch.allclose(result, reference, atol=1e-6)
        slots.append(slot)
        parts.append((query, key, value))
    cache.release(slots[0])  # a free slot between the others
    both = sorted(
        zip(slots[1:], lengths[1:], parts[1:], strict=True),
        key=lambda one: DecodePass.order(one[0]),
    )
    new = [torch.cat([part[n][:, :, -1:] for _, _, part in both]) for n in range(3)]
    step = DecodePass([slot for slot, _, _ in both], [length for _, length, _ in both])
    result = step.attend(0, *new, kind)
    reference = torch.cat([expected(q[:, :, -1:], k, v, window, sinks) for _, _, (q, k, v) in both])
    assert torch.allclose(result, reference, atol=1e-6)


def test_blocks_keep_to_the_budget_and_are_freed_with_their_last_sequence():
    token = SHAPE.token_bytes
    cache = SlotCache(SHAPE, 1000 * token, 4)
    slots = [cache.allocate(100) for _ in range(4)]
    assert [slot.block.slots for slot in slots] == [1, 1, 2, 2]
    assert cache.nbytes == 4 * 128 * token
    assert cache.fits(400)
    assert not cache.fits(600)
    last = cache.allocate(488)  # exactly what is left: no rounding
    assert last.capacity == 488
    with pytest.raises(EngineMemoryError, match="0 tokens that are left"):
        cache.allocate(10)
    cache.release(slots[2])
    assert cache.nbytes == 1000 * token
    assert cache.allocate(90).block is slots[3].block
    for slot in (slots[0], last):
        cache.release(slot)
    assert cache.nbytes == 3 * 128 * token


@pytest.mark.parametrize("length", [1, 128, 129, 1000, 1025, 5000, 40_000])
def test_capacities_waste_little(length):
    capacity = capacity_class(length)
    assert length <= capacity <= max(length + 127, 1.125 * length)
    assert capacity % 128 == 0
