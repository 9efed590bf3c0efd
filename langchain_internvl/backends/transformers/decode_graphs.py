"""CUDA graphs of decode steps: one launch instead of hundreds of kernels.

A graph repeats the same kernels on the same addresses. So a step is captured for a block of the KV
cache and a width: every slot of the block is a row, whether it is used or not, and keys are read up
to the width. Token ids, lengths and the used slots are written to buffers before each replay.

Not run on a GPU so far; the logic is tested with a stand-in for `torch.cuda.CUDAGraph`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Protocol
from weakref import WeakKeyDictionary

import torch

from langchain_internvl.backends.transformers.attention import AttentionKind, attend
from langchain_internvl.backends.transformers.memory import is_out_of_memory
from langchain_internvl.backends.transformers.rope import length_limit
from langchain_internvl.backends.transformers.slots import BUCKET
from langchain_internvl.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_internvl.backends.transformers.slots import Block, Slot

_LOG = logging.getLogger(__name__)


class Graph(Protocol):
    """A captured step."""

    def capture(self, step: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Capture a step; its result is the tensor that each replay fills."""

    def replay(self) -> None:
        """Repeat the step."""


class CUDAGraph:
    """A graph of torch."""

    def __init__(self) -> None:
        self._graph = torch.cuda.CUDAGraph()

    def capture(self, step: Callable[[], torch.Tensor]) -> torch.Tensor:
        """See `Graph.capture`. The step runs once before, so that libraries have workspaces."""
        stream: Any = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            step()
        torch.cuda.current_stream().wait_stream(stream)
        # Other threads, such as the one that encodes images, may use the GPU meanwhile.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            return step()

    def replay(self) -> None:
        """See `Graph.replay`."""
        self._graph.replay()


class GraphPass:
    """A decode step of all slots of a block; implements `attention.KVPass`.

    Args:
        block: The block.
        width: Number of tokens that are read of each slot.

    Attributes:
        ids: Last token of each slot, int64 [slots, 1].
        positions: Number of tokens of each slot, int64 [slots, 1].
    """

    def __init__(self, block: Block, width: int) -> None:
        device = block.layers[0][0].device
        self._block, self._width = block, width
        self._buffer = torch.zeros(3, block.slots, 1, dtype=torch.long, device=device)
        self.ids, self.positions = self._buffer[0], self._buffer[1]
        self._used = self._buffer[2]

    def fill(self, slots: Sequence[Slot], ids: Sequence[int], lengths: Sequence[int]) -> None:
        """Set the rows of a step in one transfer; other slots get token 0 at position 0."""
        values = [[[0] for _ in range(self._block.slots)] for _ in range(3)]
        for slot, *row in zip(slots, ids, lengths, [1] * len(slots), strict=True):
            for column, value in zip(values, row, strict=True):
                column[slot.index][0] = value
        self._buffer.copy_(torch.tensor(values))

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        kind: AttentionKind,
    ) -> torch.Tensor:
        """See `KVPass.attend`. Unused slots, which may hold a kept sequence, are not changed."""
        keys, values = self._block.layers[layer]
        rows = torch.arange(self._block.slots, device=keys.device)
        places = self.positions[:, 0]
        used = self._used.bool()[:, :, None]
        keys[rows, :, places] = torch.where(used, key[:, :, 0], keys[rows, :, places])
        values[rows, :, places] = torch.where(used, value[:, :, 0], values[rows, :, places])
        columns = torch.arange(self._width, device=keys.device)
        mask = columns <= self.positions
        if kind.window is not None:
            mask &= columns > self.positions - kind.window
        seen = slice(self._width)
        return attend(query, keys[:, :, seen], values[:, :, seen], kind, mask[:, None, None])


def can_capture(
    devices: Sequence[torch.device], text_config: Any, *, option: bool | Literal["auto"]
) -> bool:
    """Whether decode steps are captured.

    Args:
        devices: Devices of the layers.
        text_config: Config of the language model.
        option: `Limits.cuda_graphs`.

    Raises:
        RequestError: The option is True, and steps of this model cannot be captured.
    """
    if option is False:
        return False
    reason = None
    if not torch.cuda.is_available() or {one.type for one in devices} != {"cuda"}:
        reason = "the model is not on a GPU"
    elif len(set(devices)) > 1:
        reason = "the model is on several GPUs"
    elif length_limit(text_config) is not None:  # transformers reads the positions on the host
        reason = "its rope depends on the length"
    if reason is not None and option is True:
        raise RequestError(f"cuda_graphs of engine_options cannot be used: {reason}")
    return reason is None


Forward = Callable[[GraphPass], torch.Tensor]
"""The forward pass of a `GraphPass`: its logits [slots, 1, vocabulary]."""


class DecodeGraphs:
    """Captured decode steps of one model.

    Args:
        forward: The forward pass to capture.
        make_graph: Makes an empty graph.
        most: Maximum number of graphs of a block; each takes memory for its buffers.
    """

    def __init__(
        self, forward: Forward, make_graph: Callable[[], Graph] = CUDAGraph, most: int = 8
    ) -> None:
        self._forward, self._make_graph, self._most = forward, make_graph, most
        self._captured: WeakKeyDictionary[Block, dict[int, Any]] = WeakKeyDictionary()
        self.is_on = True

    def decode(
        self, slots: Sequence[Slot], ids: Sequence[int], lengths: Sequence[int]
    ) -> torch.Tensor | None:
        """Logits [sequences, vocabulary] of a step.

        Args:
            slots: Slots of the sequences.
            ids: Their last tokens.
            lengths: Number of tokens in each slot.

        Returns:
            The logits; None: the step must run without a graph (several blocks, or a block of one
            slot), or capture has failed, after which no graph is tried again.

        Raises:
            RuntimeError: Torch is out of memory.
        """
        block = slots[0].block
        if not self.is_on or block.slots == 1 or any(one.block is not block for one in slots):
            return None
        width = _width(max(lengths) + 1, block.capacity)
        graphs = self._captured.setdefault(block, {})
        if width not in graphs and len(graphs) >= self._most:
            return None
        if width not in graphs:
            try:
                graphs[width] = self._capture(block, width)
            except Exception as error:
                if is_out_of_memory(error):
                    raise
                self.is_on = False
                self._captured.clear()
                _LOG.warning("decode steps run without CUDA graphs: %s", error)
                return None
        step, graph, logits = graphs[width]
        step.fill(slots, ids, lengths)
        graph.replay()
        rows = torch.tensor([one.index for one in slots], device=logits.device)
        found: torch.Tensor = logits[rows, -1].float()
        return found

    def _capture(self, block: Block, width: int) -> tuple[GraphPass, Graph, torch.Tensor]:
        step, graph = GraphPass(block, width), self._make_graph()
        return step, graph, graph.capture(lambda: self._forward(step))


def _width(length: int, capacity: int) -> int:
    """Number of tokens that a graph reads: a power of two of buckets, so that there are few."""
    buckets = -(-length // BUCKET)
    return min(BUCKET << (buckets - 1).bit_length(), capacity)
