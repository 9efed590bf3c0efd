"""KV cache in slots: every sequence writes its keys and values at its own length.

A block is one tensor of keys and one of values per layer, [slots, heads, capacity, size]. A
sequence has one slot of one block for as long as it lives, with room for all it may ever hold, so a
decode step writes one column per sequence and copies nothing, a sequence that ends moves no other,
and no step has to ask for memory for keys.

Sequences that decode together may lie in several blocks: their projections are computed as one
batch, and attention goes block by block. On the CPU each slot is a block of its own: a call of
attention costs little there, and each sequence reads exactly its own keys. Elsewhere slots of one
capacity share blocks, so that a few calls serve the whole batch, under a mask.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

import torch

from langchain_internvl.backends.transformers.attention import AttentionKind, attend
from langchain_internvl.backends.transformers.memory import layer_device
from langchain_internvl.errors import EngineMemoryError

if TYPE_CHECKING:
    from collections.abc import Sequence

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


@dataclass(frozen=True)
class _Segment:
    """Sequences of one pass that lie in one block.

    Attributes:
        block: The block.
        first: Their first row in the batch; they follow each other.
        slots: Their slots, in the order of the rows.
        lengths: Tokens that each holds already: where its next ones are written.
    """

    block: Block
    first: int
    slots: list[int]
    lengths: list[int]
    _on_devices: dict[Any, Any] = field(default_factory=dict)

    @property
    def rows(self) -> slice:
        """Their rows in the batch."""
        return slice(self.first, self.first + len(self.slots))

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        kind: AttentionKind,
    ) -> torch.Tensor:
        """The attention of one new token of each sequence."""
        keys, values = self.block.layers[layer]
        if len(self.slots) == 1:
            slot, length = self.slots[0], self.lengths[0]
            keys[slot, :, length] = key[0, :, 0]
            values[slot, :, length] = value[0, :, 0]
            seen = slice(max(0, length + 1 - (kind.window or length + 1)), length + 1)
            one = slice(slot, slot + 1)
            return attend(query, keys[one, :, seen], values[one, :, seen], kind)
        slots, lengths = self._places(keys.device)
        keys[slots, :, lengths] = key[:, :, 0]
        values[slots, :, lengths] = value[:, :, 0]
        low, high = min(self.slots), max(self.slots) + 1
        width = min(-(-(max(self.lengths) + 1) // BUCKET) * BUCKET, self.block.capacity)
        mask = self._mask(keys.device, low, high, width, kind.window)
        is_dense = self.slots == list(range(low, high))
        if not is_dense:  # free slots in between compute along, and are not looked at
            spread = query.new_zeros(high - low, *query.shape[1:])
            spread[slots - low] = query
            query = spread
        result = attend(query, keys[low:high, :, :width], values[low:high, :, :width], kind, mask)
        return result if is_dense else result[slots - low]

    def _places(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        if device not in self._on_devices:
            places = torch.tensor([self.slots, self.lengths], device=device)
            self._on_devices[device] = places[0], places[1]
        slots, lengths = self._on_devices[device]
        return slots, lengths

    def _mask(
        self, device: torch.device, low: int, high: int, width: int, window: int | None
    ) -> torch.Tensor:
        """True where a slot's new token sees a key: [slots, 1, 1, width]."""
        name = device, window
        if name not in self._on_devices:
            slots, lengths = self._places(device)
            last = torch.zeros(high - low, dtype=torch.long, device=device)
            last[slots - low] = lengths
            columns = torch.arange(width, device=device)
            mask = columns <= last[:, None]
            if window is not None:
                mask &= columns > last[:, None] - window
            self._on_devices[name] = mask[:, None, None]
        found: torch.Tensor = self._on_devices[name]
        return found


class DecodePass:
    """A pass that adds one token to each of several sequences.

    Args:
        slots: Their slots, sorted by block (see `order`).
        lengths: Tokens that each holds.
    """

    def __init__(self, slots: Sequence[Slot], lengths: Sequence[int]) -> None:
        self._segments: list[_Segment] = []
        for row, (slot, length) in enumerate(zip(slots, lengths, strict=True)):
            last = self._segments[-1] if self._segments else None
            if last is None or last.block is not slot.block:
                last = _Segment(slot.block, row, [], [])
                self._segments.append(last)
            last.slots.append(slot.index)
            last.lengths.append(length)

    @staticmethod
    def order(slot: Slot) -> tuple[int, int]:
        """Sorts slots for a pass."""
        return slot.block.number, slot.index

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        kind: AttentionKind,
    ) -> torch.Tensor:
        """See `KVPass.attend`."""
        results = [
            one.attend(layer, query[one.rows], key[one.rows], value[one.rows], kind)
            for one in self._segments
        ]
        return results[0] if len(results) == 1 else torch.cat(results)


class PromptPass:
    """A pass that adds several tokens to one sequence.

    Args:
        slot: Its slot.
        length: Tokens that it holds.
    """

    def __init__(self, slot: Slot, length: int) -> None:
        self._slot = slot
        self._length = length
        self._masks: dict[Any, torch.Tensor] = {}

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        kind: AttentionKind,
    ) -> torch.Tensor:
        """See `KVPass.attend`."""
        keys, values = self._slot.block.layers[layer]
        index, start, end = self._slot.index, self._length, self._length + key.shape[2]
        keys[index, :, start:end] = key[0]
        values[index, :, start:end] = value[0]
        if kind.window is not None and kind.window >= end:
            kind = AttentionKind(kind.scale, None, kind.sinks)
        if start == 0 and kind.window is None:
            return attend(query, key, value, kind, is_causal=end > 1)
        one = slice(index, index + 1)
        mask = None if end - start == 1 and kind.window is None else self._mask(query, end, kind)
        return attend(query, keys[one, :, :end], values[one, :, :end], kind, mask)

    def _mask(self, query: torch.Tensor, end: int, kind: AttentionKind) -> torch.Tensor:
        """True where a new token sees a key: [new tokens, end]."""
        name = query.device, kind.window
        if name not in self._masks:
            columns = torch.arange(end, device=query.device)
            places = columns[self._length :, None]
            mask = columns <= places
            if kind.window is not None:
                mask &= columns > places - kind.window
            self._masks[name] = mask
        return self._masks[name]
