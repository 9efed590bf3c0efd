"""A decode step over whole blocks attends as one over rows does, and touches no other slot."""

import pytest
import torch

from langchain_internvl.backends.transformers.attention import AttentionKind
from langchain_internvl.backends.transformers.block_pass import BlockPass, widths_of
from langchain_internvl.backends.transformers.kv_passes import DecodePass
from langchain_internvl.backends.transformers.slots import Block, KVShape, Slot

HEADS, GROUPS, SIZE = 6, 2, 8
CPU = torch.device("cpu")
SHAPE = KVShape((CPU,), GROUPS, SIZE, torch.float32)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape) + seed))


def filled_block(slots, capacity):
    block = Block(SHAPE, slots, capacity, is_zeroed=True)
    for number, tensor in enumerate(block.layers[0]):
        tensor.copy_(random(*tensor.shape, seed=number))
    return block


@pytest.mark.parametrize("sinks", [None, torch.linspace(-1, 2, HEADS)])
@pytest.mark.parametrize("window", [None, 3, 200])
def test_it_attends_as_a_pass_over_rows(window, sinks):
    kind = AttentionKind(SIZE**-0.5, window, sinks)
    blocks = [filled_block(4, 640), filled_block(1, 300), filled_block(2, 20)]
    slots = [Slot(blocks[0], 3), Slot(blocks[0], 1), Slot(blocks[1], 0), Slot(blocks[2], 1)]
    lengths = [5, 256, 298, 0]
    new = [random(4, count, 1, SIZE, seed=7) for count in (HEADS, GROUPS, GROUPS)]
    before = [[tensor.clone() for tensor in block.layers[0]] for block in blocks]

    step = BlockPass(widths_of(slots, lengths), CPU)
    step.fill(slots, lengths, [10, 11, 12, 13])
    assert step.select(step.ids)[:, 0].tolist() == [10, 11, 12, 13]
    assert step.select(step.positions)[:, 0].tolist() == lengths
    rows = step.select(torch.arange(7))
    spread = [torch.full((7, *one.shape[1:]), float("nan")) for one in new]  # dummy rows overflow
    for tensor, one in zip(spread, new, strict=True):
        tensor[rows] = one
    step.begin()
    found = step.select(step.attend(0, *spread, kind))
    expected = DecodePass(slots, lengths).attend(0, *new, kind)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)

    own = {(one.block, one.index): length for one, length in zip(slots, lengths, strict=True)}
    for block, tensors in zip(blocks, before, strict=True):
        for tensor, old in zip(block.layers[0], tensors, strict=True):
            for index in range(block.slots):
                changed = (tensor[index] != old[index]).any(0).any(-1).nonzero().flatten()
                assert changed.tolist() == [own.get((block, index), block.capacity - 1)]
                if (block, index) not in own:
                    assert not tensor[index, :, -1].any()


def test_widths_are_powers_of_two_up_to_the_capacity():
    old, new = Block(SHAPE, 2, 1300), Block(SHAPE, 1, 90)
    one, two, other = Slot(old, 0), Slot(old, 1), Slot(new, 0)
    for lengths, width in (
        ((0, 3), 256),
        ((255, 3), 256),
        ((3, 256), 512),
        ((511, 512), 1024),
        ((1024, 0), 1300),
        ((1299, 0), 1300),
    ):
        widths = widths_of([other, one, two], [80, *lengths])
        assert list(widths.items()) == [(old, width), (new, 90)]
