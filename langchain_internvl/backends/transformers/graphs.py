"""CUDA graphs of decode steps: kernels are captured once, and launched together afterwards.

A step launches hundreds of small kernels, which on a fast GPU takes longer than their work. A graph
is captured for a set of blocks and widths of views (`block_pass.py`) that has stayed the same for a
few steps; a graph of more blocks or wider views also serves while it does not compute much more.
The graph ends before the product with the vocabulary, which is computed for the rows of sequences
only, and whose results would take most of the graphs' memory. Sampling is outside as well.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from weakref import WeakSet

import torch

from langchain_internvl.backends.transformers.block_pass import (
    BlockPass,
    computed_tokens,
    widths_of,
)
from langchain_internvl.backends.transformers.memory import forget_locals, is_out_of_memory
from langchain_internvl.forks import renew_after_fork

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_internvl.backends.transformers.slots import Block, Slot

_LOG = logging.getLogger("langchain_internvl")

_STEADY_STEPS = 3
"""Consecutive steps with the same blocks and widths, of which the last is captured. Capturing takes
as long as a few steps."""

_MOST_GRAPHS = 16
"""Maximum number of graphs. They share one pool of memory, since they never run concurrently; it
has the activations of the largest step (tens of megabytes), and the driver takes about ten
megabytes for each graph. The fifth of a GPU that the KV cache leaves has room for both."""

_TOLERANCE = 0.02
"""Maximum difference of a graph's first replay, relative to the largest value of the step. The same
kernels give the same values; this leaves room for libraries that choose another one in 16 bits."""

_MOST_WASTE = 2
"""Maximum number of keys that a graph of other blocks may attend to, relative to those needed."""

Run = Callable[[], torch.Tensor]
"""Function of tensors at fixed addresses."""


class Recorder(Protocol):
    """Captures functions that launch kernels."""

    def warm_up(self, run: Run) -> torch.Tensor:
        """Call a function as `capture` will, so that libraries allocate their workspaces.

        Returns:
            The result.
        """

    def capture(self, run: Run) -> Run:
        """Capture the kernels of a function.

        Returns:
            Function that runs the kernels again. Its result is valid until any captured function
            is called.
        """


class _CaptureLock:
    """Lets one thread of the process capture at a time.

    `torch.cuda.graph` synchronises the device and may empty its cache before a capture, which would
    break the capture of another engine.
    """

    def __init__(self) -> None:
        self.renew()
        renew_after_fork(self, _CaptureLock.renew)

    def renew(self) -> None:
        """Make a new lock: a forked process has no thread that would release the old one."""
        self.lock = threading.Lock()


_CAPTURE = _CaptureLock()


class CudaRecorder:
    """CUDA graphs of one device, which share a pool of memory.

    Args:
        device: The device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._graphs: WeakSet[Any] = WeakSet()
        self._pool: Any = None

    def warm_up(self, run: Run) -> torch.Tensor:
        """See `Recorder`."""
        with torch.cuda.device(self._device):
            current = torch.cuda.current_stream()
            self._stream.wait_stream(current)
            with torch.cuda.stream(self._stream):
                result = run()
            current.wait_stream(self._stream)
            result.record_stream(current)
        return result

    def capture(self, run: Run) -> Run:
        """See `Recorder`."""
        if not self._graphs:  # torch does not accept the pool of graphs that are all freed
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        self._graphs.add(graph)
        with (
            _CAPTURE.lock,
            torch.cuda.device(self._device),
            # `torch.cuda.graph` leaves its stream as the current one if a capture fails.
            torch.cuda.stream(self._stream),
            # Images may be encoded in another thread meanwhile.
            torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"),
        ):
            result = run()

        def replay() -> torch.Tensor:
            with torch.cuda.device(self._device):
                graph.replay()
            return result

        return replay


class _Graph(NamedTuple):
    step: BlockPass
    replay: Run


class DecodeGraphs:
    """The captured decode steps of an engine: at most 16, least recently used ones are dropped.

    A failure to capture, or a first replay with another result, is logged, and everything runs
    without graphs afterwards.

    Args:
        recorder: Captures steps.
        device: Device of the model.

    Attributes:
        replays: Number of steps so far that were replayed.
    """

    def __init__(self, recorder: Recorder, device: torch.device) -> None:
        self.replays = 0
        self._recorder = recorder
        self._device = device
        self._graphs: OrderedDict[tuple[Any, ...], _Graph] = OrderedDict()  # latest use last
        self._latest: tuple[Any, ...] = ()
        self._steady = 0
        self._has_failed = False

    def run(
        self,
        slots: Sequence[Slot],
        lengths: Sequence[int],
        ids: Sequence[int],
        forward: Callable[[BlockPass], torch.Tensor],
    ) -> torch.Tensor | None:
        """Run a decode step by a graph, if there is one or one can be captured now.

        Args:
            slots: Slots of the sequences.
            lengths: Number of tokens in each slot.
            ids: The last token of each sequence.
            forward: The step: the results [rows, ...] of all rows of a pass.

        Returns:
            The results of the sequences [sequences, ...]; None: the step must run without a graph.
        """
        if self._has_failed:
            return None
        widths = widths_of(slots, lengths)
        graph = self._find(widths)
        if graph is not None:
            self._steady = 0
            graph.step.fill(slots, lengths, ids)
            self.replays += 1
            return graph.step.select(graph.replay())
        key = _key(widths)
        self._steady = self._steady + 1 if key == self._latest else 1
        self._latest = key
        if self._steady < _STEADY_STEPS:
            return None
        step = BlockPass(widths, self._device)
        step.fill(slots, lengths, ids)
        return self._capture(step, partial(forward, step))

    def forget(self, block: Block) -> None:
        """Drop the graphs of a block that is freed; its addresses may be used again."""
        for key, graph in list(self._graphs.items()):
            if block in graph.step.widths:
                del self._graphs[key]

    def clear(self) -> bool:
        """Drop all graphs; returns whether there were any."""
        had_any = bool(self._graphs)
        self._graphs.clear()
        self._steady = 0
        return had_any

    def _find(self, widths: Mapping[Block, int]) -> _Graph | None:
        """The graph that computes least of those that cover a step; None: none."""
        most = computed_tokens(widths) * _MOST_WASTE
        covering = {
            key: tokens
            for key, (step, _) in self._graphs.items()
            if all(step.widths.get(block, 0) >= width for block, width in widths.items())
            and (tokens := computed_tokens(step.widths)) <= most
        }
        if not covering:
            return None
        best = min(covering, key=covering.__getitem__)
        self._graphs.move_to_end(best)
        return self._graphs[best]

    def _capture(self, step: BlockPass, run: Run) -> torch.Tensor | None:
        """Run a step, capture it, and compare its first replay; None if it failed.

        The replay writes the keys and values of this step again, so that a step which must not be
        trusted is run once more without a graph.
        """
        result = None
        try:
            result = step.select(self._recorder.warm_up(run))
            replay = self._recorder.capture(run)
            is_right = _is_close(step.select(replay()), result)
        except Exception as error:
            if result is None and is_out_of_memory(error):
                raise  # the step would not have run without a graph either
            forget_locals(error)
            self._give_up(f"capturing one failed: {error}")
            return result
        if not is_right:
            self._give_up("the first replay of one differs from the step that was captured")
            return None
        self._graphs[_key(step.widths)] = _Graph(step, replay)
        while len(self._graphs) > _MOST_GRAPHS:
            self._graphs.popitem(last=False)
        return result

    def _give_up(self, reason: str) -> None:
        self.clear()
        self._has_failed = True
        _LOG.warning("decode steps run without CUDA graphs: %s", reason)


def _is_close(replayed: torch.Tensor, expected: torch.Tensor) -> bool:
    most = torch.nan_to_num(expected, 0.0, 0.0, 0.0).abs().max().item()
    return torch.allclose(replayed, expected, rtol=0, atol=_TOLERANCE * most, equal_nan=True)


def _key(widths: Mapping[Block, int]) -> tuple[Any, ...]:
    return tuple((block.number, width) for block, width in widths.items())
