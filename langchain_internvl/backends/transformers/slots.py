"""KV cache in slots: every sequence writes its keys and values at its own length.

A block is one tensor of keys and one of values per layer, [slots, heads, capacity, size]. A
sequence has one slot of one block for its whole life, with room for its maximum length. So a decode
step writes one column per sequence and copies nothing, the end of a sequence moves no other, and no
step allocates memory for keys.

On the CPU each slot is a separate block: attention calls are cheap there, and each sequence reads
only its own keys. On accelerators slots of equal capacity share blocks, so that a few masked
attention calls serve the whole batch (`kv_passes.py`).

A slot has its full capacity from the start and does not grow: a reply that has begun can then
always be completed, and addresses stay (`graphs.py` needs that). On the CPU the system provides
pages of a slot only when they are written, so a short reply of a long `max_tokens` takes little.
Capacity that grows by doubling would need a way to stop and resume a reply for which no memory is
left.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

import torch

from langchain_internvl.backends.transformers.memory import layer_device, return_unused
from langchain_internvl.errors import EngineMemoryError

if TYPE_CHECKING:
    from collections.abc import Callable

BUCKET = 128
"""Granularity of views of several slots, in tokens; few distinct shapes suit a GPU's allocator."""

_TRIM_AFTER = 16 << 20
"""Bytes of freed blocks after which the allocator's unused memory is returned to the system."""

_SHARED_SLOTS = 8
"""Maximum slots of a block on accelerators; below it, a new block has twice the existing slots."""


@dataclass(frozen=True)
class KVShape:
    """Keys and values of one model.

    Attributes:
        devices: Device of each layer's keys and values.
        heads: Number of key heads.
        size: Size of a head.
        dtype: Data type.
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
        capacity: Capacity of a slot in tokens.
        is_zeroed: Whether a block of one slot is zeroed too.

    Attributes:
        number: Sequence number; older blocks have lower ones.
        layers: Keys and values of each layer, each [slots, heads, capacity, size].
        free: Indices of free slots.
        stained: Indices of free slots that may have NaN.
    """

    def __init__(
        self, shape: KVShape, slots: int, capacity: int, *, is_zeroed: bool = False
    ) -> None:
        self.number = next(_NUMBERS)
        self.capacity = capacity
        self.slots = slots
        self.free = list(range(slots))
        self.stained: set[int] = set()
        # Shared blocks are zeroed: a mask does not hide NaN, which uninitialised memory may have. A
        # block of one slot is read beyond the written tokens by CUDA graphs only.
        make = torch.empty if slots == 1 and not is_zeroed else torch.zeros
        size = slots, shape.heads, capacity, shape.size
        self.layers = [
            tuple(make(size, dtype=shape.dtype, device=device) for _ in range(2))
            for device in shape.devices
        ]
        self.nbytes = slots * capacity * shape.token_bytes


@dataclass(eq=False)
class Slot:
    """Keys and values of one sequence.

    Attributes:
        block: The block of the slot.
        index: Index in the block.
    """

    block: Block
    index: int

    @property
    def capacity(self) -> int:
        """Maximum number of tokens."""
        return self.block.capacity

    @property
    def nbytes(self) -> int:
        """Memory of the slot, in bytes."""
        return self.block.nbytes // self.block.slots

    def is_finite(self, length: int) -> bool:
        """Whether the first keys and values, of `length` tokens, are numbers."""
        return not length or all(
            bool(torch.stack(torch.aminmax(tensor[self.index, :, :length])).isfinite().all())
            for tensors in self.block.layers
            for tensor in tensors
        )

    def copy_from(self, other: Slot, length: int) -> None:
        """Copy the first keys and values of another slot.

        Args:
            other: The source.
            length: Number of tokens.
        """
        for mine, theirs in zip(self.block.layers, other.block.layers, strict=True):
            for to, source in zip(mine, theirs, strict=True):
                to[self.index, :, :length] = source[other.index, :, :length]


class SlotCache:
    """The slots of an engine, within a budget of bytes.

    Args:
        shape: Keys and values of the model.
        max_bytes: Maximum memory of all blocks, in bytes.
        shared_slots: Maximum number of slots of a block; None: 1 on the CPU, else 8.
        free: Returns the bytes that new blocks may take now; None: all up to `max_bytes`.
        forget: Called with each freed block, for readers of whole blocks; None: nothing reads
            beyond the written tokens of a block of one slot.
    """

    def __init__(
        self,
        shape: KVShape,
        max_bytes: int,
        shared_slots: int | None = None,
        free: Callable[[], int] | None = None,
        forget: Callable[[Block], None] | None = None,
    ) -> None:
        self._is_cpu = all(device.type == "cpu" for device in shape.devices)
        if shared_slots is None:
            shared_slots = 1 if self._is_cpu else _SHARED_SLOTS
        self._free, self._freed = free, 0
        self._forget = forget
        self.shape = shape
        self.max_bytes = max_bytes
        self._shared_slots = shared_slots
        self._blocks: list[Block] = []

    @property
    def nbytes(self) -> int:
        """Memory of all blocks, in bytes."""
        return sum(block.nbytes for block in list(self._blocks))

    def check(self, length: int) -> None:
        """Check that a sequence fits when nothing else runs.

        Args:
            length: Maximum number of tokens of the sequence.

        Raises:
            EngineMemoryError: It exceeds the budget.
        """
        needed = length * self.shape.token_bytes
        if needed > self.max_bytes:
            raise EngineMemoryError(
                f"keys and values of {length} tokens need {needed:,} bytes, over the limit of "
                f"{self.max_bytes:,}; lower max_tokens or max_tiles, or raise max_kv_bytes of "
                "engine_options"
            )

    def fits(self, length: int, freed: int = 0) -> bool:
        """Whether a sequence fits now.

        Args:
            length: Maximum number of tokens of the sequence.
            freed: Bytes that could be freed for it.
        """
        if self._find(length) is not None:
            return True
        needed = length * self.shape.token_bytes - freed
        if self.nbytes + needed > self.max_bytes:
            return False
        return self._free is None or needed <= 0 or needed <= self._free()

    def allocate(self, length: int) -> Slot:
        """Allocate a slot; its contents are undefined, but without NaN in a shared block.

        Args:
            length: Maximum number of tokens of the sequence.

        Raises:
            EngineMemoryError: The sequence does not fit the budget.
            RuntimeError: Torch is out of memory.
        """
        block = self._find(length)
        if block is None:
            block = self._make_block(length)
            self._blocks.append(block)
        block.free.sort()
        index = block.free.pop(0)
        if index in block.stained:
            for tensors in block.layers:
                for tensor in tensors:
                    tensor[index] = 0
            block.stained.remove(index)
        return Slot(block, index)

    def shrink(self, slot: Slot, length: int) -> Slot:
        """Move tokens to a smaller slot if theirs is much too large.

        Args:
            slot: The slot, which must not be used afterwards.
            length: Number of tokens in it.
        """
        if slot.block.slots > 1 or slot.capacity <= 2 * length:
            return slot
        smaller = Slot(self._new(1, length), 0)
        smaller.block.free.clear()
        smaller.copy_from(slot, length)
        self._blocks.append(smaller.block)
        self.release(slot)
        return smaller

    def release(self, slot: Slot, *, is_stained: bool = False) -> None:
        """Release a slot; a block without sequences is freed.

        Args:
            slot: The slot, which must not be used afterwards.
            is_stained: Whether its keys and values may be NaN. A mask does not hide them from the
                next sequence, so they are overwritten then.
        """
        slot.block.free.append(slot.index)
        if is_stained:
            slot.block.stained.add(slot.index)
        if len(slot.block.free) == slot.block.slots:
            self._blocks.remove(slot.block)
            if self._forget is not None:
                self._forget(slot.block)
            self._freed += slot.block.nbytes if self._is_cpu else 0
            if self._freed >= _TRIM_AFTER:
                self._freed = 0
                return_unused()

    def clear(self) -> None:
        """Free all blocks, including those in use."""
        for block in self._blocks:
            if self._forget is not None:
                self._forget(block)
        self._blocks.clear()

    def _find(self, length: int) -> Block | None:
        """The fullest of the smallest blocks with a free slot of suitable capacity; None: none."""
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
            return self._new(1, length)
        capacity = capacity_class(length)
        alike = sum(block.slots for block in self._blocks if block.capacity == capacity)
        for slots in (min(max(1, alike), self._shared_slots), 1):
            if slots * capacity <= room:
                return self._new(slots, capacity)
        return self._new(1, length)

    def _new(self, slots: int, capacity: int) -> Block:
        return Block(self.shape, slots, capacity, is_zeroed=self._forget is not None)


def capacity_class(length: int) -> int:
    """The capacity of slots for a sequence length, in tokens.

    Above 1,024 tokens at most an eighth more than the length, so that sequences of similar length
    share blocks.
    """
    step = max(BUCKET, 1 << max(0, (length - 1).bit_length() - 4))
    return -(-length // step) * step
