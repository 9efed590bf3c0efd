"""A decode step over whole blocks of slots, with tensors of fixed shapes and addresses.

A CUDA graph repeats the kernels of its capture, on the same addresses and with the same shapes. The
rows of `kv_passes.DecodePass` are the sequences of a batch, so its shapes change whenever one
begins or ends. Here every slot of the blocks is a row, and shapes depend on the blocks and on the
width of the views only.

A slot that does not decode (free, of the prefix cache, or of a prompt that is being read) is a
dummy row: token 0 at position 0, which attends to the first column of its slot, and writes zeros
into the last. No sequence uses the last column of its slot, since the last token of a reply is
never in the cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from langchain_internvl.backends.transformers.attention import AttentionKind, attend

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langchain_internvl.backends.transformers.slots import Block, Slot

_LEAST_WIDTH = 256
"""Minimum width of a view, in tokens."""


def widths_of(slots: Sequence[Slot], lengths: Sequence[int]) -> dict[Block, int]:
    """The blocks of a decode step, and the widths of their views, in tokens.

    Widths are powers of two, so that a growing reply changes them rarely, up to the capacity.

    Args:
        slots: Slots of the sequences.
        lengths: Number of tokens in each slot.
    """
    found: dict[Block, int] = {}
    for slot, length in zip(slots, lengths, strict=True):
        width = min(max(_LEAST_WIDTH, 1 << length.bit_length()), slot.capacity)
        found[slot.block] = max(width, found.get(slot.block, 0))
    return dict(sorted(found.items(), key=lambda item: item[0].number))


def computed_tokens(widths: Mapping[Block, int]) -> int:
    """Number of keys that a pass attends to."""
    return sum(block.slots * width for block, width in widths.items())


@dataclass(frozen=True)
class _Part:
    """A block of a pass, whose slots are contiguous rows."""

    block: Block
    width: int
    rows: slice
    slots: torch.Tensor


class BlockPass:
    """A decode step of all slots of several blocks.

    Args:
        widths: The blocks, and the widths of the views of their slots, in tokens.
        device: Device of the model.

    Attributes:
        widths: The same.
        ids: Token of each row, int64 [rows, 1]; as `positions`, filled by `fill`.
        positions: Position of each row's token, int64 [rows, 1].
    """

    def __init__(self, widths: Mapping[Block, int], device: torch.device) -> None:
        self.widths = dict(widths)
        self._parts: list[_Part] = []
        unused: list[int] = []
        for block, width in self.widths.items():
            rows = slice(len(unused), len(unused) + block.slots)
            slots = torch.arange(block.slots, device=device)
            self._parts.append(_Part(block, width, rows, slots))
            unused += [block.capacity - 1] * block.slots
        self._unused = unused
        self._inputs = torch.zeros(5, len(unused), dtype=torch.long, device=device)
        # Fixed views: token, position, column that is written, 1 for rows that decode.
        self.ids, self.positions = self._inputs[:2, :, None]
        self._columns, self._decodes = self._inputs[2:4]
        self._count = 0
        self._masks: dict[Any, torch.Tensor] = {}

    def fill(self, slots: Sequence[Slot], lengths: Sequence[int], ids: Sequence[int]) -> None:
        """Set the inputs of the next run.

        Args:
            slots: Slots of the sequences, in any order; their blocks are blocks of the pass.
            lengths: Number of tokens in each slot, less than the width of its view.
            ids: The last token of each sequence.
        """
        nothing = [0] * len(self._unused)
        inputs = [nothing[:], nothing[:], self._unused[:], nothing[:], nothing[:]]
        first = {part.block: part.rows.start for part in self._parts}
        for number, (slot, length, token) in enumerate(zip(slots, lengths, ids, strict=True)):
            row = first[slot.block] + slot.index
            for values, value in zip(inputs, (token, length, length, 1), strict=False):
                values[row] = value
            inputs[4][number] = row
        self._count = len(slots)
        self._inputs.copy_(torch.tensor(inputs))

    def begin(self) -> None:
        """Begin a run: masks are computed again from the inputs."""
        self._masks.clear()

    def select(self, results: torch.Tensor) -> torch.Tensor:
        """A copy of the rows of the sequences, in the order of `fill`.

        Args:
            results: [rows, ...].
        """
        return results.index_select(0, self._inputs[4, : self._count])

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        kind: AttentionKind,
    ) -> torch.Tensor:
        """See `KVPass.attend`."""
        # A dummy row may overflow, and a mask does not hide NaN from the slot's next sequence.
        is_dummy = self._decodes[:, None, None] == 0
        new = [one[:, :, 0].masked_fill(is_dummy, 0) for one in (key, value)]
        results = []
        for part in self._parts:
            columns = self._columns[part.rows]
            tensors = part.block.layers[layer]
            for tensor, column in zip(tensors, new, strict=True):
                tensor[part.slots, :, columns] = column[part.rows]
            keys, values = (tensor[:, :, : part.width] for tensor in tensors)
            mask = self._mask(part, query.dtype, kind.window)
            results.append(attend(query[part.rows], keys, values, kind, mask))
        return results[0] if len(results) == 1 else torch.cat(results)

    def _mask(self, part: _Part, dtype: torch.dtype, window: int | None) -> torch.Tensor:
        """Numbers that are added to the scores: [slots, 1, 1, width]."""
        name = part.block.number, window
        if name not in self._masks:
            columns = torch.arange(part.width, device=part.slots.device)
            last = self.positions[part.rows]
            is_hidden = columns > last
            if window is not None:
                is_hidden |= columns <= last - window
            mask = torch.zeros(is_hidden.shape, dtype=dtype, device=part.slots.device)
            self._masks[name] = mask.masked_fill_(is_hidden, float("-inf"))[:, None, None]
        return self._masks[name]
