"""Batches on their way to training, which may be faster than they are drawn or looked at."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from queue import Empty, Queue
from threading import Thread

import torch
from torch import Tensor
from transformers import InternVLForConditionalGeneration

from nano_training.batches import Batch
from nano_training.model import see

_WAITING = 4
"""Steps that wait for their turn."""

_KEPT = 200
"""Steps that were shown and are kept to be shown again: some 30 GB."""

_FIRST = 20
"""Steps that are shown before one is shown again although the next is there."""

Step = Sequence[Batch]


def feed(
    steps: Iterable[Step],
    send: Callable[[Step], Step],
    shows: int,
    seed: int,
    *,
    saving: bool = False,
) -> Iterator[Step]:
    """The batches of steps where they are looked at, the next ones sent there meanwhile.

    A step that was shown is shown again, by chance and at most `shows` times in all, whenever the
    next one is not there yet; so the order depends on how fast things are.

    Args:
        steps: The batches as they are drawn.
        send: Copies them, in a thread of its own.
        shows: How often each is shown at most.
        seed: Of what is shown again.
        saving: Show steps again although the next is there, so that in the mean each is shown
            `shows` times: where sending costs what training lacks.
    """
    arrived: Queue[Step | Exception | None] = Queue(_WAITING)
    Thread(target=_send_all, args=(steps, send, arrived), daemon=True).start()
    rng = random.Random(seed)
    kept: deque[tuple[Step, int]] = deque(maxlen=_KEPT)
    owed = 0
    while True:
        step: Step | Exception | None = ()
        if not (saving and owed > 0 and len(kept) >= _FIRST):
            with suppress(Empty):
                step = arrived.get(block=not kept)
        if step == ():
            owed -= 1
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
        owed += shows - 1
        if shows > 1:
            kept.append((step, shows - 1))
        yield step


def to_gpu(device: torch.device) -> Callable[[Step], Step]:
    """Copies batches to a GPU beside what it is doing."""
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call,unused-ignore]

    def send(step: Step) -> Step:
        with torch.cuda.stream(stream):
            there = [batch.to(device) for batch in step]
        stream.synchronize()
        return there

    return send


def through(
    model: InternVLForConditionalGeneration, *, windows: bool = True
) -> Callable[[Step], Step]:
    """Adds what a vision tower makes of tiles that it does not learn from, once for all shows.

    Args:
        model: The model.
        windows: Whether it learns from no windows either; else these are left as they are.
    """

    def send(step: Step) -> Step:
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            return [
                replace(batch, features=_each_once(model, batch).bfloat16())
                if windows or batch.is_whole
                else batch
                for batch in step
            ]

    return send


def _each_once(model: InternVLForConditionalGeneration, batch: Batch) -> Tensor:
    """The features of a batch's tiles; equal ones, such as those of bare paper, are seen once."""
    numbers: dict[bytes, int] = {}
    of_tile = [numbers.setdefault(tile.numpy().tobytes(), len(numbers)) for tile in batch.tiles]
    firsts = [of_tile.index(number) for number in range(len(numbers))]
    return see(model, batch.tiles[firsts], batch.origin)[of_tile]


def _send_all(
    steps: Iterable[Step], send: Callable[[Step], Step], arrived: Queue[Step | Exception | None]
) -> None:
    try:
        for step in steps:
            arrived.put(send(step))
    except Exception as error:  # noqa: BLE001 - raised where the steps are taken
        arrived.put(error)
    else:
        arrived.put(None)
