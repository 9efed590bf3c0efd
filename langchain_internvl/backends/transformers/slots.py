"""KV cache in slots: every sequence writes its keys and values at its own length.

A block is one tensor of keys and one of values per layer, [slots, heads, capacity, size]. A
sequence has one slot of one block for as long as it lives, with room for all it may ever hold, so a
decode step writes one column per sequence and copies nothing, a sequence that ends moves no other,
and no step has to ask for memory for keys.

On the CPU each slot is a block of its own: a call of attention costs little there, and each
sequence reads exactly its own keys. Elsewhere slots of one capacity share blocks, so that a few
calls serve the whole batch, under a mask (`kv_passes.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import Any

import torch

from langchain_internvl.backends.transformers.memory import layer_device
from langchain_internvl.errors import EngineMemoryError

BUCKET = 128
"""Tokens to which a view of several slots is rounded up; few shapes suit a GPU's allocator."""

_SHARED_SLOTS = 8
"""Most slots of a block on accelerators; twice as many as there are is what a new block gets."""


@dataclass(frozen=True)
class KVShape:
    """Keys and values of one model.

    Attributes:
        devices: Where each layer's keys and values are.
        heads: Heads of keys.
        size: Numbers of a head.
        dtype: Their type.
    """

    devices: tuple[torch.device, ...]
    heads: int
    size: int
    dtype: torch.dtype

    @classmethod
    def of_model(cls, model: Any) -> KVShape:
        """The shape of a native InternVL's keys and values."""
        text = model.config.get_text_config()
        size = getattr(text, "head_dim", None)
        return cls(
            devices=tuple(map(layer_device, model.model.language_model.layers)),
            heads=text.num_key_value_heads,
            size=size or text.hidden_size // text.num_attention_heads,
            dtype=model.dtype,
        )

    @property
    def token_bytes(self) -> int:
        """Bytes of the keys and values of one token in all layers."""
        return 2 * len(self.devices) * self.heads * self.size * self.dtype.itemsize


_NUMBERS = count()


class Block:
    """Slots of one capacity.

    Args:
        shape: Keys and values of the model.
        slots: Number of slots.
        capacity: Tokens of a slot.

    Attributes:
        number: Blocks that are older have lower ones.
        layers: Keys and values of each layer, each [slots, heads, capacity, size].
        free: Slots that no sequence has.
    """

    def __init__(self, shape: KVShape, slots: int, capacity: int) -> None:
        self.number = next(_NUMBERS)
        self.capacity = capacity
        self.slots = slots
        self.free = list(range(slots))
        # A mask does not hide what is no number, and fresh memory may hold that; a block of one
        # slot is never read beyond what was written.
        make = torch.empty if slots == 1 else torch.zeros
        size = slots, shape.heads, capacity, shape.size
        self.layers = [
            tuple(make(size, dtype=shape.dtype, device=device) for _ in range(2))
            for device in shape.devices
        ]
        self.nbytes = slots * capacity * shape.token_bytes


@dataclass(eq=False)
class Slot:
    """Room for one sequence.

    Attributes:
        block: Its block.
        index: Its place there.
    """

    block: Block
    index: int

    @property
    def capacity(self) -> int:
        """Tokens that it can hold."""
        return self.block.capacity

    @property
    def nbytes(self) -> int:
        """Its share of the block's memory."""
        return self.block.nbytes // self.block.slots

    def copy_from(self, other: Slot, length: int) -> None:
        """Take over the first keys and values of another slot.

        Args:
            other: The slot that has them.
            length: Number of tokens.
        """
        for mine, theirs in zip(self.block.layers, other.block.layers, strict=True):
            for to, source in zip(mine, theirs, strict=True):
                to[self.index, :, :length] = source[other.index, :, :length]


class SlotCache:
    """The slots of an engine, within a budget of bytes.

    Args:
        shape: Keys and values of the model.
        max_bytes: Most memory of all blocks together.
        shared_slots: Most slots of a block; None: 1 on the CPU, else 8.
    """

    def __init__(self, shape: KVShape, max_bytes: int, shared_slots: int | None = None) -> None:
        if shared_slots is None:
            is_cpu = all(device.type == "cpu" for device in shape.devices)
            shared_slots = 1 if is_cpu else _SHARED_SLOTS
        self.shape = shape
        self.max_bytes = max_bytes
        self._shared_slots = shared_slots
        self._blocks: list[Block] = []

    @property
    def nbytes(self) -> int:
        """Memory of all blocks, in bytes."""
        return sum(block.nbytes for block in list(self._blocks))

    def fits(self, length: int, freed: int = 0) -> bool:
        """Whether a sequence finds room now.

        Args:
            length: Tokens of the sequence when it is as long as it may get.
            freed: Bytes that could be freed for it.
        """
        needed = length * self.shape.token_bytes
        return self._find(length) is not None or self.nbytes - freed + needed <= self.max_bytes

    def allocate(self, length: int) -> Slot:
        """A slot for a sequence; what it holds is undefined.

        Args:
            length: Tokens of the sequence when it is as long as it may get.

        Raises:
            EngineMemoryError: There is no room within the budget.
            RuntimeError: Torch finds no memory.
        """
        block = self._find(length)
        if block is None:
            block = self._make_block(length)
            self._blocks.append(block)
        block.free.sort()
        return Slot(block, block.free.pop(0))

    def shrink(self, slot: Slot, length: int) -> Slot:
        """A slot with the same tokens that is not much larger than they need.

        Args:
            slot: A slot, which is not to be used any more.
            length: Tokens that it holds.
        """
        if slot.block.slots > 1 or slot.capacity <= 2 * length:
            return slot
        smaller = Slot(Block(self.shape, 1, length), 0)
        smaller.block.free.clear()
        smaller.copy_from(slot, length)
        self._blocks.append(smaller.block)
        self.release(slot)
        return smaller

    def release(self, slot: Slot) -> None:
        """Give a slot back; a block without sequences is freed."""
        slot.block.free.append(slot.index)
        if len(slot.block.free) == slot.block.slots:
            self._blocks.remove(slot.block)

    def clear(self) -> None:
        """Free all blocks, those in use too."""
        self._blocks.clear()

    def _find(self, length: int) -> Block | None:
        """The fullest of the smallest blocks with a free slot that is not far too large."""
        fitting = [
            block
            for block in self._blocks
            if block.free and length <= block.capacity <= max(BUCKET, 2 * length)
        ]
        return min(fitting, key=lambda one: (one.capacity, len(one.free)), default=None)

    def _make_block(self, length: int) -> Block:
        room = (self.max_bytes - self.nbytes) // self.shape.token_bytes
        if length > room:
            raise EngineMemoryError(
                f"keys and values of {length} tokens do not fit the {max(room, 0)} tokens that are "
                "left of max_kv_bytes of engine_options"
            )
        if self._shared_slots == 1:
            return Block(self.shape, 1, length)
        capacity = capacity_class(length)
        alike = sum(block.slots for block in self._blocks if block.capacity == capacity)
        for slots in (min(max(1, alike), self._shared_slots), 1):
            if slots * capacity <= room:
                return Block(self.shape, slots, capacity)
        return Block(self.shape, 1, length)


def capacity_class(length: int) -> int:
    """The capacity of slots for sequences up to a length.

    At most an eighth more than the length above 1,024 tokens, so that sequences of about one
    length share blocks.
    """
    step = max(BUCKET, 1 << max(0, (length - 1).bit_length() - 4))
    return -(-length // step) * step
