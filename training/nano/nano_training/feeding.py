"""Batches on their way to a GPU, which looks at them faster than they are drawn."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from queue import Empty, Queue
from threading import Thread

import torch

from nano_training.encoding import Batch

_WAITING = 4
"""Steps that wait on the GPU for their turn."""

_KEPT = 200
"""Steps that were shown and are kept to be shown again: some 30 GB."""

Step = Sequence[Batch]


def feed(steps: Iterable[Step], device: torch.device, shows: int, seed: int) -> Iterator[Step]:
    """The batches of steps on a device.

    On a GPU a step that was shown is shown again, by chance and at most `shows` times in all,
    whenever the next one is not drawn yet; so the order depends on how fast things are. On a CPU
    each is shown once, in order.

    Args:
        steps: The batches as they are drawn.
        device: Where they are wanted.
        shows: How often each is shown at most.
        seed: Of what is shown again.
    """
    if device.type == "cpu":
        yield from steps
        return
    arrived: Queue[Step | Exception | None] = Queue(_WAITING)
    Thread(target=_carry, args=(steps, device, arrived), daemon=True).start()
    rng = random.Random(seed)
    kept: deque[tuple[Step, int]] = deque(maxlen=_KEPT)
    while True:
        try:
            step = arrived.get(block=not kept)
        except Empty:
            place = rng.randrange(len(kept))
            again, left = kept[place]
            if left > 1:
                kept[place] = again, left - 1
            else:
                del kept[place]
            yield again
            continue
        if step is None:
            return
        if isinstance(step, Exception):
            raise step
        if shows > 1:
            kept.append((step, shows - 1))
        yield step


def _carry(
    steps: Iterable[Step], device: torch.device, arrived: Queue[Step | Exception | None]
) -> None:
    """Copy steps to a device, beside what it is doing."""
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    try:
        for step in steps:
            with torch.cuda.stream(stream):
                there = [batch.to(device) for batch in step]
            stream.synchronize()
            arrived.put(there)
    except Exception as error:  # noqa: BLE001 - raised where the steps are taken
        arrived.put(error)
    else:
        arrived.put(None)
