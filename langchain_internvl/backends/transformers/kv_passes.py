"""KV-cache access of forward passes: slots that are written, and tokens that are attended to.

The sequences of a batch may be in several blocks: their projections are computed as one batch, and
attention block by block.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from langchain_internvl.backends.transformers.attention import AttentionKind, attend
from langchain_internvl.backends.transformers.slots import BUCKET

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_internvl.backends.transformers.slots import Block, Slot


@dataclass(frozen=True)
class _Segment:
    """Sequences of one pass in the same block.

    Attributes:
        block: The block.
        first: First row of the sequences in the batch; their rows are contiguous.
        slots: Slot indices, in the order of the rows.
        lengths: Number of tokens in each slot, which is the position of the next token.
    """

    block: Block
    first: int
    slots: list[int]
    lengths: list[int]
    _on_devices: dict[Any, Any] = field(default_factory=dict)

    @property
    def rows(self) -> slice:
        """Rows of the sequences in the batch."""
        return slice(self.first, self.first + len(self.slots))

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        kind: AttentionKind,
    ) -> torch.Tensor:
        """Attend from one new token of each sequence."""
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
        if not is_dense:  # free slots in between are computed too, and ignored
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
        """True where a slot's new token attends to a key: [slots, 1, 1, width]."""
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
    """A decode step: adds one token to each of several sequences.

    Args:
        slots: Slots of the sequences, sorted by block (see `order`).
        lengths: Number of tokens in each slot.
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
        """Sort key of slots for a pass."""
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
    """A prefill chunk: adds several tokens to one sequence.

    Args:
        slot: Slot of the sequence.
        length: Number of tokens in the slot.
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
        """True where a new token attends to a key: [new tokens, end]."""
        name = query.device, kind.window
        if name not in self._masks:
            columns = torch.arange(end, device=query.device)
            places = columns[self._length :, None]
            mask = columns <= places
            if kind.window is not None:
                mask &= columns > places - kind.window
            self._masks[name] = mask
        return self._masks[name]
